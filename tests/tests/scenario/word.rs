//! A word, its answer, the next word: whoever says one only when the last is acknowledged (Nagle's algorithm) is not kept
//! waiting by a node that acknowledges late.

use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::generate;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::client::Client;
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::kill::Case;
use tests::kit::settings::{ECHO, PROXY, Settings};
use tests::kit::world::World;

/// Words of each side.
const WORDS: usize = 60;

/// A word's length: far below a full segment.
const WORD_BYTES: usize = 50;

/// From one word to the next, with 100 us to every node and server, 70 us between the nodes, and records that linger for 250 us.
const TURN: Duration = Duration::from_millis(2);

/// One delayed acknowledgement, before it is known that the client waits, and the opening.
const BEGINNING: Duration = Duration::from_millis(50);

fn word(seed: usize) -> Vec<u8> {
    let mut bytes = vec![0; WORD_BYTES];
    generate::fill(seed as u64, 0, &mut bytes);
    bytes
}

/// Says so many words, each after the answer to the last.
fn asks() -> Vec<Step> {
    let turn = |n| [Step::Send(word(n)), Step::Receive((n + 1) * WORD_BYTES)];
    (0..WORDS).flat_map(turn).collect()
}

/// Answers them.
fn answers() -> Vec<Step> {
    let turn = |n| [Step::Receive((n + 1) * WORD_BYTES), Step::Send(word(n))];
    (0..WORDS).flat_map(turn).collect()
}

/// How long all words take.
fn time_of(case: &Case) -> Duration {
    let mut world = case.start();
    let before = world.now;
    let is_done = |world: &World| world.clients.iter().all(Client::is_done);
    assert!(world.run_until(Duration::from_secs(60), is_done), "{}", case.name);
    world.now.since(before)
}

#[test]
fn who_waits_for_an_acknowledgement_is_not_kept_waiting() {
    let mut cases = vec![Case::new(Dialogue::new("echo", ECHO, asks()))];
    for ack in [Ack::EndToEnd, Ack::Held] {
        let name = if ack == Ack::Held { "held" } else { "end to end" };
        let client = Dialogue::new(name, PROXY, asks());
        let mut case = Case::proxied(client, Dialogue::new("server", 0, answers()));
        for port in &mut case.settings.ports {
            port.app = AppConfig::Proxy(ack);
        }
        cases.push(case);
    }
    for mut case in cases {
        case.settings.split_records = false;
        let at_once = time_of(&case);
        case.client.nagle = true;
        case.servers.iter_mut().for_each(|(settings, _)| settings.nagle = true);
        let waiting = time_of(&case);
        println!("{}: {at_once:?}, and {waiting:?} of who waits", case.name);
        let most = Duration(BEGINNING.0 + WORDS as u64 * TURN.0);
        assert!(waiting <= most, "{}: {WORDS} words took {waiting:?}", case.name);
    }
}

/// RFC 7323 4.3: an answer tells its client how long ago he said what it answers, also where each acknowledges only the word
/// before. (Whoever takes his round trips from that would else have longer ones with each word.)
#[test]
fn words_that_the_next_answer_acknowledges_are_echoed_all_the_same() {
    const TURNS: u32 = 200;
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    let mut heard_last = 0;
    let mut bare = 0;
    for turn in 0..TURNS {
        let word = word(turn as usize);
        let (flags, words) = match turn {
            0 => (Flags::SYN, &[][..]),
            _ => (Flags::ACK.with(Flags::PSH), &word[..]),
        };
        world.raws[raw].options.mss = (turn == 0).then_some(1460);
        world.raws[raw].options.timestamps = Some((1_000 + turn, heard_last));
        world.say_raw(raw, flags, words);
        world.run_for(Duration::from_millis(1));
        for heard in world.raws[raw].take_all() {
            let (value, echo) = heard.options.timestamps.expect("agreed on");
            assert!(echo + 1 >= 1_000 + turn, "turn {turn}: {echo} is echoed");
            heard_last = value;
            bare += u32::from(turn > 0 && heard.payload.is_empty());
        }
    }
    assert_eq!(world.raws[raw].received.len(), (TURNS as usize - 1) * WORD_BYTES);
    assert!(bare <= TURNS / 20, "{bare} acknowledgements went alone");
}
