//! The same transfers through a link that loses, repeats, reorders, changes and delays frames.
//!
//! Whatever happens to frames may cost time and nothing else: every connection ends as it should,
//! byte for byte, in both directions. The relay counts what it did; a case whose impairment never
//! happened fails. Seeds are fixed, timing is not.

use dataplane::control::status::Protection;
use nix::sys::signal::Signal;
use tools::demo::KillMode;
use tools::demo::client::Load;
use tools::demo::relay::{Relay, Way, lay};
use tools::impair::Report;
use tools::impair::line::Counters;
use tools::load::report::{LoadResult, Outcome};

use crate::scene::{Scene, UNDERSTUDY, play};
use crate::traffic::Traffic;

/// Options of `understudy load run` for a short load of every kind: some 10 000 frames.
pub const SHORT: [(&str, u64); 8] = [
    ("--downloads", 4),
    ("--uploads", 4),
    ("--rate", 100_000),
    ("--bulk-rate", 3_000_000),
    ("--bulk-downloads", 1),
    ("--bulk-uploads", 1),
    ("--fresh-every-ms", 20),
    ("--seconds", 2),
];

/// Starts a relay in the client's cable, which must have been laid.
pub fn relay(scene: &Scene<'_>, options: &str) -> Relay {
    relay_on(scene, Way::Client, options)
}

fn relay_on(scene: &Scene<'_>, way: Way, options: &str) -> Relay {
    let relay = Relay::start(scene.bed, UNDERSTUDY.as_ref(), &scene.dir, way, options);
    relay.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Ends a relay; it must have kept up with the frames.
pub fn finish(relay: Relay) -> Report {
    let report = relay.finish().unwrap_or_else(|error| panic!("{error:#}"));
    let total = report.total();
    assert_eq!((total.overrun, total.oversized, total.refused), (0, 0, 0), "{total:?}");
    report
}

/// Runs a load to its end. Every connection must have survived with every byte right.
pub fn run_load(scene: &Scene<'_>, case: &str, options: &[(&str, u64)]) -> LoadResult {
    let load = Load::start_with(scene.bed, UNDERSTUDY.as_ref(), &scene.dir, options);
    let result = load.and_then(Load::finish).unwrap_or_else(|error| panic!("{case}: {error:#}"));
    let failed = result.connections.iter().filter(|one| one.outcome != Outcome::Survived);
    let failed: Vec<_> = failed.map(|one| (one.kind, one.id, one.outcome, &one.note)).collect();
    assert!(failed.is_empty(), "{case}: {failed:#?}");
    result
}

/// Runs the short load through each link; `happened` says how often what was asked for happened.
fn through(scene: &Scene<'_>, links: &[&str], happened: impl Fn(&Counters) -> u64) {
    for link in links {
        let relay = relay(scene, link);
        run_load(scene, link, &SHORT);
        let report = finish(relay);
        println!("{link}: {report:?}");
        for counters in [report.a_to_b, report.b_to_a] {
            assert!(happened(&counters) > 0, "{link}: it never happened, {counters:?}");
        }
    }
}

/// Frames that the nodes dropped for a reason so far.
fn dropped(scene: &Scene<'_>, reason: &str) -> u64 {
    let status = scene.cluster.status(scene.owner).unwrap();
    status.cores.iter().filter_map(|core| core.drops.get(reason)).sum()
}

#[test]
fn transfers_survive_lost_frames() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let links = ["--seed 11 --loss 1000", "--seed 12 --loss 10000", "--seed 13 --loss 50000"];
        through(scene, &links, |counters| counters.lost);
    });
}

#[test]
fn transfers_survive_repeated_and_overtaken_frames() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        through(scene, &["--seed 21 --duplicate 50000"], |counters| counters.duplicated);
        let links = ["--seed 22 --reorder 50000", "--seed 23 --reorder 50000 --delay 2"];
        through(scene, &links, |counters| counters.reordered);
    });
}

#[test]
fn changed_frames_are_dropped_and_sent_again() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        through(scene, &["--seed 31 --corrupt 20000"], |counters| counters.corrupted);
        assert!(dropped(scene, "bad_tcp_checksum") > 0);
        assert!(dropped(scene, "bad_ip") > 0);
    });
}

#[test]
fn transfers_survive_a_long_and_unsteady_way() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let links = ["--seed 41 --delay 10 --jitter 5", "--seed 42 --delay 5 --rate 40 --queue 50"];
        through(scene, &links, |counters| counters.frames_out);
    });
}

#[test]
fn transfers_survive_everything_at_once() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let odds = "--loss 10000 --duplicate 10000 --reorder 20000 --corrupt 5000";
        let links = [format!("--seed 51 {odds}"), format!("--seed 52 {odds} --delay 5 --jitter 3")];
        let links = links.each_ref().map(String::as_str);
        through(scene, &links, |counters| {
            let Counters { lost, duplicated, reordered, corrupted, .. } = *counters;
            lost.min(duplicated).min(reordered).min(corrupted)
        });
    });
}

#[test]
fn a_takeover_survives_a_bad_link() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 61 --loss 10000 --reorder 20000 --delay 1");
        let mut traffic = Traffic::start(scene, 4);
        traffic.until(30);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        let total = finish(relay).total();
        assert!(total.lost > 0 && total.reordered > 0, "{total:?}");
    });
}

/// Records, their acknowledgements, heartbeats, leases and the witness's answers: all of them may be lost, come twice, late
/// or in another order. That costs time and no byte, and a node that dies meanwhile is taken over as ever.
#[test]
fn a_bad_cluster_link_costs_no_byte() {
    play(|scene| {
        let way = Way::Cluster(scene.survivor());
        lay(scene.bed, way).unwrap();
        let odds = "--seed 71 --loss 20000 --duplicate 10000 --reorder 20000 --delay 1";
        let relay = relay_on(scene, way, odds);
        scene.owner = scene.wait_protected();
        let mut traffic = Traffic::start(scene, 4);
        traffic.until(30);
        assert_eq!(scene.wait_protected(), scene.owner, "on such a link it stays protected");
        let resent = |scene: &Scene<'_>| {
            let groups = scene.cluster.status(scene.owner).unwrap().groups;
            groups.iter().filter_map(|group| group.counters.get("log_resent")).sum::<u64>()
        };
        assert!(resent(scene) > 0, "no record was lost");
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        let total = finish(relay).total();
        assert!(total.lost > 0 && total.duplicated > 0 && total.reordered > 0, "{total:?}");
    });
}

/// With `on_peer_loss = "serve"` an owner whose peer is gone serves on and says so in one word, and a peer that is slow
/// holds acknowledgements back for as long as it is the peer: memory is bounded by the log.
#[test]
fn a_peer_that_stops_is_given_up_and_said_to_be_missing() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let mut traffic = Traffic::start(scene, 4);
        traffic.until(30);
        scene.cluster.signal(peer, Signal::SIGSTOP).unwrap();
        let began_ns = tools::load::wire::monotonic_ns();
        scene.wait_for("the owner to say that it is alone", || {
            let groups = scene.cluster.status(owner).unwrap().groups;
            groups.iter().all(|group| group.protection == Protection::UnprotectedNoPeer)
        });
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::None, began_ns);
        scene.cluster.resume(peer).unwrap();
        assert_eq!(scene.wait_protected(), owner);
    });
}
