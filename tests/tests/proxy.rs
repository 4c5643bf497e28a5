//! Proxied connections: the owner dies at every op, and neither client nor server must notice (`kit::kill`).

use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::{Header, HeaderVersion};
use stack::generate;
use stack::key::FlowKey;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Address;
use tests::kit::client::{self, ClientSettings, Ending, Opener};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::kill::{
    Case, Mishap, assert_handed_over, assert_unnoticed, assert_unnoticed_late,
    assert_unnoticed_twice, every_point, reference,
};
use tests::kit::settings::{ADDRESS, Link, PROXY, Settings};
use tests::kit::world::World;

mod proxy {
    mod accept;
    mod end_to_end;
    mod paced;
    mod time_out;
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    generate::fill(seed, 0, &mut bytes);
    bytes
}

fn dialogue_of(name: &'static str, steps: Vec<Step>) -> Dialogue {
    Dialogue::new(name, PROXY, steps)
}

fn server(steps: Vec<Step>) -> Dialogue {
    Dialogue::new("server", 0, steps)
}

/// The same case with the other way of acknowledging: what either side says is held by the peer.
fn held(mut case: Case) -> Case {
    for port in &mut case.settings.ports {
        port.app = AppConfig::Proxy(Ack::Held);
    }
    case
}

/// Acknowledgements end to end, and held by the peer; a fast cluster link, and a slow one.
fn assert_both_unnoticed(case: &Case) {
    for case in [case.clone(), held(case.clone())] {
        assert_unnoticed(&case);
        assert_unnoticed(&case.with_slow_cluster());
    }
}

/// The client asks, the server answers, the client closes.
fn dialogue(up: usize, down: usize) -> Case {
    let asks =
        vec![Step::Send(pattern(1, up)), Step::Receive(down), Step::Close, Step::End, Step::Gone];
    let answers =
        vec![Step::Receive(up), Step::Send(pattern(2, down)), Step::End, Step::Close, Step::Gone];
    Case::proxied(dialogue_of("proxied dialogue", asks), server(answers))
}

#[test]
fn a_dialogue_survives_every_death() {
    let case = dialogue(3000, 5000);
    assert_eq!(reference(&case).received, [pattern(1, 3000), pattern(2, 5000)]);
    assert_both_unnoticed(&case);
}

/// Over IPv6 to the node, and over IPv4 from there.
#[test]
fn a_client_of_the_other_family_survives_every_death() {
    let mut case = dialogue(3000, 5000);
    case.client.ipv6 = true;
    assert_both_unnoticed(&case);
}

fn up_and_down(name: &'static str, client_steps: Vec<Step>, server_steps: Vec<Step>) -> Case {
    Case::proxied(dialogue_of(name, client_steps), server(server_steps))
}

/// The header is the first thing that the server gets, once, whoever carries the connection on.
#[test]
fn the_header_is_said_once_whoever_dies() {
    let client = FlowKey {
        remote: Address::v4(client::address(1)),
        local: Address::v4(ADDRESS),
        remote_port: client::port(1),
        local_port: PROXY,
    };
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let header = Header::new(version, &client).bytes().to_vec();
        let mut case = dialogue(3000 + header.len(), 2000);
        case.dialogues[0].name = "with a header";
        case.dialogues[0].steps[0] = Step::Send(pattern(1, 3000));
        case.settings.header = Some(version);
        let received = reference(&case).received;
        assert_eq!(received, [[header, pattern(1, 3000)].concat(), pattern(2, 2000)]);
        assert_both_unnoticed(&case);
    }
}

/// On nodes with so many cores, owner first: several clients and two servers.
fn on_cores(cores: [u8; 2]) -> Case {
    let mut case = dialogue(1500, 2000);
    case.dialogues[0].name = "proxied on several cores";
    // Alike, because either client may get either server.
    case.dialogues.push(case.dialogues[0].clone());
    case.servers.push(case.servers[0].clone());
    case.settings.servers = 2;
    case.settings.cores = cores;
    case.stride = 2;
    case
}

/// Both legs of a connection are on one core of each node, and every core knows where the servers are.
#[test]
fn nodes_with_several_cores_survive_every_death() {
    for cores in [[2, 2], [2, 1], [1, 2], [3, 2]] {
        let case = on_cores(cores);
        assert_both_unnoticed(&case);
    }
}

/// Nodes that were not reloaded at the same time, or have seen servers come and go, have them in other places.
#[test]
fn nodes_that_have_their_servers_in_other_places_survive_every_death() {
    for cores in [[1, 1], [2, 1]] {
        let mut case = on_cores(cores);
        case.dialogues[0].name = "servers in other places";
        case.settings.is_shuffled = true;
        assert_both_unnoticed(&case);
    }
}

/// A planned handover moves both legs, and back, and whatever goes wrong on the way.
#[test]
fn a_handover_moves_both_legs() {
    let mishaps = [
        Mishap::None,
        Mishap::Late,
        Mishap::Thawed { is_frozen: true },
        Mishap::OwnerDies(2),
        Mishap::FrozenOwnerDies,
        Mishap::HeirDies(5, 1),
        Mishap::ThereAndBack,
    ];
    for case in [dialogue(3000, 5000), Case { stride: 4, ..bulk().with_slow_cluster() }] {
        let case = Case { may_repeat: true, ..case };
        for mishap in mishaps {
            assert_handed_over(&case, mishap);
        }
    }
}

/// Whoever closes first, and whoever still speaks then.
#[test]
fn every_order_of_closing_survives_every_death() {
    let (up, down) = (|| Step::Send(pattern(1, 4000)), || Step::Send(pattern(2, 6000)));
    let (close, end, gone) = (Step::Close, Step::End, Step::Gone);
    let cases = [
        up_and_down(
            "the client closes before it hears",
            vec![up(), close.clone(), Step::Receive(6000), end.clone()],
            vec![end.clone(), down(), close.clone(), gone.clone()],
        ),
        up_and_down(
            "the server closes before it hears",
            vec![end.clone(), up(), close.clone(), gone.clone()],
            vec![down(), close.clone(), Step::Receive(4000), end.clone()],
        ),
        up_and_down(
            "the server speaks and closes",
            vec![end.clone(), close.clone(), gone.clone()],
            vec![down(), close.clone(), end.clone(), gone.clone()],
        ),
        up_and_down(
            "the client speaks and closes",
            vec![up(), close.clone(), end.clone()],
            vec![Step::Receive(4000), end.clone(), close.clone(), gone.clone()],
        ),
        up_and_down(
            "both close at once",
            vec![up(), close.clone(), Step::Receive(6000), end.clone(), gone.clone()],
            vec![down(), close.clone(), Step::Receive(4000), end.clone(), gone.clone()],
        ),
        up_and_down("nobody says anything", vec![close.clone(), end.clone()], vec![end, close]),
    ];
    for case in cases {
        assert_both_unnoticed(&case);
    }
}

/// A reset by either side reaches the other one, or it is forgotten: the dialogue ends.
#[test]
fn a_reset_by_either_side_survives_every_death() {
    let cases = [
        up_and_down(
            "the client resets in an upload",
            vec![Step::Send(pattern(1, 20_000)), Step::Abort],
            vec![Step::Receive(3000), Step::Abort],
        ),
        up_and_down(
            "the client resets in a download",
            vec![Step::Receive(5000), Step::Abort],
            vec![Step::Send(pattern(2, 20_000)), Step::Abort],
        ),
        up_and_down(
            "the server resets in a download",
            vec![Step::Receive(3000), Step::Abort],
            vec![Step::Send(pattern(2, 20_000)), Step::Abort],
        ),
    ];
    for mut case in cases {
        case.may_reset = true;
        assert_both_unnoticed(&case);
    }
}

/// Whoever leaves a download closes his side, and answers what still comes by resets. The server has all that he has said, and
/// goes on: it is told, not listened to for as long as it has something to say. It is also if the client had left it no room.
#[test]
fn a_server_that_speaks_to_nobody_is_reset() {
    let wait = Duration::from_millis(20);
    for waits in [Step::Idle(wait), Step::Pause(wait)] {
        let leaves = vec![Step::Send(pattern(1, 100)), Step::Receive(5000), Step::Close];
        let mut case = up_and_down(
            "the client leaves a download",
            [leaves, vec![waits, Step::Abort]].concat(),
            vec![Step::Receive(100), Step::Send(pattern(2, 1 << 20)), Step::Gone],
        );
        for case in [case.clone(), held(case.clone())] {
            let mut world = case.start();
            let is_told = |world: &World| world.clients[0].ending == Ending::Reset;
            assert!(world.run_until(Duration::from_secs(1), is_told));
            assert!(world.nodes[0].flows().next().is_none());
        }
        (case.may_reset, case.stride) = (true, 53);
        assert_both_unnoticed(&case);
    }
}

fn elsewhere(opener: Opener, absent: Duration) -> (ClientSettings, Dialogue) {
    let settings = ClientSettings { opener, absent, ..ClientSettings::default() };
    (settings, server(Vec::new()))
}

/// The first server refuses: the next one gets everything that the client has said.
#[test]
fn a_server_that_refuses_is_not_missed() {
    let mut case = dialogue(3000, 2000);
    case.dialogues[0].name = "the first server refuses";
    case.servers.insert(0, elsewhere(Opener::Nobody, Duration::ZERO));
    case.settings.servers = 2;
    assert_eq!(reference(&case).received[1..], [pattern(1, 3000), pattern(2, 2000)]);
    assert_both_unnoticed(&case);
}

/// The first server does not answer in time.
#[test]
fn a_server_that_does_not_answer_is_not_missed() {
    let mut case = dialogue(3000, 2000);
    case.dialogues[0].name = "the first server does not answer";
    case.servers.insert(0, elsewhere(Opener::Proxy, Duration::from_secs(400)));
    case.settings.servers = 2;
    // Longer than a server takes to repeat a SYN-ACK that its former peer did not hear.
    case.settings.ports[0].connect_timeout = Duration::from_secs(3);
    case.stride = 19;
    assert_eq!(reference(&case).received[1..], [pattern(1, 3000), pattern(2, 2000)]);
    assert_unnoticed(&case);
}

/// The server is there, but answers late: what the client says meanwhile, and its FIN, are kept.
#[test]
fn a_server_that_answers_late_survives_every_death() {
    let mut case = up_and_down(
        "the server answers late",
        vec![Step::Send(pattern(1, 4000)), Step::Close, Step::Receive(6000), Step::End],
        vec![Step::End, Step::Send(pattern(2, 6000)), Step::Close, Step::Gone],
    );
    case.settings.client_link = Link::clean(Duration::from_micros(3000));
    assert_both_unnoticed(&case);
}

/// Nobody is left to connect to: the client is reset, once the peer holds that. If that one reset was lost, it is when
/// it says something more.
#[test]
fn a_client_without_a_server_is_reset() {
    let mut case = up_and_down(
        "every server refuses",
        vec![
            Step::Send(pattern(1, 3000)),
            Step::Idle(Duration::from_secs(2)),
            Step::Close,
            Step::End,
        ],
        Vec::new(),
    );
    case.servers = vec![elsewhere(Opener::Nobody, Duration::ZERO)];
    case.may_reset = true;
    assert_both_unnoticed(&case);
}

/// The checks find a server down in the middle of its connections: both sides of each are reset, or, if that was lost or
/// came from a node that did not know what the former owner had said, when they say something more.
#[test]
fn connections_to_a_server_that_goes_down_are_reset() {
    let pause = || Step::Idle(Duration::from_secs(2));
    let mut case = up_and_down(
        "the server goes down",
        vec![Step::Send(pattern(1, 9000)), pause(), Step::Send(pattern(3, 100)), Step::End],
        vec![pause(), Step::Send(pattern(2, 100)), Step::Receive(9000), Step::End],
    );
    case.may_reset = true;
    case.settings.resets_when_down = true;
    // While the upload is under way; once all was said.
    for after in [Duration::from_micros(1200), Duration::from_millis(30)] {
        case.verdicts = vec![(after, 0, false)];
        let reset = |case: &Case| case.start().run_until(Duration::from_secs(1), |w| w.resets == 2);
        assert!(reset(&case), "both sides");
        assert_both_unnoticed(&case);
    }
}

/// A server's limit is about what it has open: a connection that it has forgotten is none of its.
#[test]
fn a_connection_in_time_wait_counts_no_more() {
    let mut world = dialogue(100, 100).start();
    let in_time_wait = |world: &World| {
        let mut legs = world.nodes[0].flows().filter(|flow| flow.id.is_server_leg());
        legs.any(|leg| leg.contract.state == State::TimeWait)
    };
    assert!(world.run_until(Duration::from_secs(1), in_time_wait));
    let roster = world.nodes[0].stack().roster(0);
    assert_eq!((roster.servers()[0].opened, roster.servers()[0].connections), (1, 0));
}

/// One connection at a time: the second client waits in the queue until the first one's is over, whoever dies meanwhile.
#[test]
fn a_client_in_the_queue_survives_every_death() {
    let mut case = dialogue(1500, 2000);
    case.dialogues[0].name = "queued";
    // Alike, because either client may get either server.
    case.dialogues.push(case.dialogues[0].clone());
    case.servers.push(case.servers[0].clone());
    case.settings = Settings { servers: 2, connections_max: 1, queue_max: 1, ..case.settings };
    // A server that does not hear a new owner is given up before the one who waits loses patience.
    case.settings.ports[0].connect_timeout = Duration::from_secs(3);
    let is_waiting = |world: &World| world.nodes[0].stack().roster(0).queue.len() == 1;
    assert!(case.start().run_until(Duration::from_secs(1), is_waiting), "one waits");
    assert_both_unnoticed(&case);
}

/// Nobody may wait: who finds no server with room is reset, once the peer holds that.
#[test]
fn a_client_without_a_place_in_the_queue_is_reset() {
    let mut case = dialogue(1500, 2000);
    case.dialogues[0].name = "no place";
    case.dialogues.push(case.dialogues[0].clone());
    case.settings = Settings { connections_max: 1, ..case.settings };
    case.may_reset = true;
    let resets = |world: &World| world.nodes[0].stack().counters().queue_full == 1;
    assert!(case.start().run_until(Duration::from_secs(1), resets), "one is reset");
    assert_both_unnoticed(&case);
}

/// Small windows and segments: windows that close on either side, output that waits.
fn small(mut case: Case) -> Case {
    for port in &mut case.settings.ports {
        (port.receive_buffer, port.mss) = (2048, 500);
    }
    case.client.receive_buffer = 1600;
    case.servers[0].0.receive_buffer = 1300;
    case
}

fn bulk() -> Case {
    let asks = vec![
        Step::Send(pattern(1, 9000)),
        Step::Receive(12_000),
        Step::Close,
        Step::End,
        Step::Gone,
    ];
    let answers = vec![
        Step::Send(pattern(2, 12_000)),
        Step::Receive(9000),
        Step::End,
        Step::Close,
        Step::Gone,
    ];
    up_and_down("both speak at once", asks, answers)
}

#[test]
fn small_windows_change_nothing() {
    for case in [small(dialogue(5000, 7000)), small(bulk())] {
        assert_both_unnoticed(&case);
    }
}

#[test]
fn slow_readers_on_either_side_change_nothing() {
    for (client_reads, server_reads) in [(true, false), (false, true)] {
        let mut case = bulk();
        let slowly = Some((1000, Duration::from_millis(4)));
        case.dialogues[0].reading = slowly.filter(|_| client_reads);
        case.servers[0].1.reading = slowly.filter(|_| server_reads);
        (case.client.receive_buffer, case.servers[0].0.receive_buffer) = (3000, 3000);
        case.settings.ports[0].receive_buffer = 4096;
        for seed in 1..=2 {
            // Windows that open again, and are not heard of.
            assert_unnoticed(&case.clone().with_rough_links(seed, 7));
        }
        assert_both_unnoticed(&case);
    }
}

#[test]
fn losses_on_every_link_change_nothing() {
    for seed in 1..=8 {
        assert_unnoticed(&bulk().with_rough_links(seed, 7));
        assert_unnoticed(&dialogue(6000, 9000).with_rough_links(seed, 7));
    }
}

#[test]
fn a_second_death_goes_unnoticed_too() {
    for seed in 1..=2 {
        assert_unnoticed_twice(&bulk().with_slow_cluster(), seed, 200);
        assert_unnoticed_twice(&small(bulk()), seed, 200);
        assert_unnoticed_twice(&dialogue(6000, 9000).with_rough_links(seed, 7), seed, 200);
    }
}

#[test]
fn a_late_burst_of_a_paused_owner_changes_nothing() {
    assert_unnoticed_late(&dialogue(3000, 5000));
    assert_unnoticed_late(&bulk());
}

/// The proof that these tests bite.
#[test]
fn forged_acknowledgements_are_found_out() {
    let mut case = dialogue(5000, 5000).with_slow_cluster();
    case.settings.forge_acknowledgements = true;
    assert!(!every_point(&case).failures.is_empty(), "nobody noticed");
}
