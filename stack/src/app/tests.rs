//! Dialogues with every application: what is answered, and that neither cuts, nor trimming, nor a move
//! to another node in the middle changes a byte of it.

use alloc::vec;
use alloc::vec::Vec;

mod http;

use super::*;
use crate::content::Source;
use crate::limits::{HTTP_OUTPUT_CHUNKS_MAX, OUTPUT_PIECES_MAX};
use crate::output::Cursor;

fn content() -> Content {
    let source = |path: &str, content_type: &str, bytes: &[u8]| {
        let (path, content_type) = (path.into(), content_type.into());
        Source { path, content_type, bytes: bytes.into() }
    };
    let sources = vec![
        source("/index.html", "text/html", b"<p>hello</p>\n"),
        source("/ten", "text/plain", b"0123456789"),
        source("/empty", "text/plain", b""),
    ];
    Content::new(sources).unwrap()
}

/// Pools just large enough that `has_room_for` refuses now and then.
const PIECES: usize = OUTPUT_PIECES_MAX + 4;
const CHUNKS: usize = 64;

const HTTP: AppConfig = AppConfig::Http(HttpConfig { upload_bytes_max: 10_000 });

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// A flow reduced to what an application sees of it.
struct Flow {
    memory: Memory,
    output: Output,
    app: App,
    unread: Vec<u8>,
    sent: Vec<u8>,
    cursor: Cursor,
    /// Acknowledges at once, or only when the application is blocked.
    eager: bool,
}

impl Flow {
    fn new(config: &AppConfig, content: &Content, eager: bool) -> Flow {
        let mut flow = Flow {
            memory: Memory::new(1, PIECES, CHUNKS),
            output: Output::new(),
            app: App::new(config),
            unread: Vec::new(),
            sent: Vec::new(),
            cursor: Cursor::default(),
            eager,
        };
        flow.with(content, |app, context| app.open(context)).unwrap();
        flow.send(content);
        flow
    }

    fn with<T>(&mut self, content: &Content, act: impl FnOnce(&mut App, &mut Context) -> T) -> T {
        let (memory, output) = (&mut self.memory, &mut self.output);
        act(&mut self.app, &mut Context { content, memory, output })
    }

    fn receive(&mut self, content: &Content, input: &[u8]) {
        self.unread.extend(input);
        loop {
            let unread = core::mem::take(&mut self.unread);
            let taken = self.with(content, |app, context| app.receive(context, &unread)).unwrap();
            self.unread = unread[taken..].to_vec();
            self.send(content);
            let waits = self.app.blocked(&self.output) && !self.unread.is_empty();
            if self.eager || waits {
                self.output.trim(&mut self.memory, self.sent.len() as u64);
            }
            if !waits {
                return;
            }
        }
    }

    /// Sends everything new, and checks a retransmission of everything held.
    fn send(&mut self, content: &Content) {
        assert!(self.output.pieces() <= OUTPUT_PIECES_MAX);
        if matches!(self.app, App::Http(_)) {
            assert!(self.memory.chunks.used() <= HTTP_OUTPUT_CHUNKS_MAX);
        }
        let next = self.sent.len();
        self.sent.resize(self.output.end() as usize, 0);
        let new = &mut self.sent[next..];
        let n = self.output.read_at(&self.memory, content, &mut self.cursor, next as u64, new);
        assert_eq!(n, new.len());
        let mut again = vec![0; self.output.held() as usize];
        let (start, cursor) = (self.output.start(), &mut Cursor::default());
        self.output.read_at(&self.memory, content, cursor, start, &mut again);
        assert_eq!(again, self.sent[start as usize..]);
    }

    fn finish(&mut self, content: &Content) {
        self.with(content, |app, context| app.finish(context)).unwrap();
        self.send(content);
    }

    fn idle(&mut self, content: &Content) -> Verdict {
        let verdict = self.with(content, |app, context| app.tick(context, Tick::Idle)).unwrap();
        self.send(content);
        verdict
    }

    fn state(&self) -> Vec<u8> {
        let mut state = Vec::new();
        self.app.export(&self.memory, &mut state);
        state
    }

    /// To another node, with nothing but what is exported.
    fn moved(&mut self, content: &Content) {
        let mut bytes = self.state();
        self.output.export(&self.memory, 0, &mut bytes);
        let mut memory = Memory::new(1, PIECES, CHUNKS);
        let mut reader = Reader::new(&bytes);
        self.app = App::import(&mut memory, &mut reader).unwrap();
        self.output = Output::import(&mut memory, content, &mut reader).unwrap();
        assert_eq!(reader.remaining(), 0);
        self.memory = memory;
        self.cursor = Cursor::default();
    }

    fn end(mut self) -> Vec<u8> {
        self.app.release(&mut self.memory);
        self.output.clear(&mut self.memory);
        assert!(self.memory.is_unused());
        self.sent
    }
}

#[test]
fn echo_sends_back_and_closes_behind_the_last_byte() {
    let content = content();
    let mut flow = Flow::new(&AppConfig::Echo, &content, false);
    flow.receive(&content, &[7; 5000]);
    assert_eq!(flow.app.window_room(&flow.output, 8000), 3000);
    assert_eq!(flow.app.window_room(&flow.output, 4000), 0);
    flow.output.trim(&mut flow.memory, 4999);
    assert_eq!((flow.app.window_room(&flow.output, 8000), flow.memory.chunks.used()), (7999, 1));
    assert!(!flow.output.is_closed());
    assert_eq!(flow.idle(&content), Verdict::Abort);
    flow.finish(&content);
    assert!(flow.output.is_closed());
    assert_eq!(flow.end(), [7; 5000]);
}

#[test]
fn discard_says_nothing_and_generate_speaks_first() {
    let content = content();
    let mut flow = Flow::new(&AppConfig::Discard, &content, true);
    flow.receive(&content, b"anything");
    flow.finish(&content);
    assert!(flow.output.is_closed() && flow.unread.is_empty());
    assert_eq!(flow.end(), b"");

    for stay_open in [false, true] {
        let config = GenerateConfig { seed: 4, len: 100, stay_open };
        let mut flow = Flow::new(&AppConfig::Generate(config), &content, false);
        assert_eq!(flow.output.is_closed(), !stay_open);
        flow.moved(&content);
        flow.receive(&content, b"ignored");
        flow.finish(&content);
        assert!(flow.output.is_closed());
        let mut wanted = [0; 100];
        crate::generate::fill(4, 0, &mut wanted);
        assert_eq!(flow.end(), wanted);
    }
}

const REQUESTS: [&[u8]; 12] = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /ten HTTP/1.1\r\nHost: h\r\nRange: bytes=1-3\r\n\r\n",
    b"HEAD /ten HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /generate/3000?seed=5 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /generate/10 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /none HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde",
    b"\r\n\r\nGET /empty HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n",
    b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789",
    b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
    b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;e\r\na\r\n0\r\nT: u\r\n\r\n",
    b"GET http://h/ten?x HTTP/1.1\r\nHost: h\r\nIf-Range: \"a\"\r\nRange: bytes=0-\r\n\r\n",
];

const BYTES: &[u8] = b"\0\r\n :;,-/%09afGHT\x7f\xff";

/// A few requests behind one another, some of them spoilt.
fn dialogue(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..1 + random.below(12) {
        input.extend(REQUESTS[random.below(REQUESTS.len())]);
    }
    for _ in 0..random.below(4) {
        let at = random.below(input.len());
        let byte = BYTES[random.below(BYTES.len())];
        match random.below(4) {
            0 => input[at] = byte,
            1 => input.insert(at, byte),
            2 => drop(input.remove(at)),
            _ => drop(input.splice(at..at, vec![byte; random.below(10_000)])),
        }
    }
    input
}

#[test]
fn cuts_and_trimming_and_moving_change_nothing() {
    let content = content();
    let mut random = Random(0xd1a1);
    for round in 0..1500 {
        let config = if round % 10 == 0 { AppConfig::Echo } else { HTTP };
        let input = dialogue(&mut random);
        let input = &input[..input.len().min(40_000)];
        let mut one = Flow::new(&config, &content, true);
        let mut two = Flow::new(&config, &content, config == HTTP && round % 2 == 0);
        let longest = 1 + random.below(1500);
        for (flow, longest) in [(&mut one, 40_000), (&mut two, longest)] {
            let mut rest = input;
            while !rest.is_empty() {
                let cut = rest.len().min(1 + random.below(longest));
                // A refusal is a lost segment; here the acknowledgement comes at once instead.
                let needed = flow.unread.len() + cut;
                if flow.eager || !flow.memory.has_room_for(needed) {
                    flow.output.trim(&mut flow.memory, flow.sent.len() as u64);
                }
                assert!(flow.memory.has_room_for(needed));
                flow.receive(&content, &rest[..cut]);
                rest = &rest[cut..];
                if random.below(4) == 0 {
                    flow.moved(&content);
                }
            }
        }
        assert_eq!(one.sent, two.sent, "round {round}");
        assert_eq!(one.unread, two.unread);
        assert_eq!(one.output.is_closed(), two.output.is_closed());
        assert_eq!(one.state(), two.state());
        for flow in [&mut one, &mut two] {
            if round % 3 == 0 {
                flow.idle(&content);
            } else {
                flow.finish(&content);
                assert!(flow.output.is_closed());
            }
        }
        assert_eq!(one.end(), two.end());
    }
}

#[test]
fn room_that_is_promised_is_enough() {
    let content = content();
    let mut random = Random(0x400);
    let mut promised = 0;
    for round in 0..4000 {
        let config = if round % 4 == 0 { AppConfig::Echo } else { HTTP };
        let input = dialogue(&mut random);
        let input = &input[..input.len().min(40_000)];
        let mut flow = Flow::new(&config, &content, false);
        let (pieces, chunks) = (random.below(20), random.below(44));
        flow.memory = Memory::new(1, pieces, chunks);
        if flow.memory.has_room_for(input.len()) {
            promised += 1;
            let taken = flow.with(&content, |app, context| app.receive(context, input));
            assert!(taken.is_ok(), "{} bytes, {pieces} pieces, {chunks} chunks", input.len());
        }
        flow.send(&content);
        flow.end();
    }
    assert!(promised > 100);
}

#[test]
fn hostile_exports_never_panic_and_leave_nothing_behind() {
    let content = content();
    let mut random = Random(0xbad);
    for _ in 0..5000 {
        let input = dialogue(&mut random);
        let mut flow = Flow::new(&HTTP, &content, true);
        flow.receive(&content, &input[..random.below(input.len())]);
        let mut bytes = flow.state();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(1 + random.below(bytes.len() * 2));
        flow.end();
        let mut memory = Memory::new(1, PIECES, CHUNKS);
        let Ok(app) = App::import(&mut memory, &mut Reader::new(&bytes)) else {
            assert!(memory.is_unused());
            continue;
        };
        if app.leg().is_some() {
            // It waits for another leg: `legs.rs`, and snapshots of whole flows in the suite `hostile`.
            assert!(memory.is_unused());
            continue;
        }
        let (mut flow, input) = (Flow::new(&HTTP, &content, true), dialogue(&mut random));
        (flow.app, flow.memory) = (app, memory);
        flow.receive(&content, &input);
        flow.end();
    }
}
