//! What a client says and waits for: a list of steps.

use smoltcp::socket::tcp::{Socket, State};
use stack::time::{Duration, Instant};

/// One step of a dialogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Says these bytes; done when they are in the send buffer.
    Send(Vec<u8>),
    /// Until so many bytes have been received in all.
    Receive(usize),
    /// Until so many whole HTTP responses have been received in all.
    Responses(usize),
    /// Until everything said is acknowledged.
    Acknowledged,
    /// Until the node has closed its side.
    End,
    /// Closes the own side.
    Close,
    /// Resets the connection.
    Abort,
    /// Does nothing, and reads nothing, for a while.
    Pause(Duration),
    /// Does nothing for a while, but reads.
    Idle(Duration),
    /// Until the socket has forgotten the connection or waits in TIME-WAIT.
    Gone,
}

/// A dialogue with the service behind one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dialogue {
    /// For messages.
    pub name: &'static str,
    /// The port.
    pub port: u16,
    /// What happens.
    pub steps: Vec<Step>,
    /// So many bytes are read at once, then nothing for so long.
    pub reading: Option<(usize, Duration)>,
}

impl Dialogue {
    /// A dialogue that reads as fast as it can.
    pub fn new(name: &'static str, port: u16, steps: Vec<Step>) -> Dialogue {
        Dialogue { name, port, steps, reading: None }
    }
}

impl Step {
    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Send(_) => "send",
            Step::Receive(_) => "receive",
            Step::Responses(_) => "responses",
            Step::Acknowledged => "acknowledged",
            Step::End => "end",
            Step::Close => "close",
            Step::Abort => "abort",
            Step::Pause(_) => "pause",
            Step::Idle(_) => "idle",
            Step::Gone => "gone",
        }
    }

    pub(super) fn reads(&self) -> bool {
        !matches!(self, Step::Pause(_))
    }
}

/// How far a dialogue has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub step: usize,
    /// Bytes of the present `Send` that are in the send buffer.
    pub sent: usize,
    pub resume_at: Instant,
    /// When the next read is allowed.
    pub read_at: Instant,
}

impl Progress {
    /// Reads what is there and allowed; whether that was anything.
    pub fn read(
        &mut self,
        now: Instant,
        socket: &mut Socket,
        received: &mut Vec<u8>,
        dialogue: &Dialogue,
    ) -> bool {
        let mut buffer = [0; 4096];
        let most = dialogue.reading.map_or(buffer.len(), |(bytes, _)| bytes.min(buffer.len()));
        let mut any = false;
        while let Ok(n) = socket.recv_slice(&mut buffer[..most]) {
            if n == 0 {
                break;
            }
            any = true;
            received.extend_from_slice(&buffer[..n]);
            if let Some((_, pause)) = dialogue.reading {
                self.read_at = now + pause;
                self.resume_at = self.read_at;
                break;
            }
        }
        any
    }

    /// Does what `step` allows now.
    pub fn play(&mut self, now: Instant, step: &Step, socket: &mut Socket, received: &[u8]) {
        let is_done = match step {
            Step::Send(bytes) => {
                if socket.may_send() {
                    self.sent += socket.send_slice(&bytes[self.sent..]).unwrap_or(0);
                }
                self.sent == bytes.len()
            }
            Step::Receive(len) => received.len() >= *len,
            Step::Responses(count) => responses(received) >= *count,
            Step::Acknowledged => socket.send_queue() == 0,
            Step::End => !socket.may_recv() && is_over_or_half(socket.state()),
            Step::Close => {
                let is_open = !matches!(socket.state(), State::Listen | State::SynSent);
                if is_open {
                    socket.close();
                }
                is_open
            }
            Step::Abort => {
                socket.abort();
                true
            }
            Step::Pause(time) | Step::Idle(time) => {
                if self.sent == 0 {
                    (self.sent, self.resume_at) = (1, now + *time);
                }
                now >= self.resume_at
            }
            Step::Gone => matches!(socket.state(), State::Closed | State::TimeWait),
        };
        if is_done {
            self.step += 1;
            self.sent = 0;
        }
    }
}

fn is_over_or_half(state: State) -> bool {
    matches!(
        state,
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
    )
}

/// Whole responses at the beginning of `bytes`, as far as their heads give a length.
pub fn responses(bytes: &[u8]) -> usize {
    bodies(bytes).len()
}

/// The bodies of the whole responses at the beginning of `bytes`.
pub fn bodies(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let Some(body) = bytes.get(end + 4..end + 4 + length) else { break };
        bodies.push(body);
        bytes = &bytes[end + 4 + length..];
    }
    bodies
}
