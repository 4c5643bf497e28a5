//! Configurations that change while the node runs.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::traffic::Traffic;
use super::{MIDDLE, SECONDS};
use crate::dialogue::{Chat, connect_echo, echo};
use crate::scene::{Scene, UNDERSTUDY, play_with};
use dataplane::control::status::{GroupStatus, Protection, Role, Status};
use dataplane::control::{self, Reply, Request};
use nix::sys::signal::Signal;
use tools::demo::bed::{Layout, Place, SERVERS_ADDRESS};
use tools::demo::client::Load;
use tools::demo::process::Process;
use tools::demo::servers::{NGINX, WWW};
use tools::demo::{Appliance, KillMode};
use tools::load::report::Outcome;
use tools::load::wire::monotonic_ns;

/// Reloads while transfers run, each of both nodes.
const RELOADS: u64 = 12;

/// How long a reload is made every second.
const RELOADING_SECONDS: u64 = 6;

/// Where the second server is, beside the first on the servers' host.
const SECOND: &str = "10.88.0.3";

/// A server as the configuration of the bed writes it.
fn server(name: &str, address: &str, more: &str) -> String {
    format!("{{ name = \"{name}\", address = \"{address}\", port = 80{more} }}")
}

/// Replaces what the file of a node says.
fn edit(scene: &Scene<'_>, node: u8, from: &str, to: &str) {
    let path = scene.cluster.config(node);
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Reloads a node; what it said.
fn reload(scene: &Scene<'_>, node: u8, more: &[&str]) -> String {
    scene.done(node, &[&["reload"], more].concat())
}

/// What a node says against a reload.
fn refusal(scene: &Scene<'_>, node: u8) -> String {
    scene.understudy(node, &["reload"]).unwrap_err()
}

/// Whether this node shows that another is no fit peer for the service.
fn shows_difference(status: &Status, service: &str) -> bool {
    let standings = &status.cluster.standings;
    standings.iter().any(|standing| standing.service == service && standing.unfit.is_some())
}

/// Servers come, go and change weight, again and again; whoever is connected does not notice.
#[test]
fn reloads_under_load_disturb_nobody() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        scene.ip(Place::Servers, &format!("addr add {SECOND}/24 dev eth0"));
        let args = ["load", "serve", "--listen", SECOND];
        let _second =
            scene.bed.spawn(Place::Servers, "second", UNDERSTUDY.as_ref(), &args).unwrap();
        let first = server("only", SERVERS_ADDRESS, "");
        let variants = [
            format!("{first}, {}", server("second", SECOND, "")),
            server("second", SECOND, ""),
            format!("{}, {}", server("second", SECOND, ", weight = 3"), first),
            first.clone(),
        ];
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        let started_ns = monotonic_ns();
        let mut before = first;
        for n in 0..RELOADS {
            traffic.until(n * 90 / RELOADS);
            let after = &variants[n as usize % variants.len()];
            for node in [scene.survivor(), scene.owner] {
                edit(scene, node, &before, after);
                edit(scene, node, "[[services]]", &format!("#{n}\n[[services]]"));
                let said = reload(scene, node, &[]);
                assert!(said.contains("services[web].application.servers"), "{said}");
            }
            before = after.clone();
            let status = scene.cluster.status(scene.owner).unwrap();
            assert_eq!(status.configuration.reloads, n + 1);
        }
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::None, started_ns);
        scene.wait_protected();
        scene.wait_for("both to agree again", || {
            let status = scene.cluster.status(scene.owner);
            status.is_ok_and(|status| !shows_difference(&status, "web"))
        });
    });
}

/// What the file of a node says before the n-th reload of many: servers come, go and change weight, and a time-out changes.
fn variant(good: &str, n: u64) -> String {
    let (first, second) = (server("only", SERVERS_ADDRESS, ""), server("second", SECOND, ""));
    let heavy = server("second", SECOND, ", weight = 3");
    let variants =
        [format!("{first}, {second}"), second, format!("{heavy}, {first}"), first.clone()];
    let minutes = format!("idle_timeout = \"{}m\"\n[services.application]", 50 + n % 2);
    let nginx = format!("port = {}", NGINX.server_port);
    [
        (first, variants[n as usize % variants.len()].clone()),
        ("[services.application]".into(), minutes),
        (nginx.clone(), format!("{nginx}, weight = {}", 2 + n % 3)),
    ]
    .iter()
    .fold(good.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, to, 1)
    })
}

/// Both nodes take another configuration every second, under `wrk`, ten long transfers and newcomers: no error, no reset, every
/// byte right, and no counter begins anew. `UNDERSTUDY_RELOAD_SECONDS` says how long; the usual is [`RELOADING_SECONDS`].
#[test]
fn a_reload_every_second_is_not_noticed() {
    let seconds = std::env::var("UNDERSTUDY_RELOAD_SECONDS");
    let seconds: u64 = seconds.map_or(RELOADING_SECONDS, |seconds| seconds.parse().unwrap());
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        scene.ip(Place::Servers, &format!("addr add {SECOND}/24 dev eth0"));
        let args = ["load", "serve", "--listen", SECOND];
        let _second =
            scene.bed.spawn(Place::Servers, "second", UNDERSTUDY.as_ref(), &args).unwrap();
        fs::write(scene.dir.join(WWW).join("small.bin"), [0x75; 1024]).unwrap();
        let nodes = [scene.survivor(), scene.owner];
        let good = nodes.map(|node| fs::read_to_string(scene.cluster.config(node)).unwrap());
        let options = [
            ("--downloads", 5),
            ("--uploads", 5),
            ("--rate", 50_000),
            ("--bulk-rate", 500_000),
            ("--fresh-every-ms", 20),
            ("--seconds", seconds + 2),
        ];
        let load = Load::start_with(scene.bed, UNDERSTUDY.as_ref(), &scene.dir, &options).unwrap();
        scene.wait_for("every transfer to move", || load.progress().all_move());
        let (url, lasts) =
            (format!("http://{}/small.bin", NGINX.address), format!("{}s", seconds + 1));
        let wrk = ["-t", "1", "-c", "4", "-d", &lasts, "--timeout", "60s", &url];
        let mut wrk = scene.bed.spawn(Place::Client, "wrk", "wrk".as_ref(), &wrk).unwrap();
        let served = |scene: &Scene<'_>| {
            let request = Request::Servers { service: Some(NGINX.name.into()) };
            match control::ask(scene.cluster.socket(scene.owner), &request) {
                Ok(Reply::Servers { servers }) => servers.services[0].servers[0].opened,
                other => panic!("the owner answers {other:?}"),
            }
        };
        let (began, mut reloads, mut opened) = (Instant::now(), 0, 0);
        while began.elapsed().as_secs() < seconds {
            for (node, good) in nodes.into_iter().zip(&good) {
                fs::write(scene.cluster.config(node), variant(good, reloads)).unwrap();
                let said = reload(scene, node, &[]);
                assert!(said.contains("services[nginx].application.servers"), "{said}");
            }
            reloads += 1;
            let before = std::mem::replace(&mut opened, served(scene));
            assert!(opened >= before, "a counter has begun anew");
            let due = Duration::from_secs(began.elapsed().as_secs() + 1);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let status = scene.cluster.status(scene.owner).unwrap();
        assert_eq!(status.configuration.reloads, reloads);
        assert!(wrk.wait().unwrap().success());
        let said = fs::read_to_string(scene.dir.join("wrk.log")).unwrap();
        let result = load.finish().unwrap_or_else(|error| panic!("{error:#}"));
        println!("{reloads} reloads of both nodes in {seconds} s\n{said}");
        println!("{} transfers and newcomers, {opened} of wrk", result.connections.len());
        let is_clean = !said.contains("Socket errors") && !said.contains("Non-2xx");
        assert!(is_clean && opened > 0 && said.contains(" requests in "), "{said}");
        for report in &result.connections {
            assert_eq!(report.outcome, Outcome::Survived, "{report:?}");
        }
        assert_eq!(scene.wait_protected(), scene.owner);
    });
}

/// Nodes are reloaded one after the other. Until the second is, both show that they differ, and the peer is the peer still: it
/// takes over.
#[test]
fn a_takeover_between_two_reloads_loses_nobody() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        let mut echoes: Vec<_> = (0..4).map(|_| connect_echo(scene)).collect();
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        let only = server("only", SERVERS_ADDRESS, "");
        edit(scene, owner, &only, &format!("{}, {only}", server("new", SECOND, ", weight = 0")));
        edit(
            scene,
            owner,
            "[services.application]",
            "idle_timeout = \"50s\"\n[services.application]",
        );
        let said = reload(scene, owner, &[]);
        assert!(said.contains("services[web].idle_timeout: \"1h\" -> \"50s\""), "{said}");
        scene.wait_for("both to show that they differ", || {
            [owner, survivor].iter().all(|node| {
                let status = scene.cluster.status(*node);
                status.is_ok_and(|status| shows_difference(&status, "web"))
            })
        });
        assert_eq!(scene.wait_protected(), owner, "the peer stays what it is");
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, 100 + n).unwrap();
        }
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        // The returning node is refused until the files agree.
        scene.cluster.revive(owner, KillMode::Sigkill).unwrap();
        scene.wait_for("the returned node to be refused", || {
            let status = scene.cluster.status(survivor);
            status.is_ok_and(|status| shows_difference(&status, "web"))
        });
        fs::copy(scene.cluster.config(owner), scene.dir.join("owner.toml")).unwrap();
        edit(scene, survivor, &only, &format!("{}, {only}", server("new", SECOND, ", weight = 0")));
        edit(
            scene,
            survivor,
            "[services.application]",
            "idle_timeout = \"50s\"\n[services.application]",
        );
        reload(scene, survivor, &[]);
        assert_eq!(scene.wait_protected(), survivor);
    });
}

/// What a file says of one more service, behind the others.
const ONE_MORE: &str = r#"
[[services]]
name = "late"
home = 1
peers = [2]
addresses = ["10.88.0.110"]
ports = 7000
[services.application]
type = "proxy"
servers = [{ name = "only", address = "10.88.0.20", port = 7 }]
"#;

/// Ends a node that owns nothing, and begins its next life with what its file says by now.
fn restart(scene: &mut Scene<'_>, node: u8) {
    scene.cluster.signal(node, Signal::SIGTERM).unwrap();
    scene.cluster.revive(node, KillMode::Sigkill).unwrap();
}

/// A service comes, and goes again, while one node after the other begins anew. Whoever is connected to the others does not
/// notice: what a node owns it hands over before, or its peer takes it when it ends.
#[test]
fn a_service_comes_and_goes_by_restarts_one_after_the_other() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let chats: Vec<_> = (0..4).map(|_| Chat::start(connect_echo(scene))).collect();
        let has_late = |scene: &Scene<'_>, node: u8, protection: Protection| {
            let status = scene.cluster.status(node);
            let is_it =
                |group: &GroupStatus| group.service == "late" && group.protection == protection;
            status.is_ok_and(|status| status.groups.iter().any(is_it))
        };
        for comes in [true, false] {
            let (owner, other) = (scene.owner, scene.survivor());
            for node in [owner, other] {
                let path = scene.cluster.config(node);
                let text = fs::read_to_string(path).unwrap();
                let less = text.strip_suffix(ONE_MORE).map(String::from);
                fs::write(path, less.unwrap_or(text + ONE_MORE)).unwrap();
            }
            restart(scene, other);
            assert_eq!(scene.wait_protected(), owner);
            if comes {
                scene.done(owner, &["drain", &owner.to_string()]);
            }
            restart(scene, owner);
            assert_eq!(scene.wait_protected(), other);
            scene.owner = other;
            if comes {
                scene.wait_for("the newcomer to be protected", || {
                    [owner, other].iter().any(|node| has_late(scene, *node, Protection::Protected))
                });
                echo(&mut scene.connect("10.88.0.110", 7000).unwrap(), 7).unwrap();
            } else {
                let status = scene.cluster.status(other).unwrap();
                assert!(!status.groups.iter().any(|group| group.service == "late"));
            }
        }
        for chat in chats {
            assert!(chat.finish() > 0);
        }
    });
}

/// Where the service that comes while the nodes run is found.
const COMER: (&str, u16) = ("10.88.0.111", 8080);

/// Bytes of what it serves: more than all buffers between it and a client that reads them when it is told to.
const LONG_BYTES: usize = 24 << 20;

/// What a file says of a service that comes, before nginx; home is the node that owns the others.
fn comer(home: u8, peer: u8, port: u16) -> String {
    let (address, server) = (COMER.0, server("only", SERVERS_ADDRESS, ""));
    let server = server.replace("port = 80", &format!("port = {}", NGINX.server_port));
    format!(
        "\n[[services]]\nname = \"comer\"\nhome = {home}\npeers = [{peer}]\naddresses = [\"{address}\"]\nports = {port}\n\
         [services.application]\ntype = \"proxy\"\nservers = [{server}]\n"
    )
}

/// A client that takes the file from this address.
fn curl(scene: &Scene<'_>, name: &str, (address, port): (&str, u16)) -> Process {
    let out = scene.dir.join(format!("{name}.bin")).display().to_string();
    let url = format!("http://{address}:{port}/long.bin");
    let args = ["-sS", "-f", "--limit-rate", "4M", "-o", &out, &url];
    scene.bed.spawn(Place::Client, name, "curl".as_ref(), &args).unwrap()
}

/// A transfer that goes on when it is told to.
struct Transfer {
    stream: TcpStream,
    taken: Vec<u8>,
}

impl Transfer {
    fn begin(scene: &Scene<'_>) -> Transfer {
        let mut stream = scene.connect(COMER.0, COMER.1).unwrap();
        stream.write_all(b"GET /long.bin HTTP/1.0\r\n\r\n").unwrap();
        Transfer { stream, taken: Vec::new() }
    }

    /// Takes four more mebibytes.
    fn go_on(&mut self) {
        let start = self.taken.len();
        self.taken.resize(start + (4 << 20), 0);
        self.stream.read_exact(&mut self.taken[start..]).unwrap();
    }

    /// The file, when its sender has closed.
    fn finish(mut self) -> Vec<u8> {
        self.stream.read_to_end(&mut self.taken).unwrap();
        let head = self.taken.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        self.taken.split_off(head + 4)
    }
}

/// How a node shows the service that comes and goes.
fn comer_at(scene: &Scene<'_>, node: u8) -> Option<GroupStatus> {
    let status = scene.cluster.status(node).unwrap();
    status.groups.into_iter().find(|group| group.service == "comer")
}

/// A service comes while transfers of the others run, first on one node, then on the other; its transfers outlive its owner's
/// death. Then it leaves both files: its transfer goes on to the end, nobody is let in any more, and nothing of it is left.
#[test]
fn a_service_comes_by_reload_outlives_its_owner_and_goes() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let (home, other) = (scene.owner, scene.survivor());
        let long: Vec<u8> = (0..LONG_BYTES).map(|n| ((n * 31) >> 7) as u8).collect();
        fs::write(scene.dir.join(WWW).join("long.bin"), &long).unwrap();
        let chats: Vec<_> = (0..4).map(|_| Chat::start(connect_echo(scene))).collect();
        let mut bystander = curl(scene, "bystander", (NGINX.address, NGINX.port));
        let good = [home, other].map(|node| {
            let path = scene.cluster.config(node);
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.clone() + &comer(home, other, COMER.1)).unwrap();
            text
        });
        // The other one first: what home does not know is not served.
        let said = reload(scene, other, &[]);
        assert!(said.contains("services: ") && said.contains("comer"), "{said}");
        scene.wait_for("the first to wait for home", || {
            scene.done(other, &["why", "comer"]).contains(&format!("waits: node {home}, its home"))
        });
        reload(scene, home, &[]);
        let is_protected = |scene: &Scene<'_>, owner: u8| {
            let group = comer_at(scene, owner);
            group.is_some_and(|g| g.role == Role::Owner && g.protection == Protection::Protected)
        };
        scene.wait_for("it to be protected", || is_protected(scene, home));
        let mut first = curl(scene, "first", COMER);
        assert!(first.wait().unwrap().success(), "{}", first.log_tail());
        assert!(fs::read(scene.dir.join("first.bin")).unwrap() == long, "every byte");
        let mut transfer = Transfer::begin(scene);
        transfer.go_on();
        scene.take_over(KillMode::Sigkill);
        scene.wait_for("it to be taken over", || {
            comer_at(scene, other).is_some_and(|group| group.role == Role::Owner)
        });
        transfer.go_on();
        scene.cluster.revive(home, KillMode::Sigkill).unwrap();
        scene.wait_for("it to be protected again", || is_protected(scene, other));
        // It leaves: the owner's file first, then the other one's.
        for (node, text) in [(other, &good[1]), (home, &good[0])] {
            fs::write(scene.cluster.config(node), text).unwrap();
            reload(scene, node, &[]);
            assert!(comer_at(scene, node).is_some_and(|group| group.is_leaving));
            assert!(scene.done(node, &["status"]).contains("comer, leaving"));
        }
        let refused = scene.connect(COMER.0, COMER.1).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(is_protected(scene, other), "what is left of it is protected");
        let clash = comer(home, other, 80).replace("name = \"comer\"", "name = \"heir\"");
        fs::write(scene.cluster.config(other), good[1].clone() + &clash).unwrap();
        let why = refusal(scene, other);
        assert!(why.contains("belongs to \"comer\", which leaves"), "{why}");
        fs::write(scene.cluster.config(other), &good[1]).unwrap();
        transfer.go_on();
        assert!(transfer.finish() == long, "every byte");
        // Its last connection waits in TIME-WAIT for a minute.
        scene.wait_within(Duration::from_secs(120), "nothing of it to be left", || {
            [home, other].iter().all(|node| {
                let flows = scene.understudy(*node, &["flows", "service=comer"]);
                let is_unknown = |why: String| why.contains("there is no service \"comer\"");
                comer_at(scene, *node).is_none() && flows.is_err_and(is_unknown)
            })
        });
        scene.ip(Place::Client, "neigh flush dev eth0");
        let silent = scene.connect(COMER.0, COMER.1).map(drop).unwrap_err();
        assert_ne!(silent.kind(), ErrorKind::ConnectionRefused, "nobody has the address");
        // The name comes again, as something else.
        for (node, text) in [(other, &good[1]), (home, &good[0])] {
            let again = comer(home, other, COMER.1 + 1);
            fs::write(scene.cluster.config(node), text.clone() + &again).unwrap();
            reload(scene, node, &[]);
        }
        scene.wait_for("it to be served anew by its home", || is_protected(scene, home));
        drop(scene.connect(COMER.0, COMER.1 + 1).unwrap());
        assert!(bystander.wait().unwrap().success(), "{}", bystander.log_tail());
        assert!(fs::read(scene.dir.join("bystander.bin")).unwrap() == long, "every byte");
        for chat in chats {
            assert!(chat.finish() > 0);
        }
    });
}

/// What nobody confirms is undone, of services, too: one that has come goes, and one that was to go stays.
#[test]
fn services_whose_coming_or_going_nobody_confirms_go_and_stay() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let (home, other) = (scene.owner, scene.survivor());
        fs::write(scene.dir.join(WWW).join("long.bin"), b"short").unwrap();
        let path = scene.cluster.config(home);
        let without = fs::read_to_string(path).unwrap();
        for node in [other, home] {
            let path = scene.cluster.config(node);
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text + &comer(home, other, COMER.1)).unwrap();
        }
        let with = fs::read_to_string(path).unwrap();
        let undone = |scene: &Scene<'_>| scene.cluster.status(home).unwrap().configuration.undone;
        let is_served = |scene: &Scene<'_>| {
            comer_at(scene, home)
                .is_some_and(|group| group.protection == Protection::Protected && !group.is_leaving)
        };
        reload(scene, other, &[]);
        reload(scene, home, &["--confirm-within", "1s"]);
        scene.wait_for("its coming to be undone", || undone(scene) == 1);
        assert!(comer_at(scene, home).is_none_or(|group| group.is_leaving));
        drop(scene.connect(COMER.0, COMER.1).unwrap_err());
        reload(scene, home, &[]);
        scene.wait_for("it to come back", || is_served(scene));
        let mut client = curl(scene, "before", COMER);
        assert!(client.wait().unwrap().success(), "{}", client.log_tail());
        fs::write(path, without).unwrap();
        reload(scene, home, &["--confirm-within", "1s"]);
        assert!(comer_at(scene, home).is_some_and(|group| group.is_leaving));
        scene.wait_for("its going to be undone", || undone(scene) == 2);
        scene.wait_for("it to be served again", || is_served(scene));
        let mut client = curl(scene, "behind", COMER);
        assert!(client.wait().unwrap().success(), "{}", client.log_tail());
        fs::write(path, with).unwrap();
        assert!(
            reload(scene, home, &[]).contains("says what runs already"),
            "it runs with what it was given"
        );
    });
}

/// What a running node cannot take changes nothing and is named, each with its place; so is a file that is none.
#[test]
fn what_cannot_change_is_refused_by_name_and_nothing_changes() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let node = scene.owner;
        let good = fs::read_to_string(scene.cluster.config(node)).unwrap();
        let refused = |from: &str, to: &str, names: &[&str]| {
            edit(scene, node, from, to);
            edit(scene, node, "port = 80", "port = 81");
            let said = refusal(scene, node);
            for name in names {
                assert!(said.contains(name), "{name} in: {said}");
            }
            assert!(said.contains("nothing was changed"), "{said}");
            let path = scene.cluster.config(node);
            assert!(said.contains(&format!("{}:", path.display())), "{said}");
            fs::write(path, &good).unwrap();
        };
        refused("name = \"eth0\"", "name = \"eth7\"", &["interfaces.client.name", "\"eth0\""]);
        refused("\"adaptive\"", "\"busy\"", &["`cores.idle`", "\"adaptive\""]);
        refused("name = \"demo\"", "name = \"other\"", &["`cluster.name`", "\"demo\""]);
        refused("ports = 80\n", "ports = 8080\n", &["`services[web].ports"]);
        refused(
            "name = \"echo\"",
            "name = \"ping\"",
            &["`services[ping]`", "\"echo\", which leaves"],
        );
        refused("[[services]]", "[[services", &["this is not TOML"]);
        refused("type = \"proxy\"", "type = \"proxi\"", &["did you mean \"proxy\"?"]);
        let status = scene.cluster.status(node).unwrap();
        assert_eq!(status.configuration.reloads, 0);
        let said = reload(scene, node, &["--confirm-within", "60s"]);
        assert!(said.contains("the file says what runs already"), "{said}");
        assert_eq!(scene.wait_protected(), node);
    });
}

/// SIGHUP reloads as well; what nobody confirms in time is undone, what is confirmed stays.
#[test]
fn a_reload_that_nobody_confirms_is_undone() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let node = scene.owner;
        let configuration = |scene: &Scene<'_>| scene.cluster.status(node).unwrap().configuration;
        edit(
            scene,
            node,
            "[services.application]",
            "idle_timeout = \"50s\"\n[services.application]",
        );
        let said = reload(scene, node, &["--confirm-within", "1s"]);
        assert!(said.contains("undone in 1.0 s unless"), "{said}");
        assert!(refusal(scene, node).contains("waits to be confirmed"));
        scene.wait_for("it to be undone", || configuration(scene).undone == 1);
        assert_eq!(configuration(scene).confirm_left_us, None);
        let refused = scene.understudy(node, &["confirm"]).unwrap_err();
        assert!(refused.contains("no reload waits"), "{refused}");
        scene.cluster.signal(node, Signal::SIGHUP).unwrap();
        scene.wait_for("SIGHUP to reload", || configuration(scene).reloads == 2);
        edit(scene, node, "idle_timeout = \"50s\"", "idle_timeout = \"40s\"");
        let said = reload(scene, node, &["--confirm-within", "1h"]);
        assert!(said.contains("\"50s\" -> \"40s\""), "{said}");
        assert!(configuration(scene).confirm_left_us.is_some_and(|left| left > 3_000_000_000));
        scene.done(node, &["confirm"]);
        let Status { configuration, .. } = scene.cluster.status(node).unwrap();
        assert_eq!((configuration.reloads, configuration.undone), (3, 1));
        assert_eq!(configuration.confirm_left_us, None);
    });
}
