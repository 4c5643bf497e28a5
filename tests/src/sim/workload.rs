//! Who connects in a story, what is said, and what must have been heard in the end.

use crate::kit::client::{ClientSettings, Opener};
use crate::kit::dialogue::{Dialogue, Step};
use crate::kit::random::Random;
use crate::kit::settings::{ECHO, HTTP_IMPATIENT, PROXY, Port, Settings};
use crate::kit::workload::{self, Expected};
use crate::sim::fault::MS;
use crate::sim::server::{Kind, Order};
use stack::time::Duration;

/// One client, as it is drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Its TCP.
    pub settings: ClientSettings,
    /// What it says and waits for.
    pub dialogue: Dialogue,
    /// What it must have received in the end.
    pub expected: Expected,
    /// How long its caches take to believe an announcement, in nanoseconds.
    pub lag: u64,
    /// It resets its connection in the end, and may not have heard everything.
    pub is_abrupt: bool,
    /// It may be reset, whatever happens.
    pub is_excused: bool,
    /// Its connection is passed on to a server.
    pub is_proxied: bool,
}

/// Draws a client of any of the services.
pub fn draw(random: &mut Random, services: &Settings) -> Caller {
    let is_proxied = services.servers > 0 && random.permille(400);
    let is_unfinished = !is_proxied && services.serves(HTTP_IMPATIENT) && random.permille(200);
    // So that some are under way for long where they may stay behind at another node.
    let is_long = services.generations > 1 && random.permille(40);
    let (mut dialogue, expected) = match (is_proxied, is_unfinished) {
        (true, _) => draw_proxied(random),
        (_, true) => draw_unfinished(random),
        _ if is_long => workload::draw_long(random),
        _ => workload::draw(random),
    };
    let is_abrupt = !is_unfinished && random.permille(80);
    if !is_unfinished {
        vary(random, &mut dialogue, is_abrupt);
    }
    let is_it = |port: &&Port| port.port == dialogue.port;
    let port = services.ports.iter().find(is_it).expect("a service for every dialogue");
    let settings = ClientSettings {
        receive_buffer: 1500 << random.below(5),
        send_buffer: 1500 << random.below(5),
        timestamps: random.permille(500),
        ipv6: random.permille(300),
        opener: Opener::Client,
        host: port.second.filter(|_| random.permille(500)).unwrap_or(port.host),
        ..ClientSettings::default()
    };
    let lag = random.below(5 * MS);
    // A time-out of a promoted flow says nothing but RST: its former owner may have answered already.
    let is_excused = is_unfinished;
    Caller { settings, dialogue, expected, lag, is_abrupt, is_excused, is_proxied }
}

/// Turns some dialogues: closed by half before the answer, with a time in which nothing is read, ended by a reset.
fn vary(random: &mut Random, dialogue: &mut Dialogue, is_abrupt: bool) {
    let steps = &mut dialogue.steps;
    let position = |steps: &[Step], is_it: fn(&Step) -> bool| steps.iter().position(is_it);
    let waits = |step: &Step| matches!(step, Step::Receive(_) | Step::Responses(_));
    let at = position(steps, waits).expect("every dialogue waits for its answer");
    if random.permille(150) {
        steps.insert(at, Step::Pause(Duration::from_millis(1 + random.below(300))));
    } else if random.permille(150) {
        let close = position(steps, |step| *step == Step::Close).expect("every dialogue closes");
        let close = steps.remove(close);
        steps.insert(at, close);
    }
    if is_abrupt {
        let keep = random.below(steps.len() as u64) as usize;
        steps.truncate(keep.max(1));
        steps.push(Step::Abort);
    }
}

/// Draws one of a crowd: it says a word, stays for a while, says another one and goes.
pub fn draw_stayer(random: &mut Random, services: &Settings) -> Caller {
    let len = 1 + random.below(8) as usize;
    let (first, second) = (random.bytes(len), random.bytes(2));
    let steps = vec![
        Step::Send(first.clone()),
        Step::Receive(first.len()),
        Step::Pause(Duration::from_millis(100 + random.below(1500))),
        Step::Send(second.clone()),
        Step::Receive(first.len() + second.len()),
        Step::Close,
        Step::End,
        Step::Gone,
    ];
    let port = services.ports.iter().find(|port| port.port == ECHO).expect("there is an echo");
    let settings = ClientSettings {
        timestamps: random.permille(500),
        ipv6: random.permille(300),
        opener: Opener::Client,
        host: port.host,
        ..ClientSettings::default()
    };
    Caller {
        settings,
        dialogue: Dialogue::new("stays", ECHO, steps),
        expected: Expected::Bytes([first, second].concat()),
        lag: random.below(5 * MS),
        is_abrupt: false,
        is_excused: false,
        is_proxied: false,
    }
}

/// A dialogue with a server behind the proxy.
fn draw_proxied(random: &mut Random) -> (Dialogue, Expected) {
    let len = match random.permille(300) {
        true => 1 + random.below(100) as usize,
        false => 1 + random.below(40_000) as usize,
    };
    let kind = [Kind::Echo, Kind::Generate, Kind::Digest][random.below(3) as usize];
    let pause_ms = if random.permille(300) { 1 + random.below(400) as u16 } else { 0 };
    let order = Order { kind, len, pause_ms };
    let said = match kind {
        Kind::Generate => Vec::new(),
        Kind::Echo | Kind::Digest => random.bytes(len),
    };
    let expected = order.answer(&said);
    let heard = expected.len();
    let order = Step::Send([&order.bytes()[..], &said].concat());
    // Whoever knows that it will take a while may close its side at once.
    let answer = match pause_ms > 0 && random.permille(500) {
        true => [Step::Close, Step::Receive(heard)],
        false => [Step::Receive(heard), Step::Close],
    };
    let steps = [vec![order], answer.into(), vec![Step::End, Step::Gone]].concat();
    let reading = random
        .permille(300)
        .then(|| (500 + random.below(2000) as usize, Duration::from_micros(random.below(3000))));
    let dialogue = Dialogue { reading, ..Dialogue::new("proxied", PROXY, steps) };
    (dialogue, Expected::Bytes(expected))
}

/// A request of which the rest never comes: it is answered all the same, after a while.
fn draw_unfinished(random: &mut Random) -> (Dialogue, Expected) {
    let request = match random.permille(500) {
        true => "GET /generate/10 HT",
        false => "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nand so on",
    };
    let steps = vec![Step::Send(request.into()), Step::End, Step::Close, Step::Gone];
    (Dialogue::new("unfinished", HTTP_IMPATIENT, steps), Expected::Status(408))
}
