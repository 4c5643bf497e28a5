//! Clients that talk for as long as a story takes: a little at a time, each in its own way.

use crate::kit::client::{ClientSettings, Opener};
use crate::kit::dialogue::{Dialogue, Step};
use crate::kit::settings::{ECHO, HTTP, PROXY, Port, Settings};
use crate::kit::workload::Expected;
use crate::sim::server::{Kind, Order};
use crate::sim::workload::Caller;
use stack::generate;
use stack::sha256::Sha256;
use stack::time::Duration;

/// Bytes that are said, or read, at once.
const PIECE: usize = 300;
/// Turns of the longest talk.
const TURNS_MAX: u64 = 200;
/// The seed of what is downloaded.
const GENERATED: u64 = 5;

/// What goes between two pieces of a talk of so many milliseconds.
pub fn pause_ms(talk_ms: u64) -> u64 {
    talk_ms.div_ceil(TURNS_MAX)
}

/// One client of each kind over IPv4, and one over IPv6.
pub fn callers(services: &Settings, talk_ms: u64) -> Vec<Caller> {
    let pause = Duration::from_millis(pause_ms(talk_ms));
    let turns = (talk_ms / pause_ms(talk_ms)) as usize;
    let kinds = [download, upload, echo, proxied];
    let each = [false, true].into_iter().flat_map(|ipv6| kinds.map(|kind| (ipv6, kind)));
    each.map(|(ipv6, kind)| caller(services, ipv6, kind(turns, pause))).collect()
}

fn caller(services: &Settings, ipv6: bool, (dialogue, expected): (Dialogue, Expected)) -> Caller {
    let is_it = |port: &&Port| port.port == dialogue.port;
    let port = services.ports.iter().find(is_it).expect("a service for every talk");
    let settings = ClientSettings {
        // A download is not far ahead of its reader: it stands still as soon as nothing comes.
        receive_buffer: 5 * PIECE,
        ipv6,
        opener: Opener::Client,
        host: port.host,
        ..ClientSettings::default()
    };
    Caller {
        settings,
        is_proxied: dialogue.port == PROXY,
        dialogue,
        expected,
        lag: 0,
        is_abrupt: false,
        is_excused: false,
    }
}

/// Reads a little at a time.
fn download(turns: usize, pause: Duration) -> (Dialogue, Expected) {
    let len = turns * PIECE;
    let get = format!("GET /generate/{len}?seed={GENERATED} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut body = vec![0; len];
    generate::fill(GENERATED, 0, &mut body);
    let steps = [vec![Step::Send(get.into_bytes()), Step::Responses(1)], end()].concat();
    let dialogue = Dialogue::new("download", HTTP, steps);
    (Dialogue { reading: Some((PIECE, pause)), ..dialogue }, Expected::Body(body))
}

/// Says a little at a time, and is told in the end what has arrived.
fn upload(turns: usize, pause: Duration) -> (Dialogue, Expected) {
    let len = turns * PIECE;
    let body = said(turns);
    let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    let pieces = body.chunks(PIECE).flat_map(|piece| [say(piece), Step::Idle(pause)]);
    let steps = [Step::Send(head.into_bytes())].into_iter().chain(pieces);
    let steps = steps.chain([Step::Responses(1)]).chain(end()).collect();
    let receipt = Expected::Receipt(format!("length={len} sha256={hash}"));
    (Dialogue::new("upload", HTTP, steps), receipt)
}

/// Says a little, hears it again, and says more.
fn echo(turns: usize, pause: Duration) -> (Dialogue, Expected) {
    let body = said(turns);
    let steps = ping_pong(&body, pause, Vec::new());
    (Dialogue::new("echo", ECHO, steps), Expected::Bytes(body))
}

/// The same with a server behind the proxy.
fn proxied(turns: usize, pause: Duration) -> (Dialogue, Expected) {
    let body = said(turns);
    let order = Order { kind: Kind::Echo, len: body.len(), pause_ms: 0 };
    let steps = ping_pong(&body, pause, order.bytes().to_vec());
    (Dialogue::new("proxied", PROXY, steps), Expected::Bytes(body))
}

fn ping_pong(body: &[u8], pause: Duration, order: Vec<u8>) -> Vec<Step> {
    let turn = |(n, piece): (usize, &[u8])| {
        [say(piece), Step::Receive((n + 1) * PIECE), Step::Idle(pause)]
    };
    let turns = body.chunks(PIECE).enumerate().flat_map(turn);
    [Step::Send(order)].into_iter().chain(turns).chain(end()).collect()
}

fn say(piece: &[u8]) -> Step {
    Step::Send(piece.to_vec())
}

/// No two pieces are alike.
fn said(turns: usize) -> Vec<u8> {
    let mut bytes = vec![0; turns * PIECE];
    generate::fill(turns as u64, 0, &mut bytes);
    bytes
}

fn end() -> Vec<Step> {
    vec![Step::Close, Step::End, Step::Gone]
}
