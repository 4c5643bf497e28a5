//! Dialogues that a seed decides on, and what their clients must have received in the end.

use crate::kit::dialogue::{Dialogue, Step, bodies};
use crate::kit::random::Random;
use crate::kit::settings::{ECHO, GENERATE_STAY, GENERATED, HTTP};
use stack::generate;
use stack::sha256::Sha256;
use stack::time::Duration;

/// What a client must have received in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// One HTTP response with this body.
    Body(Vec<u8>),
    /// One HTTP response that says this.
    Receipt(String),
    /// One HTTP response with this status; or nothing, if what was asked came too late.
    Status(u16),
}

/// What an HTTP response with this status begins with.
fn status_line(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} ").into_bytes()
}

impl Expected {
    /// Whether `received` is all of it and nothing else.
    pub fn is_all_of(&self, received: &[u8]) -> bool {
        match self {
            Expected::Bytes(bytes) => received == bytes,
            Expected::Body(body) => bodies(received) == [&body[..]],
            Expected::Receipt(text) => {
                matches!(bodies(received)[..], [body] if body.trim_ascii() == text.as_bytes())
            }
            Expected::Status(status) => {
                let is_answer = received.starts_with(&status_line(*status));
                received.is_empty() || is_answer && bodies(received).len() == 1
            }
        }
    }

    /// Bytes of `received` that are other ones than they should be, or too many.
    pub fn wrong_bytes(&self, received: &[u8]) -> usize {
        let body = &received[begin_of_body(received)..];
        let (whole, said) = match self {
            Expected::Bytes(bytes) => (&bytes[..], received),
            Expected::Body(whole) => (&whole[..], body),
            Expected::Receipt(text) => (text.as_bytes(), body.trim_ascii_end()),
            Expected::Status(_) => return usize::from(!self.begins_with(received)),
        };
        let other = whole.iter().zip(said).filter(|(one, other)| one != other).count();
        other + said.len().saturating_sub(whole.len())
    }

    /// Whether `received` may be what has arrived so far.
    pub fn begins_with(&self, received: &[u8]) -> bool {
        // The head is not ours to know; what is behind it is.
        let whole = match self {
            Expected::Bytes(bytes) => return bytes.starts_with(received),
            Expected::Status(status) => {
                let line = status_line(*status);
                return line.iter().zip(received).all(|(one, other)| one == other);
            }
            Expected::Body(body) => body,
            Expected::Receipt(text) => text.as_bytes(),
        };
        let body = &received[begin_of_body(received)..];
        whole.starts_with(body.trim_ascii_end()) || whole.starts_with(body)
    }
}

/// Where the body of an HTTP response begins, if its head is complete; else behind everything.
fn begin_of_body(received: &[u8]) -> usize {
    let head = received.windows(4).position(|end| end == b"\r\n\r\n");
    head.map_or(received.len(), |at| at + 4)
}

/// So many bytes are uploaded, and what must have come back for them.
fn upload(random: &mut Random, len: usize) -> (u16, Vec<Step>, Expected) {
    let body = random.bytes(len);
    let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    let bytes = [head.into_bytes(), body].concat();
    let receipt = Expected::Receipt(format!("length={len} sha256={hash}"));
    (HTTP, vec![Step::Send(bytes), Step::Responses(1)], receipt)
}

/// Draws an upload of many times what is under way at once.
pub fn draw_long(random: &mut Random) -> (Dialogue, Expected) {
    let len = 60_000 + random.below(200_000) as usize;
    let (port, mut steps, expected) = upload(random, len);
    steps.extend([Step::Close, Step::End, Step::Gone]);
    (Dialogue::new("long", port, steps), expected)
}

/// Draws a download, an upload, a dialogue or a stream.
pub fn draw(random: &mut Random) -> (Dialogue, Expected) {
    let len = 1 + random.below(40_000) as usize;
    let (port, mut steps, expected) = match random.below(4) {
        0 => {
            let get = format!("GET /generate/{len}?seed=5 HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut body = vec![0; len];
            generate::fill(5, 0, &mut body);
            (HTTP, vec![Step::Send(get.into_bytes()), Step::Responses(1)], Expected::Body(body))
        }
        1 => upload(random, len),
        2 => {
            let bytes = random.bytes(len);
            let steps = vec![Step::Send(bytes.clone()), Step::Receive(len)];
            (ECHO, steps, Expected::Bytes(bytes))
        }
        _ => {
            let mut bytes = vec![0; GENERATED.1 as usize];
            generate::fill(GENERATED.0, 0, &mut bytes);
            (GENERATE_STAY, vec![Step::Receive(bytes.len())], Expected::Bytes(bytes))
        }
    };
    if random.permille(300) {
        steps.push(Step::Idle(Duration::from_millis(random.below(400))));
    }
    steps.extend([Step::Close, Step::End, Step::Gone]);
    let reading = random
        .permille(300)
        .then(|| (500 + random.below(2000) as usize, Duration::from_micros(random.below(3000))));
    (Dialogue { reading, ..Dialogue::new("drawn", port, steps) }, expected)
}
