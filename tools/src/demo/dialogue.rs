//! Long dialogues with real servers: `redis-cli`, `ssh`, and a WebSocket client. Each says something every few
//! milliseconds and compares what comes back; none connects twice.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;
use tungstenite::{Message, WebSocket};

use super::bed::{Bed, Place};
use super::servers::{REDIS, SSH, SSH_KEY, WEBSOCKET};
use crate::load::pattern;
use crate::load::report::{ConnectionReport, Kind, Outcome};
use crate::load::series::Series;
use crate::load::track::Track;
use crate::load::wire::{monotonic_ns, outcome_of};

/// Dialogues of each kind.
const EACH: u64 = 4;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between an answer and what is said next.
const PAUSE: Duration = Duration::from_millis(5);

/// Random-looking bytes in each line that comes back as it was said.
const LINE_BYTES: usize = 200;

/// What the client says of a key of its own: redis counts, so a command that was lost or repeated shows in every
/// answer that follows.
const COUNT: &str = "INCR dialogue:";

/// Which connection of the server it is: the same at the end, or the client has silently connected again.
const WHO: &str = "CLIENT ID";

/// The running dialogues.
#[derive(Debug)]
pub struct Dialogues {
    threads: Vec<JoinHandle<(ConnectionReport, Series)>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    is_over: AtomicBool,
    /// Dialogues that have had an answer.
    moving: AtomicU64,
    failed: AtomicU64,
    /// Hears `true` of each that has had one, and `false` of each that fails.
    begun: Sender<bool>,
}

impl Shared {
    fn new(begun: Sender<bool>) -> Shared {
        let (moving, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Shared { is_over: AtomicBool::new(false), moving, failed, begun }
    }

    fn note_begun(&self) {
        self.moving.fetch_add(1, Ordering::Relaxed);
        // Nobody listens any more once all have begun.
        let _ = self.begun.send(true);
    }

    fn note_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let _ = self.begun.send(false);
    }
}

/// One end of a dialogue.
trait Speaker {
    /// Says a line; answers the line that comes back.
    fn say(&mut self, line: &str) -> io::Result<String>;
    /// Ends in good order.
    fn end(self: Box<Self>) -> io::Result<()>;
}

type Connect = Box<dyn FnOnce() -> io::Result<Box<dyn Speaker>> + Send>;

impl Dialogues {
    /// Nobody speaks.
    pub fn none() -> Dialogues {
        Dialogues { threads: Vec::new(), shared: Arc::new(Shared::new(mpsc::channel().0)) }
    }

    /// Begins all of them and waits until each has had an answer; clients write their complaints to `dir`.
    pub fn begin(bed: &Bed, dir: &Path) -> anyhow::Result<Dialogues> {
        let (say, begun) = mpsc::channel();
        let dialogues = Dialogues::start(bed, dir, Shared::new(say));
        let limit = Instant::now() + PATIENCE;
        let count = dialogues.threads.len();
        for speaking in 0..count {
            let left = limit.saturating_duration_since(Instant::now());
            if begun.recv_timeout(left) != Ok(true) {
                let mut failures = Vec::new();
                dialogues.finish(|report, _| failures.extend(report.note));
                bail!("{speaking} of {count} dialogues have begun: {}", failures.join("; "));
            }
        }
        Ok(dialogues)
    }

    fn start(bed: &Bed, dir: &Path, shared: Shared) -> Dialogues {
        let shared = Arc::new(shared);
        let mut threads = Vec::new();
        for id in 1..=EACH {
            let redis = piped(redis_cli(bed), dir.join(format!("redis-cli{id}.log")));
            let ssh = piped(ssh(bed, dir), dir.join(format!("ssh{id}.log")));
            let all = [(Kind::Redis, redis), (Kind::Ssh, ssh), (Kind::WebSocket, web_socket(bed))];
            for (kind, connect) in all {
                let shared = shared.clone();
                threads.push(thread::spawn(move || hold(connect, kind, id, &shared)));
            }
        }
        Dialogues { threads, shared }
    }

    /// How many have had an answer, and how many have failed.
    pub fn progress(&self) -> (u64, u64) {
        let Shared { moving, failed, .. } = &*self.shared;
        (moving.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// Ends them; each says something once more before, and `tell` hears what became of it.
    pub fn finish(self, mut tell: impl FnMut(ConnectionReport, Series)) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            match thread.join() {
                Ok((report, series)) => tell(report, series),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }
}

/// One dialogue from its beginning to its end.
fn hold(connect: Connect, kind: Kind, id: u64, shared: &Shared) -> (ConnectionReport, Series) {
    let begin = monotonic_ns();
    let mut series = Series::new(begin);
    let mut track = Track::new(begin, kind, id);
    let told =
        connect().and_then(|speaker| speak(speaker, kind, id, shared, &mut track, &mut series));
    let now = monotonic_ns();
    match told {
        Ok(()) => track.end(now, Outcome::Survived, None),
        Err(error) => {
            shared.note_failed();
            let outcome = match error.kind() {
                ErrorKind::InvalidData => Outcome::WrongBytes,
                ErrorKind::WouldBlock => Outcome::Stalled,
                _ => outcome_of(&error),
            };
            track.end(now, outcome, Some(error.to_string()));
        }
    }
    (track.report(now), series)
}

/// Speaks until it is over.
fn speak(
    mut speaker: Box<dyn Speaker>,
    kind: Kind,
    id: u64,
    shared: &Shared,
    track: &mut Track,
    series: &mut Series,
) -> io::Result<()> {
    let who = if kind == Kind::Redis { Some(speaker.say(WHO)?) } else { None };
    for round in 1.. {
        let is_last = shared.is_over.load(Ordering::Relaxed);
        let (line, expected) = words(kind, id, round);
        let answer = speaker.say(&line)?;
        expect(&answer, &expected)?;
        track.progress(monotonic_ns(), (line.len() + answer.len()) as u64, series);
        if round == 1 {
            shared.note_begun();
        }
        if is_last {
            break;
        }
        thread::sleep(PAUSE);
    }
    if let Some(who) = who {
        expect(&speaker.say(WHO)?, &who)?;
    }
    speaker.end()
}

/// What is said in a round, and what must come back.
fn words(kind: Kind, id: u64, round: u64) -> (String, String) {
    if kind == Kind::Redis {
        return (format!("{COUNT}{id}"), round.to_string());
    }
    let mut bytes = [0; LINE_BYTES];
    pattern::fill(id, round * LINE_BYTES as u64, &mut bytes);
    let line = format!("{round} {}", pattern::hex(&bytes));
    (line.clone(), line)
}

fn expect(answer: &str, expected: &str) -> io::Result<()> {
    if answer == expected {
        return Ok(());
    }
    let message = format!("{answer:?} came back, expected {expected:?}");
    Err(io::Error::new(ErrorKind::InvalidData, message))
}

fn redis_cli(bed: &Bed) -> Command {
    let mut command = bed.command(Place::Client, "redis-cli");
    command.args(["-h", REDIS.address, "-p", &REDIS.port.to_string()]);
    command
}

fn ssh(bed: &Bed, dir: &Path) -> Command {
    let mut command = bed.command(Place::Client, "ssh");
    command.args(["-F", "/dev/null", "-T", "-p", &SSH.port.to_string(), "-i"]);
    command.arg(dir.join(SSH_KEY));
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ] {
        command.args(["-o", option]);
    }
    command.arg(format!("root@{}", SSH.address));
    command
}

/// A program that says what it reads.
struct Piped {
    child: Child,
    said: UnixStream,
    heard: BufReader<UnixStream>,
}

fn piped(mut command: Command, log: PathBuf) -> Connect {
    Box::new(move || {
        // Not a pipe: reading a socket can time out.
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let stdout = OwnedFd::from(theirs.try_clone()?);
        command.stdin(OwnedFd::from(theirs)).stdout(stdout).stderr(File::create(log)?);
        let child = command.spawn()?;
        // What the command keeps open would hide the child's end.
        drop(command);
        let heard = BufReader::new(ours.try_clone()?);
        Ok(Box::new(Piped { child, said: ours, heard }))
    })
}

impl Speaker for Piped {
    fn say(&mut self, line: &str) -> io::Result<String> {
        self.said.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        if self.heard.read_line(&mut answer)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.trim_end().to_string())
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.said.shutdown(Shutdown::Write)?;
        let mut rest = String::new();
        self.heard.read_line(&mut rest)?;
        expect(&rest, "")?;
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("it ended with {status}"))),
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn web_socket(bed: &Bed) -> Connect {
    let namespace = Path::new("/run/netns").join(bed.namespace(Place::Client));
    Box::new(move || {
        dataplane::sys::enter_network_namespace(&namespace)?;
        let address = WEBSOCKET.address.parse().map_err(io::Error::other)?;
        let to = SocketAddr::new(address, WEBSOCKET.port);
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let url = format!("ws://{to}/");
        let (socket, _) = tungstenite::client(url, stream).map_err(io::Error::other)?;
        Ok(Box::new(socket))
    })
}

impl Speaker for WebSocket<TcpStream> {
    fn say(&mut self, line: &str) -> io::Result<String> {
        self.send(Message::text(line)).map_err(io_error)?;
        match self.read().map_err(io_error)? {
            Message::Text(answer) => Ok(answer.trim_end().to_string()),
            other => Err(io::Error::new(ErrorKind::InvalidData, format!("{other:?} came back"))),
        }
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.close(None).map_err(io_error)?;
        loop {
            match self.read() {
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
                Err(error) => return Err(io_error(error)),
            }
        }
    }
}

fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_ends_in_good_order_or_says_what_was_wrong() {
        let dir = std::env::temp_dir();
        let log = dir.join(format!("understudy-dialogue-{}", std::process::id()));
        let told = |program: &str, kind| {
            let mut command = Command::new("sh");
            command.args(["-c", program]);
            let (say, begun) = mpsc::channel();
            let shared = Shared::new(say);
            let (mut track, mut series) = (Track::new(0, kind, 1), Series::new(0));
            let connect = piped(command, log.clone());
            thread::scope(|scope| {
                let dialogue = scope.spawn(|| {
                    let told = speak(connect()?, kind, 1, &shared, &mut track, &mut series);
                    told.inspect_err(|_| shared.note_failed())
                });
                begun.recv().unwrap();
                shared.is_over.store(true, Ordering::Relaxed);
                dialogue.join().unwrap().map_err(|error| error.kind())
            })
        };
        assert_eq!(told("cat", Kind::Ssh), Ok(()));
        assert_eq!(told("cat; exit 1", Kind::Ssh), Err(ErrorKind::Other));
        assert_eq!(told("cat", Kind::Redis), Err(ErrorKind::InvalidData));
        assert_eq!(told("read line", Kind::Ssh), Err(ErrorKind::UnexpectedEof));
        std::fs::remove_file(log).unwrap();
    }
}
