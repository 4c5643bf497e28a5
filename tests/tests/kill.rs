//! The owner dies at every op of every kind of dialogue (`kit::kill`).

use stack::generate;
use stack::sha256::Sha256;
use stack::time::Duration;
use tests::kit::client::{ClientSettings, Opener};
use tests::kit::dialogue::{Dialogue, Step, bodies};
use tests::kit::kill::{
    Case, are_all_cores_used, assert_unnoticed, assert_unnoticed_late, assert_unnoticed_twice,
    every_point, overheard_used, reference,
};
use tests::kit::settings::{
    DISCARD, ECHO, GENERATE, GENERATE_STAY, GENERATED, HTTP, HTTP_IMPATIENT, Link, Settings,
};

fn get(len: usize, seed: u64, more: &str) -> Vec<u8> {
    format!("GET /generate/{len}?seed={seed} HTTP/1.1\r\nHost: x\r\n{more}\r\n").into_bytes()
}

fn generated(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    generate::fill(seed, 0, &mut bytes);
    bytes
}

fn goodbye() -> [Step; 3] {
    [Step::Close, Step::End, Step::Gone]
}

fn with_goodbye(mut steps: Vec<Step>) -> Vec<Step> {
    steps.extend(goodbye());
    steps
}

fn download(len: usize) -> Dialogue {
    let steps = vec![Step::Send(get(len, 3, "")), Step::Responses(1)];
    Dialogue::new("download", HTTP, with_goodbye(steps))
}

fn pattern(len: usize) -> Vec<u8> {
    generated(len, 77)
}

fn upload(len: usize) -> Dialogue {
    let mut bytes =
        format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    bytes.extend(pattern(len));
    let steps = vec![Step::Send(bytes), Step::Responses(1)];
    Dialogue::new("upload", HTTP, with_goodbye(steps))
}

fn upload_chunked(len: usize) -> Dialogue {
    let mut bytes = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in pattern(len).chunks(1777) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    let steps = vec![Step::Send(bytes), Step::Responses(1)];
    Dialogue::new("chunked upload", HTTP, with_goodbye(steps))
}

fn echo() -> Dialogue {
    let steps = vec![
        Step::Send(pattern(4000)),
        Step::Receive(4000),
        Step::Send(pattern(70)),
        Step::Receive(4070),
        Step::Send(pattern(9000)),
        Step::Receive(13_070),
    ];
    Dialogue::new("echo", ECHO, with_goodbye(steps))
}

#[test]
fn a_download_survives_every_death() {
    for case in [Case::new(download(20_000)), Case::new(download(12_000)).with_slow_cluster()] {
        let received = reference(&case).received;
        let len = bodies(&received[0])[0].len();
        assert_eq!(bodies(&received[0])[0], generated(len, 3));
        assert_unnoticed(&case);
    }
}

#[test]
fn an_upload_survives_every_death() {
    let cases = [
        Case::new(upload(12_000)),
        Case::new(upload(9000)).with_slow_cluster(),
        Case::new(upload_chunked(9000)),
    ];
    for (case, len) in cases.iter().zip([12_000, 9000, 9000]) {
        let receipt = String::from_utf8(bodies(&reference(case).received[0])[0].to_vec());
        let hash = Sha256::digest(&pattern(len));
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let receipt = receipt.expect("a receipt is text");
        assert_eq!(receipt.trim_end(), format!("length={len} sha256={hex}"));
        assert_unnoticed(case);
    }
}

/// The peer hears any part of what clients say to the owner, before and after its death: they must not notice.
#[test]
fn a_peer_that_hears_any_part_of_it_changes_nothing() {
    for (overheard, seeds) in [(1000, 1..2), (700, 1..4), (300, 4..6)] {
        for seed in seeds {
            for dialogue in [download(6000), upload(4000), echo()] {
                let mut case = Case::new(dialogue);
                (case.settings.overheard, case.settings.seed) = (overheard, seed);
                assert_unnoticed(&case);
                assert_unnoticed_late(&case.with_slow_cluster());
            }
        }
    }
    for half_open in [0, 2] {
        let mut case = Case { name: "heard cookie", half_open, ..Case::new(download(5000)) };
        (case.settings.flows_max, case.settings.overheard) = (4, 1000);
        assert_unnoticed(&case);
    }
    let mut case = on_cores([2, 2]);
    case.settings.overheard = 700;
    assert_unnoticed(&case);
    assert!(overheard_used() > 100, "{} frames were used", overheard_used());
}

/// A paused owner's last burst, checked before the pause, leaves after the new epoch has begun to speak.
#[test]
fn a_late_burst_of_a_paused_owner_changes_nothing() {
    let half_close = with_goodbye(vec![Step::Send(get(9000, 4, "")), Step::Responses(1)]);
    for dialogue in
        [download(20_000), upload(12_000), echo(), Dialogue::new("late close", HTTP, half_close)]
    {
        assert_unnoticed_late(&Case::new(dialogue));
    }
}

#[test]
fn an_echo_dialogue_survives_every_death() {
    for case in [Case::new(echo()), Case::new(echo()).with_slow_cluster()] {
        let expected = [pattern(4000), pattern(70), pattern(9000)].concat();
        assert_eq!(reference(&case).received[0], expected);
        assert_unnoticed(&case);
    }
}

#[test]
fn a_half_close_by_the_client_survives_every_death() {
    let steps = vec![Step::Send(pattern(5000)), Step::Close, Step::Receive(5000), Step::End];
    let dialogue = Dialogue::new("client closes first", ECHO, steps);
    assert_unnoticed(&Case::new(dialogue.clone()));
    assert_unnoticed(&Case::new(dialogue).with_slow_cluster());
}

#[test]
fn a_half_close_by_the_server_survives_every_death() {
    let steps = vec![
        Step::Send(get(3000, 3, "Connection: close\r\n")),
        Step::Responses(1),
        Step::End,
        Step::Send(pattern(3000)),
        Step::Acknowledged,
        Step::Close,
        Step::Gone,
    ];
    let dialogue = Dialogue::new("server closes first", HTTP, steps);
    assert_unnoticed(&Case::new(dialogue.clone()));
    assert_unnoticed(&Case::new(dialogue).with_slow_cluster());
}

#[test]
fn a_simultaneous_close_survives_every_death() {
    let steps = vec![Step::Close, Step::Receive(GENERATED.1 as usize), Step::End, Step::Gone];
    let dialogue = Dialogue::new("both close", GENERATE, steps);
    assert_eq!(reference(&Case::new(dialogue.clone())).received[0], generated(9000, GENERATED.0));
    assert_unnoticed(&Case::new(dialogue.clone()));
    assert_unnoticed(&Case::new(dialogue).with_slow_cluster());
}

#[test]
fn a_server_that_speaks_first_survives_every_death() {
    let steps = vec![Step::Receive(GENERATED.1 as usize)];
    let stays = Dialogue::new("server first, stays", GENERATE_STAY, with_goodbye(steps));
    let steps = vec![Step::End, Step::Close, Step::Gone];
    let closes = Dialogue::new("server first, closes", GENERATE, steps);
    for dialogue in [stays, closes] {
        assert_eq!(
            reference(&Case::new(dialogue.clone())).received[0],
            generated(9000, GENERATED.0)
        );
        assert_unnoticed(&Case::new(dialogue.clone()));
        assert_unnoticed(&Case::new(dialogue).with_slow_cluster());
    }
}

#[test]
fn a_handshake_survives_every_death() {
    let dialogue = Dialogue::new("handshake", DISCARD, goodbye().to_vec());
    let without_timestamps = Case {
        client: ClientSettings { timestamps: false, ..ClientSettings::default() },
        ..Case::new(dialogue.clone())
    };
    assert_unnoticed(&without_timestamps);
    assert_unnoticed(&Case::new(dialogue).with_slow_cluster());
}

#[test]
fn an_idle_time_out_survives_every_death() {
    let steps = vec![Step::Send(b"GET /generate/10 HT".to_vec()), Step::End, Step::Close];
    let dialogue = Dialogue::new("idle time-out", HTTP_IMPATIENT, steps);
    // A promoted flow's time-outs say nothing but RST: the former owner may have said 408 already.
    let case = Case { may_reset: true, ..Case::new(dialogue) };
    assert_unnoticed(&case);
    assert_unnoticed(&case.with_slow_cluster());
}

#[test]
fn a_cookie_survives_every_death() {
    let mut case = Case { name: "cookie", half_open: 2, ..Case::new(download(5000)) };
    case.settings.flows_max = 4;
    assert_unnoticed(&case);
    case.client.timestamps = false;
    assert_unnoticed(&case.with_slow_cluster());
}

#[test]
fn a_slow_reader_survives_every_death() {
    let mut dialogue = download(14_000);
    dialogue.name = "slow reader";
    dialogue.reading = Some((1000, Duration::from_millis(4)));
    let mut case = Case::new(dialogue);
    case.client.receive_buffer = 3000;
    assert_unnoticed(&case);
    assert_unnoticed(&case.with_slow_cluster());
}

#[test]
fn a_reader_that_pauses_survives_every_death() {
    let steps = vec![
        Step::Send(get(9000, 3, "")),
        Step::Pause(Duration::from_millis(250)),
        Step::Responses(1),
    ];
    let mut case = Case::new(Dialogue::new("zero window", HTTP, with_goodbye(steps)));
    case.client.receive_buffer = 2048;
    assert_unnoticed(&case);
}

#[test]
fn many_small_requests_survive_every_death() {
    let mut steps = Vec::new();
    for n in 1..=10 {
        steps.extend([Step::Send(get(n * 10, n as u64, "")), Step::Responses(n)]);
    }
    let mut pipelined = Vec::new();
    for n in 1..=24 {
        pipelined.extend(get(n * 10, n as u64, ""));
    }
    steps.extend([Step::Send(pipelined), Step::Responses(34)]);
    let case = Case::new(Dialogue::new("keep-alive", HTTP, with_goodbye(steps)));
    assert_unnoticed(&case);
    assert_unnoticed(&case.with_slow_cluster());
}

#[test]
fn a_client_that_aborts_is_forgotten_wherever_the_owner_dies() {
    let steps = vec![Step::Send(get(30_000, 3, "")), Step::Receive(9000), Step::Abort];
    let download = Dialogue::new("abort in a download", HTTP, steps);
    let steps = vec![Step::Send(pattern(3000)), Step::Receive(1000), Step::Abort];
    let echo = Dialogue::new("abort in an echo", ECHO, steps);
    for dialogue in [download, echo] {
        let case = Case { may_reset: true, ..Case::new(dialogue) };
        assert_unnoticed(&case);
        assert_unnoticed(&case.with_slow_cluster());
    }
}

#[test]
fn three_clients_at_once_survive_every_death() {
    let mut case = Case::new(download(7000));
    case.name = "three clients";
    case.dialogues.extend([upload(5000), upload_chunked(4000)]);
    assert_unnoticed(&case);
}

/// Four clients at once, of each kind of dialogue one, on nodes with so many cores, owner first.
fn on_cores(cores: [u8; 2]) -> Case {
    let mut case = Case::new(download(4000));
    case.name = match cores {
        [2, 2] => "two cores and two",
        [2, 1] => "two cores and one",
        [1, 2] => "one core and two",
        _ => "three cores and two",
    };
    case.settings = Settings { cores, split_records: true, ..Settings::default() };
    case.settings.ports.retain(|port| [HTTP, ECHO, DISCARD].contains(&port.port));
    let short_echo = vec![Step::Send(pattern(900)), Step::Receive(900)];
    let echo = Dialogue::new("echo", ECHO, with_goodbye(short_echo));
    let handshake = Dialogue::new("handshake", DISCARD, goodbye().to_vec());
    case.dialogues.extend([upload(3000), echo, handshake]);
    case
}

#[test]
fn nodes_with_several_cores_survive_every_death() {
    for cores in [[2, 2], [2, 1], [1, 2], [3, 2]] {
        let case = on_cores(cores);
        assert!(are_all_cores_used(&case), "{}: a core has no flow", case.name);
        assert_unnoticed(&case);
        assert_unnoticed(&Case { stride: 3, ..case.with_slow_cluster() });
    }
}

#[test]
fn several_cores_and_lossy_links_change_nothing() {
    for (seed, cores) in (1..).zip([[2, 2], [2, 1], [1, 2], [3, 2]]) {
        assert_unnoticed(&on_cores(cores).with_rough_links(seed, 7));
        assert_unnoticed_twice(&on_cores(cores).with_slow_cluster(), seed, 100);
    }
}

/// The proof that these tests bite with several cores, too.
#[test]
fn forged_acknowledgements_are_found_out_on_any_core() {
    let mut case = on_cores([3, 2]).with_slow_cluster();
    case.settings.forge_acknowledgements = true;
    case.stride = 5;
    assert!(!every_point(&case).failures.is_empty(), "nobody noticed");
}

/// The node opens the connection: its client listens, or opens as well.
fn opened_by(opener: Opener, dialogue: Dialogue) -> Case {
    let mut case = Case::new(dialogue);
    case.client.opener = opener;
    case
}

#[test]
fn an_open_by_the_node_survives_every_death() {
    let steps = vec![Step::End, Step::Close, Step::Gone];
    let speaks_first = Dialogue::new("node opens and speaks", GENERATE, steps);
    let upload = Dialogue {
        name: "node opens and listens",
        ..Dialogue::new("", DISCARD, with_goodbye(vec![Step::Send(pattern(5000))]))
    };
    for dialogue in [speaks_first, upload, Dialogue { name: "node opens an echo", ..echo() }] {
        let case = opened_by(Opener::Node, dialogue);
        let received = &reference(&case).received[0];
        let expected = match case.dialogues[0].port {
            GENERATE => generated(9000, GENERATED.0),
            ECHO => [pattern(4000), pattern(70), pattern(9000)].concat(),
            _ => Vec::new(),
        };
        assert_eq!(*received, expected);
        assert_unnoticed(&case);
        assert_unnoticed(&case.clone().with_slow_cluster());
        let mut many = Case { stride: 3, ..case.clone().with_slow_cluster() };
        many.settings.cores = [3, 2];
        assert_unnoticed(&many);
        assert_unnoticed(&small(case).with_slow_cluster());
    }
}

#[test]
fn a_simultaneous_open_survives_every_death() {
    let steps = vec![Step::End, Step::Close, Step::Gone];
    for dialogue in [Dialogue::new("both open", GENERATE, steps), echo()] {
        let mut case = opened_by(Opener::Both, Dialogue { name: "both open", ..dialogue });
        assert_unnoticed(&case);
        // Our SYN has left when the client's comes.
        case.settings.client_link = Link::clean(Duration::from_micros(500));
        assert_unnoticed(&case);
        case.settings.client_link = Link::clean(Duration::from_micros(100));
        assert_unnoticed(&case.with_slow_cluster());
    }
}

#[test]
fn an_open_by_the_node_over_rough_links_changes_nothing() {
    for seed in 1..=4 {
        let mut case = opened_by(Opener::Node, echo()).with_rough_links(seed, 7);
        assert_unnoticed(&case);
        case.client.timestamps = false;
        case.client.ipv6 = true;
        assert_unnoticed(&case);
        assert_unnoticed_twice(&opened_by(Opener::Node, echo()).with_slow_cluster(), seed, 100);
    }
}

/// A paused owner's last burst, its SYN among it, is later than the new owner's.
#[test]
fn a_late_syn_of_a_paused_owner_changes_nothing() {
    assert_unnoticed_late(&opened_by(Opener::Node, echo()));
    assert_unnoticed_late(&opened_by(Opener::Both, echo()));
}

/// Small windows and segments: many segments, windows that close, output that waits.
fn small(mut case: Case) -> Case {
    for port in &mut case.settings.ports {
        (port.receive_buffer, port.mss) = (2048, 500);
    }
    case.client.receive_buffer = 1600;
    case
}

#[test]
fn losses_on_both_links_change_nothing() {
    for seed in 1..=8 {
        for dialogue in [download(9000), upload(6000), echo()] {
            assert_unnoticed(&Case::new(dialogue).with_rough_links(seed, 7));
        }
    }
}

#[test]
fn small_windows_change_nothing() {
    for dialogue in [download(9000), upload(6000), upload_chunked(5000), echo()] {
        assert_unnoticed(&small(Case::new(dialogue.clone())));
        assert_unnoticed(&small(Case::new(dialogue)).with_slow_cluster());
    }
}

#[test]
fn a_second_death_goes_unnoticed_too() {
    for (seed, dialogue) in [download(30_000), upload(12_000), echo()].into_iter().enumerate() {
        let seed = seed as u64;
        assert_unnoticed_twice(&Case::new(dialogue.clone()).with_slow_cluster(), seed, 300);
        assert_unnoticed_twice(&small(Case::new(dialogue.clone())), seed, 300);
        assert_unnoticed_twice(&Case::new(dialogue).with_rough_links(seed, 7), seed, 300);
    }
}

#[test]
fn ipv6_changes_nothing() {
    for dialogue in [download(9000), upload(6000), echo()] {
        let mut case = Case::new(dialogue).with_slow_cluster();
        case.client.ipv6 = true;
        assert_unnoticed(&case);
    }
}

/// The proof that these tests bite: acknowledging before the peer holds is found out.
#[test]
fn forged_acknowledgements_are_found_out() {
    for dialogue in [upload(5000), echo(), download(5000)] {
        let mut case = Case::new(dialogue).with_slow_cluster();
        case.settings.forge_acknowledgements = true;
        let summary = every_point(&case);
        assert!(!summary.failures.is_empty(), "{}: nobody noticed", case.name);
    }
}

/// The proof that these tests bite: a peer that steps over a hole in the log is found out.
#[test]
fn a_hole_that_is_skipped_is_found_out() {
    for dialogue in [upload(9000), echo()] {
        let mut case = Case::new(dialogue).with_slow_cluster();
        case.settings.skip_hole = true;
        let summary = every_point(&case);
        assert!(!summary.failures.is_empty(), "{}: nobody noticed", case.name);
    }
}
