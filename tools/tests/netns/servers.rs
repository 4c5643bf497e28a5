//! Servers that come and go behind a service, over the kernel's TCP.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use dataplane::control::servers::{CheckOutcome, ServerState, ServerStatus};
use dataplane::control::{self, Reply, Request};
use nix::sys::signal::Signal;
use tools::demo::bed::{Layout, Place, SERVICE_ADDRESS};
use tools::demo::process::Process;
use tools::demo::{Appliance, KillMode};
use tools::load::http::get_generated;
use tools::load::pattern;

use crate::dialogue::Browser;
use crate::scene::{PATIENCE, Scene, UNDERSTUDY, play_edited};

/// Names and addresses of the servers behind `web`.
const SERVERS: [(&str, &str); 3] = [("a", "10.88.0.21"), ("b", "10.88.0.22"), ("c", "10.88.0.23")];

/// A scene in which `web` passes its connections on to three servers; `settings` are lines of its application.
fn play_behind(settings: &str, story: impl FnOnce(&mut Scene<'_>, &mut Servers)) {
    play_unreached(settings, |scene, servers| {
        // Until a server listens it refuses, and while all of them do, so does the service.
        scene.wait_for("every server to be reached", || {
            let _ = fetch_in(scene);
            (0..SERVERS.len()).all(|n| opened(scene, n) > 0)
        });
        story(scene, servers);
    });
}

/// The same before any of them has got a connection.
fn play_unreached(settings: &str, story: impl FnOnce(&mut Scene<'_>, &mut Servers)) {
    play_on(settings, Layout::default(), story);
}

/// The same on a bed that differs from the usual one.
fn play_on(settings: &str, layout: Layout, story: impl FnOnce(&mut Scene<'_>, &mut Servers)) {
    let server = |(name, at)| format!("{{ name = \"{name}\", address = \"{at}\", port = 80 }}");
    let servers = SERVERS.map(server).join(", ");
    let proxy = format!("type = \"proxy\"\nservers = [{servers}]\n{settings}\n");
    let edits = vec![("type = \"http\"\ngenerate = true\n".into(), proxy)];
    play_edited((Appliance::Understudy, false), layout, edits, |scene| {
        let mut servers = Servers([const { None }; 3]);
        for (n, (_, address)) in SERVERS.iter().enumerate() {
            scene.ip(Place::Client, &format!("addr add {address}/24 dev eth0"));
            servers.start(scene, n);
        }
        story(scene, &mut servers);
    });
}

/// The servers' processes.
struct Servers([Option<Process>; 3]);

impl Servers {
    fn start(&mut self, scene: &Scene<'_>, n: usize) {
        let (name, address) = SERVERS[n];
        let args = ["load", "serve", "--listen", address];
        let name = format!("server-{name}");
        let server = scene.bed.spawn(Place::Client, &name, UNDERSTUDY.as_ref(), &args);
        self.0[n] = Some(server.unwrap());
        scene.wait_for("a server to listen", || scene.connect(address, 80).is_ok());
    }
}

impl Servers {
    fn kill(&mut self, n: usize) {
        let mut server = self.0[n].take().unwrap();
        server.signal(Signal::SIGKILL).unwrap();
        server.wait().unwrap();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in self.0.iter_mut().flatten() {
            let _ = server.signal(Signal::SIGKILL);
        }
    }
}

/// How the servers of `web` are, as a node says.
fn servers(scene: &Scene<'_>, node: u8) -> Vec<ServerStatus> {
    let request = Request::Servers { service: Some("web".into()) };
    match control::ask(scene.cluster.socket(node), &request) {
        Ok(Reply::Servers { servers }) => servers.services[0].servers.clone(),
        other => panic!("node {node} answers {other:?}"),
    }
}

fn opened(scene: &Scene<'_>, n: usize) -> u64 {
    servers(scene, scene.owner)[n].opened
}

/// `understudy server web/NAME WORDS` at a node; what it says on standard error if it fails.
fn order(scene: &Scene<'_>, node: u8, name: &str, words: &[&str]) -> Result<(), String> {
    let server = format!("web/{name}");
    scene.understudy(node, &[&["server", server.as_str()], words].concat()).map(drop)
}

/// So many connections, each with an answer, and how many of them each server got.
fn spread(scene: &Scene<'_>, connections: u64) -> [u64; 3] {
    let before = [0, 1, 2].map(|n| opened(scene, n));
    for n in 0..connections {
        Browser::connect(scene).get(n);
    }
    [0, 1, 2].map(|n| opened(scene, n) - before[n])
}

/// Waits until a node holds a server for up or down.
fn wait_state(scene: &Scene<'_>, node: u8, n: usize, state: ServerState) {
    scene.wait_for(&format!("node {node} to find server {n} {state}"), || {
        servers(scene, node)[n].state == state
    });
}

/// A check every 200 ms, as patient as a busy machine needs.
const CHECK: &str = "interval = \"200ms\", fast_interval = \"100ms\", timeout = \"2s\"";

/// Clients that come one after the other, all the time, until they are told to stop.
struct Stream {
    over: Arc<AtomicBool>,
    thread: JoinHandle<[u64; 2]>,
}

impl Stream {
    fn start(scene: &Scene<'_>) -> Stream {
        let over = Arc::new(AtomicBool::new(false));
        let (told, namespace) = (over.clone(), scene.client_namespace());
        let thread = thread::spawn(move || {
            dataplane::sys::enter_network_namespace(&namespace).unwrap();
            let mut counts = [0, 0];
            while !told.load(Ordering::Relaxed) {
                counts[fetch(counts[0]).is_err() as usize] += 1;
            }
            counts
        });
        Stream { over, thread }
    }

    /// How many were answered, and how many were not.
    fn finish(self) -> [u64; 2] {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A connection of its own for one answer, every byte of which is compared. An error if it ends too soon.
fn fetch(seed: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect((SERVICE_ADDRESS, 80))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&get_generated(SERVICE_ADDRESS, 1000, seed, true))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    let body = head.map_or(&[][..], |at| &answer[at..]);
    assert_eq!(pattern::first_difference(seed, 0, body), None);
    if body.len() == 1000 { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

#[test]
fn a_server_that_dies_is_passed_over_until_it_is_back() {
    play_behind(&format!("check = {{ {CHECK} }}"), |scene, processes| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let stream = Stream::start(scene);
        processes.kill(0);
        for node in [owner, peer] {
            wait_state(scene, node, 0, ServerState::Down);
        }
        let before = opened(scene, 0);
        let check = servers(scene, owner)[0].check.clone().unwrap();
        assert_eq!((check.is_up, check.last), (Some(false), CheckOutcome::Failed));
        assert_eq!(check.reason, "connection refused");
        // The peer was told; it finds the same by itself.
        scene.wait_for("the peer's own checks to fail", || {
            servers(scene, peer)[0].check.clone().unwrap().is_up == Some(false)
        });
        assert_eq!(spread(scene, 8)[0], 0);
        assert_eq!(opened(scene, 0), before);
        processes.start(scene, 0);
        wait_state(scene, owner, 0, ServerState::Up);
        scene.wait_for("it to be used again", || opened(scene, 0) > before);
        // Flapping: whatever it does, every client is answered.
        for _ in 0..3 {
            processes.kill(1);
            wait_state(scene, owner, 1, ServerState::Down);
            processes.start(scene, 1);
            wait_state(scene, owner, 1, ServerState::Up);
        }
        // Its last state outlives the owner, before the new one could have looked.
        processes.kill(2);
        for node in [owner, peer] {
            wait_state(scene, node, 2, ServerState::Down);
        }
        // Who was being answered by a server that was killed has lost it with its server; nobody else has noticed.
        let [answered, broken] = stream.finish();
        println!("{answered} clients while servers came and went, {broken} lost with their server");
        assert!(answered > 20 && broken <= 5, "{answered} answered, {broken} not");
        scene.take_over(KillMode::Sigkill);
        scene.owner = peer;
        assert_eq!(servers(scene, peer)[2].state, ServerState::Down);
        assert_eq!(spread(scene, 8)[2], 0);
    });
}

/// It takes connections and answers every check with 404: down by what it says, not by silence.
#[test]
fn a_service_that_answers_badly_is_down() {
    let check = format!("check = {{ type = \"http\", path = \"/generate/8?seed=1\", {CHECK} }}");
    play_behind(&check, |scene, _| {
        let check = servers(scene, scene.owner)[0].check.clone().unwrap();
        assert_eq!((check.last, &check.reason[..]), (CheckOutcome::Passed, "HTTP status 200"));
        assert_eq!(spread(scene, 6), [2, 2, 2]);
    });
    let check = format!("check = {{ type = \"http\", path = \"/nothing\", {CHECK} }}");
    play_unreached(&check, |scene, _| {
        for n in 0..3 {
            wait_state(scene, scene.owner, n, ServerState::Down);
        }
        let check = servers(scene, scene.owner)[0].check.clone().unwrap();
        assert_eq!((check.last, &check.reason[..]), (CheckOutcome::Failed, "HTTP status 404"));
        // Nobody is left: who comes is told so.
        let mut stream = scene.connect(SERVICE_ADDRESS, 80).unwrap();
        let outcome = stream.read(&mut [0; 16]);
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    });
}

/// Connections beyond the limit wait, in the order in which they came; beyond the queue they are reset.
#[test]
fn clients_beyond_the_limits_wait_or_are_refused() {
    play_behind("max_connections = 3\nqueue = 2\nqueue_timeout = \"10m\"", |scene, _| {
        let owner = scene.owner;
        // Those that saw to it that every server was reached have left.
        let total = |scene: &Scene<'_>| -> u64 {
            servers(scene, owner).iter().map(|server| server.connections).sum()
        };
        scene.wait_for("the servers to be free", || total(scene) == 0);
        let mut served: Vec<_> = (0..3).map(|_| Browser::connect(scene)).collect();
        served.iter_mut().for_each(|browser| browser.get(1));
        let mut waiting = Vec::new();
        for n in 1..=2 {
            let mut browser = Browser::connect(scene);
            browser.begin(2);
            waiting.push(browser);
            scene.wait_for("it to queue", || queued(scene, owner) == n);
        }
        let mut refused = scene.connect(SERVICE_ADDRESS, 80).unwrap();
        let outcome = refused.read(&mut [0; 16]);
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        assert_eq!((total(scene), queued(scene, owner)), (3, 2));
        // The owner dies: who was served is, who waited waits on.
        scene.take_over(KillMode::Sigkill);
        let survivor = scene.survivor();
        served.iter_mut().for_each(|browser| browser.get(3));
        scene.wait_for("both to queue again", || queued(scene, survivor) == 2);
        // One after the other leaves, and one after the other is served.
        for n in (0..2).rev() {
            drop(served.pop());
            scene.wait_for("a place", || queued(scene, survivor) == n);
        }
        waiting.iter_mut().for_each(|browser| browser.get(2));
    });
}

/// Clients of `web` that wait for a server with room, as a node says.
fn queued(scene: &Scene<'_>, node: u8) -> u64 {
    match control::ask(scene.cluster.socket(node), &Request::Servers { service: None }) {
        Ok(Reply::Servers { servers }) => servers.services[0].queued,
        other => panic!("node {node} answers {other:?}"),
    }
}

#[test]
fn who_waits_too_long_for_a_server_is_reset() {
    play_unreached("max_connections = 1\nqueue_timeout = \"200ms\"", |scene, _| {
        let mut served = Browser::connect(scene);
        served.get(1);
        let mut waits = scene.connect(SERVICE_ADDRESS, 80).unwrap();
        let outcome = waits.read(&mut [0; 16]);
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        served.get(2);
    });
}

/// With `on_server_down = "reset"` a server in maintenance loses its clients, the others keep theirs.
#[test]
fn connections_to_a_server_in_maintenance_are_reset_if_the_service_says_so() {
    play_behind("on_server_down = \"reset\"", |scene, _| {
        scene.wait_for("the servers to be free", || {
            servers(scene, scene.owner).iter().all(|server| server.connections == 0)
        });
        let mut browsers: Vec<_> = (0..6).map(|_| Browser::connect(scene)).collect();
        browsers.iter_mut().for_each(|browser| browser.get(1));
        order(scene, scene.owner, "b", &["maint"]).unwrap();
        scene
            .wait_for("its connections to end", || servers(scene, scene.owner)[1].connections == 0);
        let (browsers, lost) = (RefCell::new(browsers), Cell::new(0));
        scene.wait_for("two clients to hear of it", || {
            let mut browsers = browsers.borrow_mut();
            let ended = browsers.iter_mut().filter_map(|browser| browser.try_end().err());
            let resets = ended.filter(|kind| *kind == ErrorKind::ConnectionReset);
            lost.set(lost.get() + resets.count());
            lost.get() == 2
        });
        let left = servers(scene, scene.owner);
        assert_eq!((left[0].connections, left[2].connections), (2, 2));
    });
}

/// On two cores that know nothing of each other's connections, and after a takeover.
#[test]
fn clients_stick_to_their_servers_on_every_core_and_node() {
    let layout = Layout { queues: [2, 2], ..Layout::default() };
    play_on("stick = \"10m\"", layout, |scene, _| {
        // The client has one address: whichever server got its first connection gets all of them.
        scene.wait_for("a server to be reached", || fetch_in(scene).is_ok());
        let favourite = |scene: &Scene<'_>| {
            let all = servers(scene, scene.owner);
            all.iter().map(|server| server.opened).collect::<Vec<_>>()
        };
        scene.wait_for("one server to get everything", || {
            let before = favourite(scene);
            (0..8).for_each(|_| fetch_in(scene).unwrap());
            let after = favourite(scene);
            let grown: Vec<u64> = before.iter().zip(&after).map(|(a, b)| b - a).collect();
            grown.contains(&8)
        });
        let last: Vec<u64> = favourite(scene);
        let chosen = (0..3).max_by_key(|n| last[*n]).unwrap();
        let name = SERVERS[chosen].0;
        let peer = scene.survivor();
        scene.take_over(KillMode::Sigkill);
        scene.owner = peer;
        scene.wait_for("the servers to be reached", || fetch_in(scene).is_ok());
        assert_eq!(spread(scene, 8)[chosen], 8, "the peer knows of {name}");
        order(scene, peer, name, &["maint"]).unwrap();
        assert_eq!(spread(scene, 8)[chosen], 0);
        // It has another one now, and stays there.
        order(scene, peer, name, &["ready"]).unwrap();
        assert_eq!(spread(scene, 8)[chosen], 0);
    });
}

/// [`fetch`] by the client.
fn fetch_in(scene: &Scene<'_>) -> io::Result<()> {
    scene.at_client(|| fetch(1))
}

#[test]
fn the_operator_takes_servers_out_and_the_peer_knows() {
    play_behind("", |scene, _| {
        let (owner, peer) = (scene.owner, scene.survivor());
        assert_eq!(spread(scene, 6), [2, 2, 2]);
        let mut kept: Vec<_> = (0..3).map(|_| Browser::connect(scene)).collect();
        kept.iter_mut().for_each(|browser| browser.get(1));
        order(scene, owner, "a", &["drain"]).unwrap();
        order(scene, owner, "b", &["maint"]).unwrap();
        assert_eq!(spread(scene, 6), [0, 0, 6]);
        order(scene, owner, "b", &["ready"]).unwrap();
        order(scene, owner, "b", &["weight", "2"]).unwrap();
        assert_eq!(spread(scene, 6), [0, 4, 2]);
        // What is under way goes on.
        kept.iter_mut().for_each(|browser| browser.get(2));
        let told = |scene: &Scene<'_>| {
            let servers = servers(scene, peer);
            (servers[0].state, servers[1].state, servers[1].weight)
        };
        let expected = (ServerState::Drain, ServerState::Up, 2);
        scene.wait_for("the peer to know", || told(scene) == expected);
        let refused = order(scene, peer, "a", &["ready"]).unwrap_err();
        assert!(refused.contains(&format!("node {owner} owns web")), "{refused}");
        let unknown = order(scene, owner, "d", &["ready"]).unwrap_err();
        assert!(unknown.contains("there are: a, b, c"), "{unknown}");
        scene.take_over(KillMode::Sigkill);
        scene.owner = peer;
        kept.iter_mut().for_each(|browser| browser.get(3));
        scene.wait_for("the servers to be reached", || {
            Browser::connect(scene).get(1);
            opened(scene, 1) > 0 && opened(scene, 2) > 0
        });
        assert_eq!(spread(scene, 6), [0, 4, 2]);
        assert_eq!(told(scene), expected);
        order(scene, peer, "a", &["ready"]).unwrap();
        order(scene, peer, "b", &["weight", "1"]).unwrap();
        assert_eq!(spread(scene, 6), [2, 2, 2]);
    });
}
