//! What cores are told of a reload, and the way back.

use super::plan::places;
use super::*;
use crate::node::build_service;
use cluster::engine::Setting;
use crossbeam_channel::Sender;
use stack::content::Content;
use stack::stack::Filter;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with one proxied service and these servers, which are checked.
fn file(servers: &[(&str, &str)]) -> Config {
    file_with(servers, &[])
}

/// The same, and other services: their names and addresses.
fn file_with(servers: &[(&str, &str)], others: &[(&str, &str)]) -> Config {
    let loaded = loaded(servers, others);
    loaded.config.clone().unwrap_or_else(|| panic!("{}", loaded.render(false)))
}

fn loaded(servers: &[(&str, &str)], others: &[(&str, &str)]) -> Loaded {
    let servers = servers.iter().map(|(name, address)| {
        format!("{{ name = \"{name}\", address = \"{address}\", port = 80 }}")
    });
    let text = format!(
        "[node]\nid = 1\n[cluster]\nname = \"demo\"\naddress = \"10.99.0.1\"\nsecret_file = \"secret.key\"\nseal = \"none\"\n\
         arbiter = \"witness\"\nwitness = \"10.99.0.9:7948\"\n[[cluster.nodes]]\nid = 1\naddress = \"10.99.0.1\"\n\
         [[cluster.nodes]]\nid = 2\naddress = \"10.99.0.2\"\n[interfaces]\nclient = {{ name = \"eth0\" }}\n\
         cluster = {{ name = \"eth1\" }}\n[[services]]\nname = \"web\"\nhome = 1\npeers = [2]\n\
         addresses = [\"10.88.0.100\"]\nports = 80\n[services.application]\ntype = \"proxy\"\nsource = [\"10.88.0.50/32\"]\n\
         check = {{ interval = \"100ms\" }}\nservers = [{}]\n",
        servers.collect::<Vec<_>>().join(", ")
    );
    let other = |(name, address): &(&str, &str)| {
        format!(
            "[[services]]\nname = \"{name}\"\nhome = 1\npeers = [2]\naddresses = [\"{address}\"]\nports = 7\n\
             [services.application]\ntype = \"echo\"\n"
        )
    };
    // In front of it: the order of a file means nothing.
    let at = text.find("[[services]]").expect("there is one");
    let others: String = others.iter().map(other).collect();
    let text = format!("{}{others}{}", &text[..at], &text[at..]);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(format!("understudy-reload-{name}"));
    fs::create_dir(&directory).expect("a directory of its own");
    fs::write(directory.join("secret.key"), "5e".repeat(32)).expect("room");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(directory.join("secret.key"), mode).expect("it is ours");
    let mut loaded = config::parse("node.toml", text, &directory);
    fs::remove_dir_all(&directory).expect("it is ours");
    // Where it was is no difference.
    if let Some(config) = &mut loaded.config {
        config.cluster.secret_file = "secret.key".into();
    }
    loaded
}

/// What shall run, in the first attempt.
fn plan((running, services): (&Config, &[Service]), file: Config) -> Plan {
    let settled = Settled::new(running, 1500);
    Plan::new((running, services), file, &settled, &[], 1).expect("room")
}

fn built(config: &Config) -> Vec<Service> {
    let build = |service| build_service(service, 1500, Content::default());
    config.services.iter().map(build).collect()
}

/// Name, and whether it is retired, by place.
fn servers(config: &Config) -> Vec<(&str, bool)> {
    let Application::Proxy(proxy) = &config.services[0].application else { panic!("it is one") };
    proxy.servers.iter().map(|server| (server.name.as_str(), server.is_retired)).collect()
}

#[test]
fn the_way_back_keeps_every_place() {
    let (old, new) = (file(&[("a", "10.2.0.1")]), file(&[("b", "10.2.0.2"), ("c", "10.2.0.3")]));
    let next = plan((&old, &built(&old)), new);
    assert_eq!(servers(&next.config), [("a", true), ("b", false), ("c", false)]);
    assert_eq!(next.steps.len(), 1);
    let back = plan((&next.config, &next.services), old.clone());
    assert_eq!(servers(&back.config), [("a", false), ("b", true), ("c", true)]);
    assert_eq!(back.file, old);
    let places = |plan: &Plan| match &plan.steps[..] {
        [(0, Step::Renew(service))] => service.upstream.servers.len(),
        _ => panic!("it has other settings"),
    };
    assert_eq!((places(&next), places(&back)), (3, 3), "a core takes no shorter list");
    let same = plan((&back.config, &back.services), old);
    assert!(same.steps.is_empty(), "nobody is told what he knows");
}

/// A core that is stuck: those before it know what to go back from, those after it have heard nothing.
/// Which places a node's servers have is its own affair: another one that begins with the same file is not refused as peer.
#[test]
fn a_node_that_was_reloaded_declares_what_one_declares_that_begins_with_the_file() {
    let (a, b, c) = (("a", "10.88.0.1"), ("b", "10.88.0.2"), ("c", "10.88.0.3"));
    let (before, after) = (file(&[a, b]), file(&[c, b]));
    let reloaded = plan((&before, &built(&before)), after.clone());
    assert_ne!(servers(&reloaded.config), servers(&after), "one has gone, one is new");
    let declared = |config: &Config, services: &[Service]| {
        let groups = group_configs(config, &after, services).into_iter();
        groups.map(|config| config.advertisement.digest).collect::<Vec<_>>()
    };
    let begun = declared(&after, &built(&after));
    assert_eq!(declared(&reloaded.config, &reloaded.services), begun);
}

#[test]
fn nobody_is_told_after_a_core_that_takes_no_order() {
    let old = file(&[("a", "10.2.0.1")]);
    let plan = plan((&old, &built(&old)), file(&[("b", "10.2.0.2")]));
    let (cores, orders): (Vec<_>, Vec<_>) = (0..3).map(|_| bounded(1)).unzip();
    cores[1].try_send(ToCore::List(0, Filter::default(), Vec::new(), bounded(1).0)).expect("room");
    let told = Told::tell(&cores, 3, &plan.steps);
    assert_eq!((told.replaced.len(), told.late), (1, Some(1)));
    assert!(
        matches!(orders[0].try_recv(), Ok(ToCore::Reconfigure(settings, _)) if settings.len() == 1)
    );
    assert!(matches!(orders[1].try_recv(), Ok(ToCore::List(..))));
    assert!(orders[1].is_empty() && orders[2].is_empty());
    let told = Told::tell(&cores, 3, &plan.steps);
    assert_eq!((told.replaced.len(), told.late), (3, None));
}

/// What is not written is within the bounds of what may be.
#[test]
fn a_short_interval_has_no_shorter_fast_one_than_may_be_written() {
    let config = file(&[("a", "10.2.0.1")]);
    let Application::Proxy(proxy) = &config.services[0].application else { panic!("it is one") };
    let check = proxy.check.as_ref().expect("it is written");
    assert_eq!(check.fast_interval, Duration::from_millis(50));
}

#[test]
fn a_time_to_confirm_has_bounds() {
    assert_eq!(span_to_confirm(60_000_000), Ok(Duration::from_secs(60)));
    assert_eq!(span_to_confirm(CONFIRM_MAX.micros()), Ok(CONFIRM_MAX));
    for wrong in [0, CONFIRM_MAX.micros() + 1, u64::MAX] {
        assert!(span_to_confirm(wrong).is_err_and(|why| why.contains("24h")), "{wrong}");
    }
}

fn numbered(n: u8) -> config::Server {
    config::Server {
        name: format!("s{n}"),
        address: [10, 2, 0, n].into(),
        port: 80,
        weight: 1,
        backup: false,
        max_connections: 0,
        is_retired: false,
    }
}

fn shown(servers: &[config::Server]) -> Vec<(&str, bool)> {
    servers.iter().map(|server| (server.name.as_str(), server.is_retired)).collect()
}

#[test]
fn servers_keep_their_places_and_newcomers_take_those_that_are_free() {
    let [one, two, three, four] = [1, 2, 3, 4].map(numbered);
    let running = places(&[one, two.clone(), three.clone()], std::slice::from_ref(&three), &[]);
    assert_eq!(shown(&running), [("s1", true), ("s2", true), ("s3", false)]);
    // One comes back, and has its place again; another one comes while connections to the rest are left.
    let next = [three, two, four];
    let with_rest = places(&running, &next, &[]);
    assert_eq!(shown(&with_rest), [("s1", true), ("s2", false), ("s3", false), ("s4", false)]);
    // None is left any more; a place that is taken back is not free, whatever was known of it.
    let without = places(&running, &next, &[0, 1]);
    assert_eq!(shown(&without), [("s4", false), ("s2", false), ("s3", false)]);
    // However often servers are replaced, places suffice.
    let mut servers = vec![numbered(0)];
    for n in 1..200 {
        let free: Vec<usize> = (0..servers.len()).filter(|&n| servers[n].is_retired).collect();
        servers = places(&servers, &[numbered(n)], &free);
    }
    assert_eq!(servers.len(), 2);
}

/// Name, place and whether it leaves, of each service.
fn services(config: &Config) -> Vec<(&str, u8, bool)> {
    let all = config.services.iter();
    all.map(|service| (service.name.as_str(), service.place, service.leaving.is_some())).collect()
}

/// What cores are told, in a word for each.
fn steps(plan: &Plan) -> Vec<String> {
    let told = plan.steps.iter().map(|(index, step)| match step {
        Step::Renew(_) => format!("{index} renew"),
        Step::Arrive(group, _) => format!("{index} arrive {group}"),
        Step::Leave(attempt) => format!("{index} leave {attempt:?}"),
        Step::Vacate => format!("{index} vacate"),
    });
    told.collect()
}

const SERVER: &[(&str, &str)] = &[("a", "10.2.0.1")];
const MORE: &[(&str, &str)] = &[("more", "10.88.0.101")];

#[test]
fn services_keep_their_places_and_newcomers_take_those_that_are_free() {
    let (web, both) = (file(SERVER), file_with(SERVER, MORE));
    let comes = plan((&web, &built(&web)), both.clone());
    assert_eq!(services(&comes.config), [("more", 1, false), ("web", 0, false)]);
    let group = both.groups_of(&both.services[0]).next().expect("one").1;
    assert_eq!(steps(&comes), [format!("1 arrive {group}")]);
    // It leaves, and keeps its place; it stays after all.
    let leaves = plan((&comes.config, &comes.services), web.clone());
    assert_eq!(services(&leaves.config), [("web", 0, false), ("more", 1, true)]);
    assert_eq!(steps(&leaves), ["1 leave Some(1)"]);
    let stays = plan((&leaves.config, &leaves.services), both.clone());
    assert_eq!(services(&stays.config), services(&comes.config));
    assert_eq!((steps(&stays), stays.is_recall()), (vec!["1 leave None".to_string()], true));
    // What is still about to leave is told nothing new, and takes no place from anybody.
    let third = file_with(SERVER, &[("third", "10.88.0.102")]);
    let third = plan((&leaves.config, &leaves.services), third);
    assert_eq!(
        services(&third.config),
        [("third", 2, false), ("web", 0, false), ("more", 1, true)]
    );
    assert_eq!(steps(&third).len(), 1);
    assert_eq!(third.services.len(), third.config.services.len());
    assert_eq!(third.services[2].addresses, comes.services[0].addresses);
}

/// Changes of services that stay are taken beside it; what belongs to one that leaves is nobody else's.
#[test]
fn what_comes_does_not_take_what_belongs_to_what_leaves() {
    let (web, both) = (file(SERVER), file_with(SERVER, MORE));
    let words = |file: &Loaded| change::changes(&both, &both, file).map(|all| in_words(&all));
    let heavier = loaded(&[("a", "10.2.0.1"), ("b", "10.2.0.2")], &[]);
    let said = words(&heavier).expect("it may");
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], "services: more, web -> web");
    assert!(said[1].starts_with("services[web].application.servers[b]: none -> "), "{said:?}");
    let heir = loaded(SERVER, &[("heir", "10.88.0.101")]);
    let why = words(&heir).expect_err("it is not free");
    assert!(why[0].message.contains("10.88.0.101 belongs to \"more\", which leaves"), "{why:?}");
    // One that comes back while it leaves is what it was, or is refused by what differs.
    let leaves = plan((&both, &built(&both)), web.clone());
    let other = loaded(SERVER, &[("more", "10.88.0.103")]);
    let why = change::changes(&web, &leaves.config, &other).expect_err("it has connections");
    assert!(why[0].message.contains("`services[more].addresses` cannot be changed"), "{why:?}");
    let same = change::changes(&web, &leaves.config, &loaded(SERVER, MORE));
    assert_eq!(same.map(|all| in_words(&all)), Ok(vec!["services: web -> more, web".into()]));
}

/// Cores that have taken a step are told the way back; a place is free when every core says so.
#[test]
fn every_core_says_whether_all_was_done() {
    let (cores, orders): (Vec<Sender<ToCore>>, Vec<_>) = (0..2).map(|_| bounded(1)).unzip();
    for answers in [[true, true], [true, false], [false, true]] {
        let told = Told::tell(&cores, 2, &[(3, Step::Vacate)]);
        for (orders, is_done) in orders.iter().zip(answers) {
            let Ok(ToCore::Reconfigure(settings, answer)) = orders.try_recv() else {
                panic!("it was told");
            };
            assert!(matches!(settings[..], [(3, Setting::Occupy(GroupId::NONE, _))]));
            answer.send((settings, is_done)).expect("somebody waits");
        }
        assert_eq!(told.finish(), answers == [true, true]);
    }
}

#[test]
fn what_was_sized_at_start_is_refused_by_name() {
    let (web, both) = (file(SERVER), file_with(SERVER, MORE));
    let refuse = |settled: &Settled, file: &Config| settled.refuse(&both, file).err();
    let mut heard = both.clone();
    heard.services[0].snoop = config::Snoop::Wire;
    let settled = Settled::new(&both, 1500);
    assert!(refuse(&settled, &heard).is_some_and(|why| why.contains("`snoop`")));
    assert!(refuse(&settled, &web).is_none());
    let empty = Settled { has_services: false, ..settled };
    assert!(refuse(&empty, &web).is_some_and(|why| why.contains("without any service")));
}
