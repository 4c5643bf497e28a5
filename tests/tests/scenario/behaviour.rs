//! What facts do to a flow, as the present behaviour revision does it: stored, so that a change of it is a new revision.

use stack::app::AppConfig;
use stack::app::generate::GenerateConfig;
use stack::app::http::HttpConfig;
use stack::content::Content;
use stack::fact::{Acked, Fact, Open, Passed, Syn, Tick};
use stack::flow::FlowId;
use stack::key::FlowKey;
use stack::limits::CONNECT_TIMEOUT;
use stack::output::Cursor;
use stack::seq::Seq;
use stack::service::{ArpPolicy, HOP_LIMIT, Service};
use stack::shard::{Place, SHARDS};
use stack::stack::{BEHAVIOUR, Mode, Stack, StackConfig};
use stack::tcp::contract::Options;
use stack::tcp::sender::{Hint, SenderConfig};
use stack::time::Instant;
use stack::wire::Address;

const STORED: &str = include_str!("../../snapshots/behaviour.txt");

const REQUEST: &[u8] = b"GET /generate/9000?seed=4 HTTP/1.1\r\nHost: a\r\n\r\n";
const UPLOAD: &[u8] = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabcdef";

const NOW: Instant = Instant(1 << 40);

fn service(app: AppConfig) -> Service {
    Service {
        addresses: vec![Address::v4([10, 0, 0, 1])],
        arp: ArpPolicy::default(),
        ports: vec![(80, 80)],
        app,
        content: Content::default(),
        receive_buffer: 16 << 10,
        idle_timeout: None,
        keep_alive: None,
        connect_timeout: CONNECT_TIMEOUT,
        sender: SenderConfig::default(),
        mss: 1460,
        nodelay: true,
        hop_limit: HOP_LIMIT,
        snoop: false,
        upstream: Default::default(),
    }
}

fn config() -> StackConfig {
    StackConfig {
        node: 2,
        place: Place::ALONE,
        mac: [2; 6],
        secret: [7; 32],
        flows_max: 4,
        active_max: 4,
        segments_max: 4,
        chunks_max: 64,
        pieces_max: 64,
        uploads_max: 1,
        reassemblies_max: 1,
        link_mbits: 10_000,
    }
}

/// What anybody can hold a flow to: where it stands, and the bytes that it has to say.
fn told(stack: &Stack, slot: u32) -> String {
    let Some(flow) = stack.flow(slot) else { return "gone".into() };
    let (contract, output) = (&flow.contract, &flow.output);
    let mut bytes = vec![0; (output.end() - output.start()) as usize];
    let content = &stack.env.services[0].content;
    output.read_at(&stack.env.memory, content, &mut Cursor::default(), output.start(), &mut bytes);
    // FNV-1a: any change shows.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    format!(
        "{:?} rcv_nxt {} rcv_edge {} snd_una {} says {}..{}{} {hash:016x}",
        contract.state,
        contract.rcv_nxt.0,
        contract.rcv_edge.0,
        contract.snd_una.0,
        output.start(),
        output.end(),
        if output.is_closed() { " and no more" } else { "" },
    )
}

/// A copy after each fact of a connection of which the client acknowledges so much on the way.
fn story(app: AppConfig, acknowledged: u32) -> Vec<String> {
    let mut stack = Stack::new(&config(), vec![service(app)]);
    stack.set_mode(NOW, 0, Mode::Silent);
    let key = FlowKey {
        remote: Address::v4([10, 0, 0, 9]),
        local: Address::v4([10, 0, 0, 1]),
        remote_port: 40_000,
        local_port: 80,
    };
    let options = Options { mss: 1460, ..Options::default() };
    let syn = Some(Syn { irs: Seq(1), ts_recent: 0, snd_wnd: 60_000 });
    let open = Open { key, next_hop: [2; 6], iss: Seq(7), options, syn };
    // A flow's name holds its shard.
    let mut names = (0..SHARDS as u8).map(|shard| FlowId::new(1, shard, 1));
    let slot = names.find_map(|id| stack.open_copy(NOW, &open, id, 0)).expect("there is room");
    let acked = |snd_una| {
        let hint = Hint::default();
        let passed = Passed::default();
        Fact::Acked(Acked { snd_una: Seq(snd_una), snd_wnd: 60_000, ts_recent: 0, hint, passed })
    };
    let (half, rest) = REQUEST.split_at(11);
    let mut facts = vec![acked(8), Fact::Data(half), Fact::Data(rest)];
    facts.extend([acked(8 + acknowledged), Fact::Data(UPLOAD), Fact::Fin, Fact::Tick(Tick::Abort)]);
    let mut lines = vec![told(&stack, slot)];
    for fact in facts {
        stack.apply(NOW, slot, &fact).expect("there is room");
        lines.push(told(&stack, slot));
    }
    lines
}

#[test]
fn what_facts_do_is_what_this_revision_does() {
    let generate = GenerateConfig { seed: 3, len: 5_000, stay_open: true };
    let apps = [
        ("echo", AppConfig::Echo, 20),
        ("discard", AppConfig::Discard, 0),
        ("generate", AppConfig::Generate(generate), 2_000),
        ("http", AppConfig::Http(HttpConfig { upload_bytes_max: 1 << 20 }), 2_000),
    ];
    let mut told = format!("behaviour revision {BEHAVIOUR}\n");
    for (name, app, acknowledged) in apps {
        for line in story(app, acknowledged) {
            told += &format!("{name}: {line}\n");
        }
    }
    assert_eq!(
        told, STORED,
        "flows behave otherwise: raise BEHAVIOUR in stack and store what is told as tests/snapshots/behaviour.txt"
    );
}
