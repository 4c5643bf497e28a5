//! The PROXY protocol, accepted: clients that say who is behind them, and those that say something else.

use crate::{dialogue, held, pattern, up_and_down};
use stack::app::proxy::header::{Header, HeaderVersion};
use stack::key::FlowKey;
use stack::time::Duration;
use stack::wire::Address;
use tests::kit::dialogue::Step;
use tests::kit::kill::{Case, assert_unnoticed, reference};

/// Whom clients name.
const NAMED: FlowKey = FlowKey {
    remote: Address::v4([203, 0, 113, 7]),
    local: Address::v4([198, 51, 100, 1]),
    remote_port: 40_000,
    local_port: 443,
};

fn accepting(mut case: Case) -> Case {
    case.settings.accepts_header = true;
    held(case)
}

/// A header of version 2 with something behind the addresses.
fn with_tlv() -> Vec<u8> {
    let mut bytes = Header::new(HeaderVersion::V2, &NAMED).bytes().to_vec();
    bytes.extend_from_slice(&[0x04, 0, 5, 0, 0, 0, 0, 0]);
    bytes[15] += 8;
    bytes
}

/// The server gets what the client says behind its header, and another header if it wants one: of whom the client names.
#[test]
fn a_client_that_names_another_survives_every_death() {
    let line = Header::new(HeaderVersion::V1, &NAMED).bytes().to_vec();
    for (said, told) in [
        (line.clone(), None),
        (with_tlv(), None),
        (with_tlv(), Some(HeaderVersion::V1)),
        (line, Some(HeaderVersion::V2)),
    ] {
        let told_bytes = told.map(|version| Header::new(version, &NAMED).bytes().to_vec());
        let told_bytes = told_bytes.unwrap_or_default();
        let mut case = dialogue(3000 + told_bytes.len(), 2000);
        case.dialogues[0].name = "with a header of its own";
        case.dialogues[0].steps[0] = Step::Send([said, pattern(1, 3000)].concat());
        case.settings.header = told;
        let case = accepting(case);
        assert_eq!(
            reference(&case).received,
            [[told_bytes, pattern(1, 3000)].concat(), pattern(2, 2000)]
        );
        assert_unnoticed(&case);
        assert_unnoticed(&case.with_slow_cluster());
    }
}

/// However it is cut; nobody is asked before the client is known.
#[test]
fn a_header_in_pieces_survives_every_death() {
    for header in [Header::new(HeaderVersion::V1, &NAMED).bytes().to_vec(), with_tlv()] {
        let mut case = dialogue(1500, 2000);
        case.dialogues[0].name = "a header in pieces";
        let mut steps = Vec::new();
        for piece in header.chunks(header.len() / 2) {
            steps.extend([Step::Send(piece.to_vec()), Step::Idle(Duration::from_millis(300))]);
        }
        steps.push(Step::Send(pattern(1, 1500)));
        case.dialogues[0].steps.splice(0..1, steps);
        let case = accepting(case);
        assert_eq!(reference(&case).received, [pattern(1, 1500), pattern(2, 2000)]);
        assert_unnoticed(&case);
        assert_unnoticed(&case.with_slow_cluster());
    }
}

/// Who says something else, or closes before it has said who it is, is reset and counted, and no server hears of it.
#[test]
fn a_client_without_a_header_is_reset() {
    let header = with_tlv();
    let half = header[..header.len() / 2].to_vec();
    let wait = || Step::Idle(Duration::from_secs(2));
    for (name, steps) in [
        ("no header", vec![Step::Send(pattern(1, 3000)), wait(), Step::Close, Step::End]),
        ("half a header", vec![Step::Send(half), Step::Close, wait(), Step::End]),
        ("nothing", vec![Step::Close, wait(), Step::End]),
    ] {
        let mut case = up_and_down(name, steps, Vec::new());
        case.may_reset = true;
        let case = accepting(case);
        let mut world = case.start();
        world.run_for(Duration::from_secs(1));
        let stacks = world.nodes.iter().flat_map(|node| node.stacks());
        let counted: u64 = stacks.map(|stack| stack.counters().bad_header).sum();
        assert_eq!(counted, 1, "{name}");
        assert_unnoticed(&case);
        assert_unnoticed(&case.with_slow_cluster());
    }
}
