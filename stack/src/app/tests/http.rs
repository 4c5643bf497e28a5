//! Dialogues with `http`: what is answered to what.

use alloc::string::String;
use alloc::vec;

use super::*;
use crate::sha256::Sha256;

/// What HTTP answers to `input`, and whether it closes.
fn http(input: &[u8]) -> (String, bool) {
    let content = content();
    let mut flow = Flow::new(&HTTP, &content, true);
    flow.receive(&content, input);
    let closed = flow.output.is_closed();
    (String::from_utf8(flow.end()).unwrap(), closed)
}

fn ask(line: &str, fields: &str) -> (String, bool) {
    http(alloc::format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes())
}

#[test]
fn a_pinned_object_is_served_whole() {
    let (answer, closed) = ask("GET /", "");
    let content = content();
    let etag = &content.objects()[1].etag;
    let wanted = alloc::format!(
        "HTTP/1.1 200 OK\r\nServer: understudy\r\nContent-Type: text/html\r\nETag: {etag}\r\n\
        Accept-Ranges: bytes\r\nContent-Length: 13\r\n\r\n<p>hello</p>\n"
    );
    assert_eq!((&answer, closed), (&wanted, false));
    let (head, _) = ask("HEAD /", "");
    assert_eq!(answer.strip_suffix("<p>hello</p>\n"), Some(&*head));
    let (missing, closed) = ask("GET /missing", "");
    assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
    assert!(missing.ends_with("Content-Length: 14\r\n\r\n404 Not Found\n") && !closed);
    let (missing, _) = ask("HEAD /missing", "");
    assert!(missing.ends_with("Content-Length: 14\r\n\r\n"));
}

#[test]
fn ranges_and_conditions() {
    let (part, _) = ask("GET /ten", "Range: bytes=2-4\r\n");
    assert!(part.starts_with("HTTP/1.1 206 Partial Content\r\n"));
    assert!(part.ends_with("Content-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234"));
    let (none, closed) = ask("GET /ten", "Range: bytes=10-\r\n");
    assert!(none.starts_with("HTTP/1.1 416 ") && none.contains("bytes */10\r\n") && !closed);
    let (whole, _) = ask("GET /ten", "Range: bytes=1-2,4-5\r\n");
    assert!(whole.ends_with("\r\n\r\n0123456789"));
    let (_, rest) = whole.split_once("ETag: ").unwrap();
    let (etag, _) = rest.split_once("\r\n").unwrap();
    let (same, _) = ask("GET /ten", &alloc::format!("If-None-Match: \"x\", W/{etag}\r\n"));
    assert!(same.starts_with("HTTP/1.1 304 ") && same.ends_with(&alloc::format!("{etag}\r\n\r\n")));
    let (part, _) = ask("GET /ten", &alloc::format!("Range: bytes=-1\r\nIf-Range: {etag}\r\n"));
    assert!(part.ends_with("\r\n\r\n9"));
    let (whole, _) = ask("GET /ten", "Range: bytes=-1\r\nIf-Range: \"x\"\r\n");
    assert!(whole.ends_with("\r\n\r\n0123456789"));
    let (head, _) = ask("HEAD /ten", "Range: bytes=-1\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Length: 10\r\n"));
}

#[test]
fn generated_objects_are_the_generated_stream() {
    let content = content();
    let mut flow = Flow::new(&HTTP, &content, false);
    flow.receive(&content, b"GET /generate/5000?seed=9 HTTP/1.0\r\nRange: bytes=7-\r\n\r\n");
    assert!(flow.output.is_closed() && flow.output.stored() < 300);
    let sent = flow.end();
    let mut wanted = vec![0; 4993];
    crate::generate::fill(9, 7, &mut wanted);
    assert!(sent.ends_with(&wanted));
    let (head, _) = ask("HEAD /generate/1099511627776", "");
    assert!(head.contains("Content-Length: 1099511627776\r\n"));
}

#[test]
fn uploads_are_hashed() {
    let receipt = |bytes: &[u8]| {
        let hex =
            Sha256::digest(bytes).iter().map(|b| alloc::format!("{b:02x}")).collect::<String>();
        alloc::format!("length={} sha256={hex}\n", bytes.len())
    };
    let (answer, closed) = ask("PUT /x", "Content-Length: 0\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&receipt(b"")) && !closed);
    let (answer, _) = http(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.ends_with(&receipt(b"abc")));
    let (answer, closed) = http(
        b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\
        Connection: close\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert!(answer.ends_with(&receipt(b"abc")) && answer.contains("Connection: close") && closed);
    let (answer, closed) = ask("PUT /x", "Content-Length: 10001\r\nExpect: 100-continue\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 ") && closed);
    let chunked = "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (answer, closed) = http(alloc::format!("{chunked}2711\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 ") && closed);
    let (answer, closed) = http(alloc::format!("{chunked}zz\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400 ") && closed);
}

#[test]
fn errors_close_and_what_follows_is_not_read() {
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\nHost: h\n\n", "400"),
        ("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
        ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", "501"),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", "505"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
        ),
    ];
    for (request, status) in cases {
        let input = alloc::format!("{request}GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let (answer, closed) = http(input.as_bytes());
        assert!(answer.starts_with(&alloc::format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(closed && answer.contains("Connection: close\r\n"));
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert_eq!(answer.contains("Allow: "), status == "405");
    }
}

#[test]
fn a_body_nobody_asked_for_is_read_and_dropped() {
    let (answer, closed) =
        http(b"GET /ten HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET GET /ten HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((answer.matches("200 OK").count(), closed), (2, false));
    let expect = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    let (answer, closed) = ask("GET /ten", expect);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && closed);
}

#[test]
fn pipelining_waits_for_acknowledgements() {
    let content = content();
    let request = b"GET /ten HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut flow = Flow::new(&HTTP, &content, false);
    let input = request.repeat(30);
    let taken = flow.with(&content, |app, context| app.receive(context, &input)).unwrap();
    assert_eq!(taken, request.len() * 7);
    assert!(flow.app.blocked(&flow.output));
    assert_eq!(flow.idle(&content), Verdict::Abort);
    flow.receive(&content, &input[taken..]);
    assert_eq!(String::from_utf8(flow.end()).unwrap().matches("200 OK").count(), 30);
    // Answers without a body share one piece, and are bounded by their bytes.
    let mut flow = Flow::new(&HTTP, &content, false);
    let input = b"HEAD /ten HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    let taken = flow.with(&content, |app, context| app.receive(context, &input)).unwrap();
    assert!(taken < input.len() && flow.output.pieces() == 1 && flow.output.stored() < 5000);
    flow.receive(&content, &input[taken..]);
    assert_eq!(String::from_utf8(flow.end()).unwrap().matches("200 OK").count(), 100);
}

#[test]
fn idle_and_end_between_and_within_requests() {
    let content = content();
    let upload = &b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"[..];
    for (input, idle, end) in [(&b""[..], "", ""), (b"GET", "408", "400"), (upload, "408", "400")] {
        let mut flow = Flow::new(&HTTP, &content, true);
        flow.receive(&content, input);
        assert_eq!(flow.idle(&content), Verdict::Continue);
        assert!(flow.output.is_closed());
        assert_eq!(flow.idle(&content), Verdict::Abort);
        let sent = String::from_utf8(flow.end()).unwrap();
        assert_eq!(sent.get(9..12).unwrap_or_default(), idle);
        let mut flow = Flow::new(&HTTP, &content, true);
        flow.receive(&content, input);
        flow.finish(&content);
        assert!(flow.output.is_closed());
        let sent = String::from_utf8(flow.end()).unwrap();
        assert_eq!(sent.get(9..12).unwrap_or_default(), end);
    }
}
