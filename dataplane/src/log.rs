//! What a node says of itself: lines for people, JSON for programs, or fields for the journal.
//!
//! Whoever has something to say puts a record into a bounded queue and goes on; a thread of its own writes. A queue
//! that is full drops the record, and the next one that is written says how many are missing: nobody ever waits for
//! a terminal, a disk or the journal. Poll cores say nothing here but that they end.
//!
//! Before [`start`], and in a process that never calls it, records go to standard error at once.
//!
//! Bounds: [`RECORDS_MAX`] records wait; at the end the node waits [`PATIENCE`] for them to be written.
//! Spec: the journal's native protocol (systemd, JOURNAL_NATIVE_PROTOCOL).

use crate::config::{self, LogFormat, LogTarget};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Records that wait to be written.
pub const RECORDS_MAX: usize = 4096;

/// How long the end of a node may wait for a log that nobody takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How much a record matters, as syslog numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Something does not work.
    Error = 3,
    /// Something will not, or works less well than it should.
    Warning = 4,
    /// Something happened that an operator wants to know.
    Notice = 5,
    /// Something happened.
    Info = 6,
}

/// Something that is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// What it is about, by name.
    pub fields: Vec<(&'static str, String)>,
}

impl Record {
    /// A record without fields.
    pub fn new(level: Level, message: impl Into<String>) -> Record {
        Record { level, message: message.into(), fields: Vec::new() }
    }

    /// With a field more. Names are lower case letters and `_`.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Record {
        self.fields.push((name, value.to_string()));
        self
    }

    /// Says it.
    pub fn say(self) {
        match QUEUE.get() {
            Some(queue) => queue.put(self),
            // If that fails there is nobody left to tell.
            None => drop(write(&mut io::stderr(), LogFormat::Text, now_us(), &self)),
        }
    }
}

/// Says that something does not work.
pub fn error(message: impl Into<String>) {
    Record::new(Level::Error, message).say();
}

/// Says that something works less well than it should.
pub fn warning(message: impl Into<String>) {
    Record::new(Level::Warning, message).say();
}

/// Says that something happened that an operator wants to know.
pub fn notice(message: impl Into<String>) {
    Record::new(Level::Notice, message).say();
}

/// Records that were dropped because the queue was full, or could not be written.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

struct Queue {
    records: Sender<Message>,
    dropped: AtomicU64,
}

enum Message {
    /// Said at that time.
    Record(u64, Record),
    /// Nothing more is said.
    End,
}

impl Queue {
    fn put(&self, record: Record) {
        if self.records.try_send(Message::Record(now_us(), record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writing thread; what waits is written before this is dropped, if anybody takes it.
pub struct Log {
    records: Sender<Message>,
    /// Closed when everything is written.
    written: Receiver<()>,
}

/// Writes from now on as the configuration says. Fails where the journal is wanted and does not listen.
pub fn start(config: &config::Log) -> io::Result<Log> {
    let mut output = Output::open(config)?;
    let (records, queue) = bounded(RECORDS_MAX);
    let (writing, written) = bounded::<()>(0);
    if QUEUE.set(Queue { records: records.clone(), dropped: AtomicU64::new(0) }).is_err() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this process has a log already"));
    }
    let body = move || {
        let _writing = writing;
        run(&queue, &mut output, &QUEUE.get().expect("set above").dropped);
    };
    thread::Builder::new().name("log".into()).spawn(body)?;
    Ok(Log { records, written })
}

impl Drop for Log {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE;
        if self.records.send_deadline(Message::End, until).is_ok() {
            let _ = self.written.recv_deadline(until);
        }
    }
}

/// Writes what comes until the end, and how much is missing.
fn run(queue: &Receiver<Message>, output: &mut Output, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(Message::Record(at_us, record)) = queue.recv() {
        let missing = dropped.load(Ordering::Relaxed);
        if missing > told {
            let message =
                format!("{} records are missing: nobody took them in time", missing - told);
            if output.write(at_us, &Record::new(Level::Warning, message)).is_ok() {
                told = missing;
            }
        }
        if output.write(at_us, &record).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

enum Output {
    Stderr(LogFormat),
    Journal(UnixDatagram),
}

impl Output {
    fn open(config: &config::Log) -> io::Result<Output> {
        match config.target {
            LogTarget::Stderr => Ok(Output::Stderr(config.format)),
            LogTarget::Journald => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(JOURNAL)?;
                Ok(Output::Journal(socket))
            }
        }
    }

    fn write(&mut self, at_us: u64, record: &Record) -> io::Result<()> {
        match self {
            Output::Stderr(format) => write(&mut io::stderr().lock(), *format, at_us, record),
            Output::Journal(socket) => {
                let entry = journal_entry(record);
                // A journal that was started anew listens at a socket of its own.
                let again = |_| socket.connect(JOURNAL).and_then(|()| socket.send(&entry));
                socket.send(&entry).or_else(again).map(drop)
            }
        }
    }
}

fn write(
    output: &mut impl Write,
    format: LogFormat,
    at_us: u64,
    record: &Record,
) -> io::Result<()> {
    let line = match format {
        LogFormat::Text => text(record),
        LogFormat::Json => json(at_us, record),
    };
    output.write_all(line.as_bytes())
}

/// "warning: the sentence (name=value)"; a notice is the sentence alone.
fn text(record: &Record) -> String {
    let Record { level, message, fields } = record;
    let mut line = match level {
        Level::Error => format!("error: {message}"),
        Level::Warning => format!("warning: {message}"),
        Level::Notice | Level::Info => message.clone(),
    };
    for (n, (name, value)) in fields.iter().enumerate() {
        let _ = write!(line, "{}{name}={value}", if n == 0 { " (" } else { " " });
    }
    line += if fields.is_empty() { "\n" } else { ")\n" };
    line
}

fn json(at_us: u64, record: &Record) -> String {
    let Record { level, message, fields } = record;
    let mut object = serde_json::Map::new();
    object.insert("time".into(), time(at_us).into());
    object.insert("level".into(), word(*level).into());
    object.insert("message".into(), message.as_str().into());
    for (name, value) in fields {
        object.insert((*name).into(), value.as_str().into());
    }
    serde_json::Value::Object(object).to_string() + "\n"
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
        Level::Info => "info",
    }
}

/// A datagram for the journal: a line for each field, or its length and its bytes if it has several lines.
fn journal_entry(record: &Record) -> Vec<u8> {
    let Record { level, message, fields } = record;
    let mut entry = Vec::new();
    let mut put = |name: &str, value: &str| {
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    };
    put("MESSAGE", message);
    put("PRIORITY", &(*level as u8).to_string());
    put("SYSLOG_IDENTIFIER", "understudy");
    for (name, value) in fields {
        put(&format!("UNDERSTUDY_{}", name.to_ascii_uppercase()), value);
    }
    entry
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// As RFC 3339 writes it, in UTC. Days to dates by Howard Hinnant's `civil_from_days`.
fn time(us: u64) -> String {
    let (days, rest) = (us / 86_400_000_000, us % 86_400_000_000);
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(Level::Warning, "a \"sentence\"").with("service", "web").with("epoch", 3)
    }

    #[test]
    fn a_record_is_a_line_for_people_and_an_object_for_programs() {
        assert_eq!(text(&record()), "warning: a \"sentence\" (service=web epoch=3)\n");
        assert_eq!(text(&Record::new(Level::Notice, "done")), "done\n");
        assert_eq!(text(&Record::new(Level::Error, "not")), "error: not\n");
        let line = json(1_764_412_496_000_042, &record());
        let object: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!(object["time"], "2025-11-29T10:34:56.000042Z");
        assert_eq!(object["level"], "warning");
        assert_eq!(object["message"], "a \"sentence\"");
        assert_eq!((&object["service"], &object["epoch"]), (&"web".into(), &"3".into()));
        assert_eq!(line.matches('\n').count(), 1, "one line, whatever is said");
        let several = json(0, &Record::new(Level::Info, "two\nlines"));
        assert_eq!(several.matches('\n').count(), 1);
    }

    #[test]
    fn times_are_right_at_the_ends_of_months_and_years() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000), expected);
        }
    }

    #[test]
    fn the_journal_gets_fields_and_lengths_of_what_has_several_lines() {
        let entry = journal_entry(&record());
        let expected = "MESSAGE=a \"sentence\"\nPRIORITY=4\nSYSLOG_IDENTIFIER=understudy\nUNDERSTUDY_SERVICE=web\n\
                        UNDERSTUDY_EPOCH=3\n";
        assert_eq!(String::from_utf8(entry).expect("text"), expected);
        let entry = journal_entry(&Record::new(Level::Info, "a\nb"));
        assert!(entry.starts_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=6\n"));
    }

    /// Whoever speaks does not wait for whoever writes; what was dropped is said.
    #[test]
    fn a_full_queue_drops_counts_and_says_so() {
        let (records, waiting) = bounded(2);
        let queue = Queue { records, dropped: AtomicU64::new(0) };
        (0..5).for_each(|n| queue.put(Record::new(Level::Info, format!("number {n}"))));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        drop(queue.records);
        run(&waiting, &mut Output::Journal(ours), &queue.dropped);
        let mut buffer = [0; 512];
        let mut next = || {
            let bytes = theirs.recv(&mut buffer).expect("an entry");
            String::from_utf8_lossy(&buffer[..bytes]).lines().next().expect("a line").to_string()
        };
        assert!(next().starts_with("MESSAGE=3 records are missing"));
        assert_eq!([next(), next()], ["MESSAGE=number 0", "MESSAGE=number 1"]);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (records, waiting) = bounded(2);
        let queue = Queue { records, dropped: AtomicU64::new(0) };
        (0..2).for_each(|n| queue.put(Record::new(Level::Info, format!("number {n}"))));
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        drop((theirs, queue.records));
        run(&waiting, &mut Output::Journal(ours), &queue.dropped);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 2);
    }

    /// A terminal or a journal that takes nothing any more does not keep a node from ending.
    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (records, _stuck) = bounded(1);
        let (_writing, written) = bounded(0);
        drop(Log { records: records.clone(), written: written.clone() });
        assert!(records.is_full(), "it was told to end, and does not");
        drop(Log { records, written });
    }
}
