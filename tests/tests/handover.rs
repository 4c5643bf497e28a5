//! A group changes hands while clients talk, and they do not notice (`kit::kill`).

use stack::generate;
use stack::time::Duration;
use tests::kit::client::Opener;
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::kill::{Case, Mishap, assert_handed_over, handed_over};
use tests::kit::settings::{DISCARD, ECHO, GENERATE, HTTP, Hops, Link, Settings};

fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    generate::fill(77, 0, &mut bytes);
    bytes
}

fn with_goodbye(mut steps: Vec<Step>) -> Vec<Step> {
    steps.extend([Step::Close, Step::End, Step::Gone]);
    steps
}

fn download(len: usize) -> Dialogue {
    let get = format!("GET /generate/{len}?seed=3 HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    Dialogue::new("download", HTTP, with_goodbye(vec![Step::Send(get), Step::Responses(1)]))
}

fn upload(len: usize) -> Dialogue {
    let head = format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    let bytes = [head.into_bytes(), pattern(len)].concat();
    Dialogue::new("upload", HTTP, with_goodbye(vec![Step::Send(bytes), Step::Responses(1)]))
}

fn echo() -> Dialogue {
    let steps = vec![
        Step::Send(pattern(3000)),
        Step::Receive(3000),
        Step::Send(pattern(70)),
        Step::Receive(3070),
    ];
    Dialogue::new("echo", ECHO, with_goodbye(steps))
}

fn both_close() -> Dialogue {
    let steps = vec![Step::Close, Step::Receive(9000), Step::End, Step::Gone];
    Dialogue::new("both close", GENERATE, steps)
}

/// Every kind of dialogue, over a fast and a slow cluster link.
fn cases() -> Vec<Case> {
    let dialogues = [download(12_000), upload(9000), echo(), both_close()];
    let mut cases: Vec<Case> = dialogues.into_iter().map(Case::new).collect();
    let mut opened = Case { name: "node opens an echo", ..Case::new(echo()) };
    opened.client.opener = Opener::Node;
    cases.push(opened);
    let slow = |case: &Case| Case { stride: 3, ..case.clone().with_slow_cluster() };
    let slow: Vec<Case> = cases.iter().map(slow).collect();
    cases.extend(slow);
    cases
}

/// Four clients at once, one of each kind, on nodes with so many cores, owner first.
fn on_cores(cores: [u8; 2]) -> Case {
    let mut case = Case::new(download(4000));
    case.name = "several cores";
    case.settings = Settings { cores, split_records: true, ..Settings::default() };
    case.settings.ports.retain(|port| [HTTP, ECHO, DISCARD].contains(&port.port));
    let handshake = Dialogue::new("handshake", DISCARD, with_goodbye(Vec::new()));
    case.dialogues.extend([upload(3000), echo(), handshake]);
    case.stride = 3;
    case
}

#[test]
fn a_handover_at_every_output_goes_unnoticed() {
    for case in cases() {
        for mishap in [Mishap::None, Mishap::Late, Mishap::ThereAndBack] {
            assert_handed_over(&case, mishap);
        }
    }
}

/// What a listening peer heard in the freeze is its owner's to forward: used at the change of places, it would be said
/// before anybody else holds it.
#[test]
fn a_handover_to_a_peer_that_listens_goes_unnoticed() {
    for mut case in cases() {
        case.settings.overheard = 1000;
        for mishap in [Mishap::None, Mishap::Late, Mishap::ThereAndBack, Mishap::FrozenOwnerDies] {
            assert_handed_over(&case, mishap);
        }
        for (outputs, prefix) in [(1, 0), (3, 1), (7, usize::MAX)] {
            assert_handed_over(&case, Mishap::HeirDies(outputs, prefix));
        }
    }
}

#[test]
fn a_handover_that_is_given_up_goes_unnoticed() {
    for case in cases() {
        for is_frozen in [false, true] {
            assert_handed_over(&case, Mishap::Thawed { is_frozen });
        }
    }
}

#[test]
fn an_owner_that_dies_while_it_hands_over_is_taken_over() {
    for case in cases() {
        for prefix in [0, 1, 2, usize::MAX] {
            assert_handed_over(&case, Mishap::OwnerDies(prefix));
        }
        assert_handed_over(&case, Mishap::FrozenOwnerDies);
    }
}

#[test]
fn a_new_owner_that_dies_is_taken_over_by_the_former_one() {
    for case in cases() {
        assert_handed_over(&case, Mishap::HeirDiesUnaware);
        for (outputs, prefix) in [(1, 0), (2, usize::MAX), (3, 1), (7, 2), (15, 0)] {
            assert_handed_over(&case, Mishap::HeirDies(outputs, prefix));
        }
    }
}

#[test]
fn a_former_owner_that_dies_leaves_the_new_one_alone() {
    for case in cases() {
        assert_handed_over(&case, Mishap::FormerDies);
    }
}

#[test]
fn nodes_with_several_cores_hand_over() {
    for cores in [[2, 2], [2, 1], [1, 2], [3, 2]] {
        for mishap in [
            Mishap::None,
            Mishap::Late,
            Mishap::ThereAndBack,
            Mishap::Thawed { is_frozen: true },
            Mishap::OwnerDies(1),
            Mishap::HeirDiesUnaware,
            Mishap::HeirDies(5, 1),
            Mishap::FormerDies,
        ] {
            assert_handed_over(&on_cores(cores), mishap);
        }
    }
}

/// What reached the former owner, or the frozen one, is forwarded. No promise hangs on that: it may be lost, doubled or
/// late, also so late that the group has gone back, or back and there again.
#[test]
fn forwarded_frames_may_be_lost_doubled_or_late() {
    let late = |micros| Hops::Late(Duration::from_micros(micros));
    for hops in [Hops::Lost, Hops::Twice, late(900), late(4000), late(60_000)] {
        for mut case in cases() {
            case.settings.hops = hops;
            case.stride = 7;
            for mishap in [
                Mishap::None,
                Mishap::Late,
                Mishap::ThereAndBack,
                Mishap::ThereBackAndThere,
                Mishap::HeirDies(2, 1),
                Mishap::FormerDies,
            ] {
                assert_handed_over(&case, mishap);
            }
        }
    }
}

/// The proof that these tests bite: an owner that takes for committed what the peer does not hold is found out.
#[test]
fn a_handover_of_what_the_peer_does_not_hold_is_found_out() {
    for dialogue in [upload(5000), echo()] {
        let mut case = Case::new(dialogue);
        // Of a burst the newest segment is not acknowledged at once.
        case.settings.client_link.jitter = Duration::from_micros(300);
        case.settings.cluster_link = Link::clean(Duration::from_micros(900));
        case.settings.forge_acknowledgements = true;
        let (_, failures) = handed_over(&case, Mishap::None);
        assert!(!failures.is_empty(), "{}: nobody noticed", case.name);
    }
}

#[test]
fn rough_links_change_nothing() {
    for seed in 1..=3 {
        for dialogue in [download(9000), upload(6000), echo()] {
            let case = Case::new(dialogue).with_rough_links(seed, 5);
            for mishap in [
                Mishap::None,
                Mishap::Late,
                Mishap::ThereAndBack,
                Mishap::OwnerDies(1),
                Mishap::HeirDies(4, 1),
            ] {
                assert_handed_over(&case, mishap);
            }
        }
    }
}
