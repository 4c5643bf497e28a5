//! Loads against servers that do their part, do it wrongly, or do nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::engine::{Measured, run};
use super::lane::Talk;
use super::{HttpArgs, LoadArgs};

/// A server that does this with every connection.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound above"),
    }
}

fn load(target: SocketAddrV4, rate: Option<u32>, ms: u64) -> LoadArgs {
    LoadArgs { target, rate, ms, warm_ms: 0, json: false, hgrm: None }
}

/// What requests come to that are answered like this.
fn answered_with(answer: &'static str) -> Measured {
    let target = server(move |mut stream| {
        let mut request = [0; 1024];
        while stream.read(&mut request).is_ok_and(|len| len > 0) {
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let args = HttpArgs { load: load(target, None, 30), path: "/".into(), connections: 1 };
    let (talk, connections) = args.plan(false);
    run(&args.load, talk, connections).expect("it can be measured")
}

#[test]
fn every_connection_that_a_server_answers_and_closes_is_counted_once() {
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    let target = server(move |mut stream| {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let args = HttpArgs { load: load(target, None, 30), path: "/".into(), connections: 3 };
    let (talk, connections) = args.plan(true);
    let measured = run(&args.load, talk, connections).expect("it can be measured");
    assert!(measured.completed > 0);
    assert_eq!((measured.failed, measured.unfinished), (0, 0), "{measured:?}");
    assert_eq!(measured.completed, served.load(Ordering::SeqCst));
    assert_eq!(measured.latency.len(), measured.counted);
}

#[test]
fn an_echo_that_differs_in_its_last_byte_fails() {
    let target = server(|mut stream| {
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            message[63] ^= 1;
            let _ = stream.write_all(&message);
        }
    });
    let measured = run(&load(target, None, 30), Talk::Echo { bytes: 64 }, 1).expect("measured");
    assert_eq!(measured.completed, 0);
    assert!(measured.failed > 0);
    assert!(measured.first_failure.expect("a reason").contains("different"));
}

#[test]
fn answers_that_are_no_answers_fail_by_name() {
    for (answer, why) in [
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ntoo long", "more bytes"),
        ("SSH-2.0-x\r\n\r\n", "not an HTTP/1.1 answer"),
    ] {
        let measured = answered_with(answer);
        let first = measured.first_failure.expect("a reason");
        assert!(first.contains(why), "{answer:?}: {first}");
        assert_eq!(measured.counted, 0);
    }
}

/// What a server never answers is charged to it: what waits for its answer, and what was due behind that.
#[test]
fn a_silent_server_is_charged_with_all_that_was_due() {
    let held = std::sync::Mutex::new(Vec::new());
    let target = server(move |stream| held.lock().expect("one thread").push(stream));
    let measured =
        run(&load(target, Some(1_000), 50), Talk::Echo { bytes: 8 }, 2).expect("measured");
    assert_eq!((measured.completed, measured.failed), (0, 0));
    assert_eq!(measured.unfinished, 50);
    assert_eq!(measured.latency.len(), 50);
    // The first was due at the start, and waited until nobody waited any more.
    assert!(measured.latency.max() > measured.latency.min());
}
