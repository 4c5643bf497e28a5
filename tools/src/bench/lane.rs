//! One client: a connection, and the exchange that is under way on it.

use std::net::SocketAddrV4;

use crate::load::http::ResponseHead;
use crate::load::pattern;
use crate::load::wire::{Step, Wire};

/// What a client says, and what it must hear.
#[derive(Debug, Clone)]
pub enum Talk {
    /// A request and a whole answer with status 200.
    Http {
        /// Head of the request.
        request: Vec<u8>,
        /// The server closes the connection behind its answer.
        closes: bool,
    },
    /// Bytes that differ in each exchange, and the same ones back.
    Echo {
        /// How many.
        bytes: usize,
    },
}

/// What an event came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing that the pool would have to know.
    Later,
    /// The answer is complete.
    Answered,
    /// The answer was complete before, and now the other side has closed.
    Closed,
    /// It went wrong, in words.
    Failed(String),
}

/// How far the answer is.
#[derive(Debug)]
enum Answer {
    /// Its head is coming.
    Head(ResponseHead),
    /// So many bytes are still to come.
    Body(u64),
    /// All of it is here.
    Whole,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    wire: Wire,
    /// From when the exchange under way counts.
    pub due_ns: u64,
    /// Nothing else may begin on it.
    pub is_taken: bool,
    message: Vec<u8>,
    unsent: usize,
    answer: Answer,
}

impl Lane {
    /// Begins to connect.
    pub fn connect(target: SocketAddrV4) -> std::io::Result<Lane> {
        let wire = Wire::connect(target, None)?;
        let (message, answer) = (Vec::new(), Answer::Whole);
        Ok(Lane { wire, due_ns: 0, is_taken: false, message, unsent: 0, answer })
    }

    /// Whether an answer is still to come.
    pub fn awaits(&self) -> bool {
        !matches!(self.answer, Answer::Whole)
    }

    /// The socket.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Begins the exchange of this number. What does not fit now is written when there is room.
    pub fn begin(&mut self, talk: &Talk, number: u64, due_ns: u64) -> Turn {
        (self.due_ns, self.is_taken) = (due_ns, true);
        match talk {
            Talk::Http { request, .. } => {
                self.message.clone_from(request);
                self.answer = Answer::Head(ResponseHead::default());
            }
            Talk::Echo { bytes } => {
                self.message.resize(*bytes, 0);
                pattern::fill(number, 0, &mut self.message);
                self.answer = Answer::Body(*bytes as u64);
            }
        }
        self.unsent = self.message.len();
        self.write()
    }

    /// Something happened on the socket.
    pub fn ready(&mut self, talk: &Talk, buffer: &mut [u8]) -> Turn {
        if let Turn::Failed(why) = self.write() {
            return Turn::Failed(why);
        }
        loop {
            match self.wire.read(buffer) {
                Step::Bytes(len) => match self.take(talk, &buffer[..len]) {
                    Turn::Later => {}
                    turn => return turn,
                },
                Step::Later => return Turn::Later,
                Step::Closed if matches!(self.answer, Answer::Whole) => return Turn::Closed,
                Step::Closed => return Turn::Failed("closed before the answer was whole".into()),
                Step::Failed(error) => return Turn::Failed(error.to_string()),
            }
        }
    }

    fn write(&mut self) -> Turn {
        while self.unsent > 0 {
            match self.wire.write(&self.message[self.message.len() - self.unsent..]) {
                Step::Bytes(len) => self.unsent -= len,
                Step::Later | Step::Closed => break,
                Step::Failed(error) => return Turn::Failed(error.to_string()),
            }
        }
        Turn::Later
    }

    fn take(&mut self, talk: &Talk, bytes: &[u8]) -> Turn {
        let mut rest = bytes;
        if let Answer::Head(head) = &mut self.answer {
            match head.push(rest) {
                Ok(None) => return Turn::Later,
                Ok(Some((answer, _))) if answer.status != 200 => {
                    return Turn::Failed(format!("answered with status {}", answer.status));
                }
                Ok(Some((answer, used))) => {
                    rest = &rest[used..];
                    self.answer = Answer::Body(answer.content_length);
                }
                Err(why) => return Turn::Failed(why),
            }
        }
        let Answer::Body(left) = &mut self.answer else {
            return Turn::Failed("more bytes than were asked for".into());
        };
        let Some(then_left) = left.checked_sub(rest.len() as u64) else {
            return Turn::Failed("more bytes than were asked for".into());
        };
        if let Talk::Echo { bytes } = talk {
            let from = *bytes - *left as usize;
            if self.message[from..from + rest.len()] != *rest {
                return Turn::Failed("an echo came back different".into());
            }
        }
        *left = then_left;
        if then_left > 0 {
            return Turn::Later;
        }
        self.answer = Answer::Whole;
        Turn::Answered
    }
}
