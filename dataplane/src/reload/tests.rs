//! What cores are told of a reload, and the way back.

use super::*;
use stack::content::Content;
use stack::stack::Filter;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with one proxied service and these servers, which are checked.
fn file(servers: &[(&str, &str)]) -> Config {
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
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(format!("understudy-reload-{name}"));
    fs::create_dir(&directory).expect("a directory of its own");
    fs::write(directory.join("secret.key"), "5e".repeat(32)).expect("room");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(directory.join("secret.key"), mode).expect("it is ours");
    let loaded = config::parse("node.toml", text, &directory);
    fs::remove_dir_all(&directory).expect("it is ours");
    loaded.config.clone().unwrap_or_else(|| panic!("{}", loaded.render(false)))
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
    let next = Plan::new(&old, new, &built(&old), 1500, &[]).expect("room");
    assert_eq!(servers(&next.config), [("a", true), ("b", false), ("c", false)]);
    assert_eq!(next.settings.len(), 1);
    let back = Plan::new(&next.config, old.clone(), &next.services, 1500, &[]).expect("room");
    assert_eq!(servers(&back.config), [("a", false), ("b", true), ("c", true)]);
    assert_eq!(back.file, old);
    let places = |plan: &Plan| plan.settings[0].1.upstream.servers.len();
    assert_eq!((places(&next), places(&back)), (3, 3), "a core takes no shorter list");
    let same = Plan::new(&back.config, old, &back.services, 1500, &[]).expect("room");
    assert!(same.settings.is_empty(), "nobody is told what he knows");
}

/// A core that is stuck: those before it know what to go back from, those after it have heard nothing.
#[test]
fn nobody_is_told_after_a_core_that_takes_no_order() {
    let old = file(&[("a", "10.2.0.1")]);
    let plan = Plan::new(&old, file(&[("b", "10.2.0.2")]), &built(&old), 1500, &[]).expect("room");
    let (cores, orders): (Vec<_>, Vec<_>) = (0..3).map(|_| bounded(1)).unzip();
    cores[1].try_send(ToCore::List(0, Filter::default(), Vec::new(), bounded(1).0)).expect("room");
    let told = Told::tell(&cores, 3, &plan.settings);
    assert_eq!((told.replaced.len(), told.late), (1, Some(1)));
    assert!(
        matches!(orders[0].try_recv(), Ok(ToCore::Reconfigure(settings, _)) if settings.len() == 1)
    );
    assert!(matches!(orders[1].try_recv(), Ok(ToCore::List(..))));
    assert!(orders[1].is_empty() && orders[2].is_empty());
    let told = Told::tell(&cores, 3, &plan.settings);
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
