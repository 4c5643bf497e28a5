//! Single connections of the client's kernel, driven step by step.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tools::demo::bed::{ECHO_ADDRESS, SERVICE_ADDRESS};
use tools::load::http::{ResponseHead, get_generated};
use tools::load::pattern;

use crate::scene::Scene;

/// Bytes of an answer, and of an echo.
const ANSWER: u64 = 10_000;
const ECHO: usize = 1_000;

/// Between two rounds of a [`Chat`].
const ROUND_EVERY: Duration = Duration::from_millis(5);

/// A connection to the http service.
pub struct Browser {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Browser {
    /// Connects and sends nothing.
    pub fn connect(scene: &Scene<'_>) -> Browser {
        Browser::at(scene.connect(SERVICE_ADDRESS, 80).unwrap())
    }

    /// Over a connection that is there.
    pub fn at(stream: TcpStream) -> Browser {
        Browser { stream, pending: Vec::new() }
    }

    /// Whether the connection is still there, though nobody says anything.
    pub fn try_end(&mut self) -> Result<(), io::ErrorKind> {
        self.stream.set_nonblocking(true).unwrap();
        let heard = self.stream.read(&mut [0; 1]);
        self.stream.set_nonblocking(false).unwrap();
        match heard {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.kind()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof),
        }
    }

    /// Sends the first half of a request.
    pub fn begin(&mut self, seed: u64) {
        let request = get_generated(SERVICE_ADDRESS, ANSWER, seed, false);
        let (first, second) = request.split_at(request.len() / 2);
        self.stream.write_all(first).unwrap();
        self.pending = second.to_vec();
    }

    /// Sends a request, or the rest of one, and checks every byte of the answer.
    pub fn get(&mut self, seed: u64) {
        if self.pending.is_empty() {
            self.pending = get_generated(SERVICE_ADDRESS, ANSWER, seed, false);
        }
        self.stream.write_all(&std::mem::take(&mut self.pending)).unwrap();
        let mut head = ResponseHead::default();
        let mut buffer = [0; 4096];
        let mut body = loop {
            let len = self.stream.read(&mut buffer).unwrap();
            assert!(len > 0, "closed before the answer");
            if let Some((answer, used)) = head.push(&buffer[..len]).unwrap() {
                assert_eq!((answer.status, answer.content_length), (200, ANSWER));
                break buffer[used..len].to_vec();
            }
        };
        let had = body.len();
        body.resize(ANSWER as usize, 0);
        self.stream.read_exact(&mut body[had..]).unwrap();
        assert_eq!(pattern::first_difference(seed, 0, &body), None);
    }
}

/// A connection to the echo service.
pub fn connect_echo(scene: &Scene<'_>) -> TcpStream {
    scene.connect(ECHO_ADDRESS, 7).unwrap()
}

/// Sends bytes and expects them back.
pub fn echo(stream: &mut TcpStream, seed: u64) -> io::Result<()> {
    let mut sent = [0; ECHO];
    pattern::fill(seed, 0, &mut sent);
    stream.write_all(&sent)?;
    let mut returned = [0; ECHO];
    stream.read_exact(&mut returned)?;
    assert_eq!(pattern::first_difference(seed, 0, &returned), None);
    Ok(())
}

/// An echo connection that never rests, on a thread of its own.
pub struct Chat {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Chat {
    /// Begins to chat.
    pub fn start(mut stream: TcpStream) -> Chat {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !told.load(Ordering::Relaxed) {
                echo(&mut stream, rounds)?;
                rounds += 1;
                thread::sleep(ROUND_EVERY);
            }
            Ok(rounds)
        });
        Chat { over, thread }
    }

    /// Ends it; every byte must have come back. Returns the number of rounds.
    pub fn finish(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}
