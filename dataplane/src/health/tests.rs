//! Checks of real servers, over the loopback interface.

use super::*;
use crate::config::CheckKind;
use crossbeam_channel::{Receiver, bounded};
use std::net::TcpListener;

/// Far beyond what anything here takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

fn check(kind: CheckKind) -> Check {
    let [interval, fast_interval, timeout] = [20, 10, 200].map(Duration::from_millis);
    Check { kind, interval, fast_interval, timeout, ..Check::default() }
}

fn checker(targets: Vec<(SocketAddr, Check)>) -> (Checker, Receiver<ToCore>) {
    let (orders, told) = bounded(4);
    let target = |(server, (address, check)): (usize, (SocketAddr, Check))| Target {
        service: 0,
        id: 0,
        server: server as u16,
        address,
        authority: address.to_string(),
        check,
        header: None,
        began: Instant::ZERO,
        due: Instant::ZERO,
        attempt: None,
    };
    let targets: Vec<Target> = targets.into_iter().enumerate().map(target).collect();
    let board = Arc::new(Board::new(&targets));
    let checker = Checker::new(clock::now(), targets, board, vec![orders]);
    (checker.expect("a poll"), told)
}

fn until(checker: &mut Checker, what: &str, is_so: impl Fn(&[Checked]) -> bool) {
    let limit = std::time::Instant::now() + PATIENCE;
    while !is_so(&checker.board.service(0)) {
        checker.round().expect("the checks go on");
        assert!(std::time::Instant::now() < limit, "{what}: {:?}", checker.board.service(0));
    }
}

fn reason(checked: &Checked) -> &str {
    match &checked.last {
        Some((.., Outcome::Passed(why) | Outcome::Failed(why) | Outcome::Unable(why))) => why,
        None => "",
    }
}

/// A server that answers every connection with `answer`, until its listener is dropped.
fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// A port where nobody listens, as long as the stream is kept: it is in use.
fn closed() -> (SocketAddr, std::net::TcpStream) {
    let listens = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = std::net::TcpStream::connect(listens.local_addr().expect("it is bound"));
    let client = client.expect("it listens");
    (client.local_addr().expect("it is bound"), client)
}

#[test]
fn servers_of_the_kernel_are_judged_by_what_they_do() {
    let listens = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (closed, _kept) = closed();
    let address = listens.local_addr().expect("it is bound");
    let http = || check(CheckKind::default_http());
    let (mut checker, told) = checker(vec![
        (address, check(CheckKind::Tcp)),
        (closed, check(CheckKind::Tcp)),
        (server("HTTP/1.1 200 OK\r\n\r\n"), http()),
        (server("HTTP/1.1 503 Service Unavailable\r\n\r\n"), http()),
        (server(""), http()),
        // It takes connections and says nothing.
        (address, http()),
    ]);
    until(&mut checker, "verdicts", |all| all.iter().all(|one| one.verdict.is_up().is_some()));
    let board = checker.board.service(0);
    let expected = [
        (true, "connected"),
        (false, "connection refused"),
        (true, "HTTP status 200"),
        (false, "HTTP status 503"),
        (false, "it closed the connection without an answer"),
        (false, "no answer within 200ms"),
    ];
    let found: Vec<_> =
        board.iter().map(|one| (one.verdict.is_up().unwrap(), reason(one))).collect();
    assert_eq!(found, expected);
    // Cores that take no order for a while are told later, and once.
    let mut heard = vec![None; 6];
    let limit = std::time::Instant::now() + PATIENCE;
    while heard.iter().any(Option::is_none) {
        assert!(std::time::Instant::now() < limit, "told {heard:?}");
        while let Ok(ToCore::Verdicts(0, verdicts)) = told.try_recv() {
            for &(server, is_up) in &*verdicts {
                assert_eq!(heard[server as usize].replace(is_up), None, "told twice");
            }
        }
        checker.round().expect("the checks go on");
    }
    assert_eq!(heard, expected.map(|(is_up, _)| Some(is_up)));
}

#[test]
fn a_server_goes_down_and_comes_back() {
    // An address that no other test has: its port stays free while nobody listens there.
    let listens = TcpListener::bind("127.83.71.12:0").expect("a port");
    let address = listens.local_addr().expect("it is bound");
    let (mut checker, told) = checker(vec![(address, check(CheckKind::Tcp))]);
    until(&mut checker, "up", |all| all[0].verdict.is_up() == Some(true));
    drop(listens);
    until(&mut checker, "down", |all| all[0].verdict.is_up() == Some(false));
    let failed = checker.board.service(0)[0].failed;
    assert!(failed >= 3, "{failed} failures were enough");
    let listens = TcpListener::bind(address).expect("its port is free again");
    until(&mut checker, "up again", |all| all[0].verdict.is_up() == Some(true));
    drop(listens);
    let verdicts: Vec<bool> = told
        .try_iter()
        .map(|order| match order {
            ToCore::Verdicts(0, verdicts) => verdicts[0].1,
            _ => panic!("another order"),
        })
        .collect();
    assert_eq!(verdicts, [true, false, true]);
}

/// Another list of servers: those that stay keep what is known of them, and one that is not checked any more is used.
#[test]
fn a_reload_keeps_the_verdicts_of_servers_that_stay() {
    let [(a, _kept), (b, _kept_too)] = [closed(), closed()];
    let (mut checker, told) = checker(vec![(a, check(CheckKind::Tcp)), (b, check(CheckKind::Tcp))]);
    let are_down = |all: &[Checked]| all.iter().all(|one| one.verdict.is_up() == Some(false));
    until(&mut checker, "down", are_down);
    let failed = checker.board.service(0)[0].failed;
    told.try_iter().for_each(drop);
    let listens = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listens.local_addr().expect("it is bound");
    let next =
        super::tests::checker(vec![(a, check(CheckKind::Tcp)), (address, check(CheckKind::Tcp))]);
    *checker.board.wanted.lock().expect("nobody panics") = Some(next.0.targets);
    checker.round().expect("the checks go on");
    let known = checker.board.service(0);
    assert_eq!((known[0].verdict.is_up(), known[1].verdict), (Some(false), Verdict::default()));
    assert!(known[0].failed >= failed);
    let told: Vec<_> = told.try_iter().collect();
    assert!(matches!(&told[..], [ToCore::Verdicts(0, news)] if **news == [(1, true)]));
    until(&mut checker, "up", |all| all[1].verdict.is_up() == Some(true));
}

/// Nothing has left this machine: the server is not to blame.
#[test]
fn a_node_without_a_way_to_a_server_cannot_check_it() {
    // Class E: no route leads there.
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 80));
    let (mut checker, told) = checker(vec![(nowhere, check(CheckKind::Tcp))]);
    until(&mut checker, "some checks", |all| all[0].last.is_some());
    for _ in 0..20 {
        checker.round().expect("the checks go on");
    }
    let checked = &checker.board.service(0)[0];
    assert!(matches!(checked.last, Some((.., Outcome::Unable(_)))), "{checked:?}");
    assert_eq!((checked.verdict, checked.failed), (Verdict::default(), 0));
    assert!(told.is_empty());
}

/// A core that takes no order for long has the newest verdict of each server waiting, and no more.
#[test]
fn what_waits_for_a_core_is_bounded() {
    let (address, _kept) = closed();
    let targets = vec![(address, check(CheckKind::Tcp)), (address, check(CheckKind::Tcp))];
    let (mut checker, told) = checker(targets);
    checker.due.clear();
    for n in 0..1000 {
        checker.spread_news(&[(0, 0, n % 2 == 0), (0, 1, n % 2 == 1)]);
    }
    assert_eq!(checker.news[0].len(), 1);
    assert_eq!(told.try_iter().count(), 4, "the room that it has");
    checker.spread_news(&[]);
    let last: Vec<_> = told.try_iter().collect();
    assert!(matches!(&last[..], [ToCore::Verdicts(0, news)] if **news == [(0, false), (1, true)]));
    assert!(checker.news[0].is_empty());
}
