//! The control socket: how an operator's commands reach a running node.
//!
//! A Unix socket with permissions 0600. A client writes one request a line as JSON, the node answers
//! each with one line; `{"command":"status"}` is answered by `{"reply":"status",…}`, a request that
//! cannot be understood by `{"reply":"error",…}`. A line that begins with a letter is one of HAProxy's
//! commands (`haproxy.rs`). The server has a thread of its own and one for each client, none of which
//! a poll core ever waits for; what is answered comes from a closure given at start.
//!
//! The socket is made in a directory that only its owner may enter and then moved into place, so that
//! nobody can connect before the permissions are set, and a socket left behind by a process that
//! died is replaced.
//!
//! Bounds: [`REQUEST_BYTES_MAX`] a request, [`CLIENTS_MAX`] clients at once, [`REPLY_BYTES_MAX`] a
//! reply; a client that is silent or does not read for [`PATIENCE`] is disconnected.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod flows;
pub mod haproxy;
pub mod servers;
pub mod status;

use flows::{FlowFilter, Flows};
use servers::{ServerOrder, Servers};
use status::Status;

/// Bytes of a request at most, its line feed included.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// Bytes of a reply at most, its line feed included: what a client is ready to take.
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// Clients served at once; further ones are told so and disconnected.
pub const CLIENTS_MAX: usize = 16;

/// Who could not be accepted (no descriptor is left, for example) is tried again after so long.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may be silent or not read.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Longest time in which a reload may be confirmed.
pub const CONFIRM_MAX: stack::time::Duration = stack::time::Duration::from_secs(24 * 3600);

/// What can be asked of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How it is.
    Status,
    /// Ask every node what it declares; the status shows the answers.
    Solicit,
    /// Let another node own a service of this one.
    Handover {
        /// The service.
        service: String,
        /// The node that shall own it.
        to: u8,
        /// The epoch that the operator saw; the order is void in any other.
        #[serde(default)]
        epoch: Option<u64>,
        /// Though connections of which nobody holds a copy are lost by it.
        #[serde(default)]
        force: bool,
    },
    /// Hand every service over and take no new role.
    Drain,
    /// Take roles again.
    Undrain,
    /// Take a node for dead: the operator has seen to it that it says nothing more.
    ConfirmDead {
        /// Which.
        node: u8,
    },
    /// Read the configuration file again and take what differs.
    Reload {
        /// Undo it after so long, [`CONFIRM_MAX`] at most, unless it is confirmed.
        #[serde(default)]
        confirm_within_us: Option<u64>,
    },
    /// The last reload stays.
    Confirm,
    /// The connections of this node.
    Flows {
        /// Which ones.
        #[serde(default)]
        filter: FlowFilter,
    },
    /// End a connection by RST on every side.
    EndFlow {
        /// Its name, as [`Reply::Flows`] shows it.
        id: String,
    },
    /// How the servers are to whom connections are passed on.
    Servers {
        /// Of this service alone.
        #[serde(default)]
        service: Option<String>,
    },
    /// Use a server of a service, or do not.
    Server {
        /// The service.
        service: String,
        /// The server's name.
        server: String,
        /// What to do.
        order: ServerOrder,
    },
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status {
        /// How it is.
        status: Box<Status>,
    },
    /// The order was begun; the status shows what comes of it.
    Begun,
    /// To [`Request::Flows`].
    Flows {
        /// Which ones there are.
        flows: Box<Flows>,
    },
    /// The order was carried out.
    Done,
    /// To [`Request::Reload`].
    Reloaded {
        /// What has changed, a line each; empty if nothing differs.
        changes: Vec<String>,
        /// What is to be said about the file all the same.
        warnings: String,
        /// After so long it is undone unless it is confirmed.
        confirm_within_us: Option<u64>,
    },
    /// To [`Request::Servers`].
    Servers {
        /// How they are.
        servers: Box<Servers>,
    },
    /// The request was not carried out.
    Error {
        /// Why.
        message: String,
    },
}

/// Answers requests; called by the clients' threads, several at once.
pub type Handler = dyn Fn(Request) -> Reply + Send + Sync;

/// A running control socket; it is removed when this is dropped.
pub struct Server {
    path: PathBuf,
    /// Device and inode: whether the socket at `path` is still ours.
    identity: (u64, u64),
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the socket at `path` and answers with `handler` from a thread of its own.
    ///
    /// Fails with `AddrInUse` if another process answers at `path`.
    pub fn start(path: &Path, handler: Box<Handler>) -> io::Result<Server> {
        let listener = listen(path)?;
        let data = fs::metadata(path)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, handler) = (stopping.clone(), Arc::from(handler));
        let thread = thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &stop, &handler))?;
        let identity = (data.dev(), data.ino());
        Ok(Server { path: path.into(), identity, stopping, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let ours =
            fs::metadata(&self.path).is_ok_and(|data| (data.dev(), data.ino()) == self.identity);
        // The accepting thread wakes up by a connection; if the socket is not ours any more, it
        // cannot be woken and ends with the process.
        let thread = self.thread.take().filter(|_| ours);
        if let (Some(thread), Ok(_)) = (thread, UnixStream::connect(&self.path)) {
            let _ = thread.join();
        }
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Asks the node behind the socket at `path`.
pub fn ask(path: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    let mut reader = BufReader::new(stream.take(REPLY_BYTES_MAX as u64));
    reader.read_until(b'\n', &mut reply)?;
    if reply.last() != Some(&b'\n') {
        let message = "the node closed the connection before its reply was complete";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(serde_json::from_slice(&reply)?)
}

/// A listening socket at `path` with permissions 0600.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(directory)?;
    match fs::symlink_metadata(path) {
        Ok(data) if !data.file_type().is_socket() => {
            let message = format!("{} exists and is not a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let message = format!("another process answers at {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        _ => {}
    }
    let private = directory.join(format!(".u{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let place = private.join("s");
    let listener = UnixListener::bind(&place).and_then(|listener| {
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
        fs::rename(&place, path)?;
        Ok(listener)
    });
    let _ = fs::remove_file(&place);
    let _ = fs::remove_dir(&private);
    listener
}

fn accept(listener: &UnixListener, stopping: &AtomicBool, handler: &Arc<Handler>) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            thread::sleep(PAUSE);
            continue;
        };
        let place = Place::take(&clients);
        let handler = handler.clone();
        // A thread that cannot be made is a client that is not served.
        let _ = thread::Builder::new().name("control client".into()).spawn(move || match place {
            Some(_place) => serve(stream, &*handler),
            None => {
                let message = format!("{CLIENTS_MAX} clients are being served; try again");
                let _ = send(&stream, &Reply::Error { message });
                Ok(())
            }
        });
    }
}

/// One of the places for clients, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Place> {
        let more = |n| (n < CLIENTS_MAX).then_some(n + 1);
        clients.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place(clients.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers one client until it leaves.
fn serve(stream: UnixStream, handler: &Handler) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let mut session = haproxy::Session::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(REQUEST_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() == REQUEST_BYTES_MAX {
            let message = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
            return send(&stream, &Reply::Error { message });
        }
        if session.is_command(&line) {
            let Some(text) = session.answer(&line, handler) else { return Ok(()) };
            (&stream).write_all(text.as_bytes())?;
            if !session.goes_on() {
                return Ok(());
            }
            stream.set_read_timeout(Some(session.patience.unwrap_or(PATIENCE)))?;
            continue;
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => handler(request),
            Err(error) => Reply::Error { message: format!("not understood: {error}") },
        };
        send(&stream, &reply)?;
    }
}

fn send(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// A socket's path in a directory of its own, which is removed at the end.
    struct Scene(PathBuf);

    impl std::ops::Deref for Scene {
        type Target = Path;
        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().expect("a directory"));
        }
    }

    fn server(name: &str, handler: Box<Handler>) -> (Scene, Server) {
        let directory = format!("understudy-control-{name}-{}", std::process::id());
        let path = Scene(std::env::temp_dir().join(directory).join("node.sock"));
        let server = Server::start(&path, handler).expect("a socket in the temporary directory");
        (path, server)
    }

    fn status(node: u8) -> Reply {
        Reply::Status { status: Box::new(Status { node, ..Status::default() }) }
    }

    /// Sends raw bytes and returns every line of the answer.
    fn raw(path: &Path, bytes: &[u8]) -> Vec<Reply> {
        let mut stream = UnixStream::connect(path).expect("the server");
        stream.write_all(bytes).expect("room for the request");
        stream.shutdown(std::net::Shutdown::Write).expect("half a close");
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str(&line).expect("a reply")).collect()
    }

    #[test]
    fn a_request_is_answered() {
        let (path, server) = server("answer", Box::new(|_| status(7)));
        assert_eq!(ask(&path, &Request::Status).expect("an answer"), status(7));
        assert_eq!(fs::metadata(&*path).expect("the socket").mode() & 0o777, 0o600);
        let replies = raw(&path, b"{\"command\":\"status\"}\n{\"command\":\"status\"}");
        assert_eq!(replies, [status(7), status(7)]);
        drop(server);
        assert!(!path.exists());
        let left = fs::read_dir(path.parent().expect("a directory")).expect("still there");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_the_connection_goes_on() {
        let (path, _server) = server("malformed", Box::new(|_| status(7)));
        for request in ["", "{}", "[]", "\u{0}", "{\"command\":\"dance\"}", "\"status\"", "[[[["] {
            let replies = raw(&path, format!("{request}\n{{\"command\":\"status\"}}\n").as_bytes());
            assert!(matches!(&replies[..], [Reply::Error { .. }, last] if *last == status(7)));
        }
        assert!(matches!(&raw(&path, b"\xff\xfe\n")[..], [Reply::Error { .. }]));
    }

    /// HAProxy's way: one line, its answer, the end; or a dialogue, after `prompt`.
    #[test]
    fn a_line_of_words_is_answered_in_words() {
        let (path, _server) = server("words", Box::new(|_| status(7)));
        let say = |lines: &[u8]| {
            let mut stream = UnixStream::connect(&*path).expect("the server");
            stream.write_all(lines).expect("room for the request");
            let mut answer = String::new();
            // What is left unread makes the kernel reset the connection behind the answer.
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        let once = say(b"show info\n");
        assert!(once.starts_with("Name: Understudy\n") && once.ends_with("\n\n"), "{once}");
        assert!(say(b"show info\nshow info\n").matches("node: 7").count() == 1);
        let dialogue = say(b"prompt\nshow info\nshow info\nquit\n");
        assert_eq!((dialogue.matches("node: 7").count(), dialogue.matches("> ").count()), (2, 3));
    }

    #[test]
    fn an_oversized_request_is_refused() {
        let (path, _server) = server("oversized", Box::new(|_| status(7)));
        // Exactly the bound, so that nothing unread makes the kernel reset the connection.
        let replies = raw(&path, &[b' '; REQUEST_BYTES_MAX]);
        assert!(matches!(&replies[..], [Reply::Error { message }] if message.contains("4096")));
    }

    #[test]
    fn two_clients_are_served_at_once() {
        // Both must be inside the handler before either is answered.
        let both = Arc::new(Barrier::new(2));
        let handler = move |_| {
            both.wait();
            status(7)
        };
        let (path, _server) = server("two", Box::new(handler));
        let other = path.to_path_buf();
        let thread = thread::spawn(move || ask(&other, &Request::Status));
        assert_eq!(ask(&path, &Request::Status).expect("an answer"), status(7));
        assert_eq!(thread.join().expect("no panic").expect("an answer"), status(7));
    }

    #[test]
    fn clients_beyond_the_bound_are_told_so() {
        let (path, _server) = server("many", Box::new(|_| status(7)));
        let connect = || {
            let mut stream = UnixStream::connect(&*path).expect("the server");
            stream.write_all(b"{\"command\":\"status\"}\n").expect("room for a request");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("an answer");
            (stream, serde_json::from_str::<Reply>(&line).expect("a reply"))
        };
        let clients: Vec<_> = (0..CLIENTS_MAX).map(|_| connect()).collect();
        assert!(clients.iter().all(|(_, reply)| *reply == status(7)));
        assert!(matches!(ask(&path, &Request::Status), Ok(Reply::Error { .. }) | Err(_)));
    }

    #[test]
    fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
        let (path, server) = server("use", Box::new(|_| status(7)));
        let again = Server::start(&path, Box::new(|_| status(8)));
        assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        drop(server);
        drop(UnixListener::bind(&*path).expect("a socket that nobody will listen to"));
        let server = Server::start(&path, Box::new(|_| status(9))).expect("a place");
        assert_eq!(ask(&path, &Request::Status).expect("an answer"), status(9));
        drop(server);
        fs::write(&*path, "precious").expect("a file");
        let error = Server::start(&path, Box::new(|_| status(8))).err();
        assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&*path).expect("the file"), b"precious");
    }
}
