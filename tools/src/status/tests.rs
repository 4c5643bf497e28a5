use super::*;
use dataplane::control::status::*;

fn example() -> Status {
    let takeover = Takeover {
        epoch: 5,
        flows: 104,
        age_us: 3_000_000,
        detect_us: 30_100,
        grant_us: 900,
        apply_us: 2_300,
        announce_us: 40,
        first_byte_us: 120,
    };
    let group = GroupStatus {
        service: "web".into(),
        role: Role::Owner,
        epoch: 7,
        owner: Some(2),
        peer: Some(1),
        protection: Protection::Filling { copied: 60, total: 104 },
        lease_remaining_us: 21_400,
        flows: 104,
        flows_copied: 60,
        lag: Lag { ops: 12, bytes: 2048 },
        last_takeover: Some(takeover),
        ..GroupStatus::default()
    };
    let dark = ClientPath { carrier: Some(false), dips: 1, ..ClientPath::default() };
    let path =
        ClientPath { carrier: Some(true), next_hops: 2, answering: 1, ..ClientPath::default() };
    let key = Some("1a2b3c4d".to_string());
    let refused = Some("it does not seal".to_string());
    let nodes = vec![
        NodeStatus {
            node: 1,
            address: "10.99.0.1".into(),
            sealed: SealedStatus { refused, refused_age_us: 1_000, ..SealedStatus::default() },
            ..NodeStatus::default()
        },
        NodeStatus {
            node: 3,
            heartbeat_age_us: Some(1_500),
            largest_gap_us: Some(900),
            path: dark,
            sealed: SealedStatus { key, age_us: 3_000_000, ..SealedStatus::default() },
            ..NodeStatus::default()
        },
    ];
    let standing = Standing {
        service: "web".into(),
        epoch: 7,
        owner: Some(2),
        peer: Some(1),
        ..Standing::default()
    };
    let lag = Lag { ops: 12, bytes: 2048 };
    let (flows, flows_copied) = (104, 60);
    let owner =
        Standing { node: 2, role: Role::Owner, flows, flows_copied, lag, ..standing.clone() };
    let peer = Standing { node: 1, ..standing.clone() };
    let why = Some("its content".into());
    let unfit = Standing { node: 3, epoch: 6, age_us: 4_000_000, unfit: why, ..standing };
    let timers = [TimerStatus { name: "lease".into(), configured_us: 1, effective_us: 25_000 }];
    let cluster = ClusterStatus {
        name: "demo".into(),
        arbiter: "witness".into(),
        arbiter_answer_age_us: Some(1_200_000),
        nodes,
        keys: vec!["1a2b3c4d".into()],
        sealing: [("unsealed".to_string(), 3)].into(),
        standings: vec![owner, peer, unfit],
        ..ClusterStatus::default()
    };
    let drops = [("no_flow".to_string(), 3), ("checksum".to_string(), 0)].into();
    let counted = |name: &str| [(name.into(), 4), ("nothing".into(), 0)].into();
    let (events, icmp) = (counted("active_refused"), counted("too_big"));
    let core = CoreStatus { core: 1, segments_in: 5, drops, events, icmp, ..CoreStatus::default() };
    Status {
        node: 2,
        version: "0.1.0".into(),
        incarnation: "00000000000000aa".into(),
        uptime_us: 3_700_000_000,
        cluster,
        path,
        guardian: GuardianStatus { process: Some(4242), restarts: 1 },
        largest_gap_us: 3_100,
        timers: timers.into(),
        groups: vec![group],
        cores: vec![core],
        ..Status::default()
    }
}

#[test]
fn a_status_is_shown_in_full_words_with_units() {
    let expected = "\
node 2 of cluster demo, version 0.1.0, up 1 h 1 min, incarnation 00000000000000aa
arbiter witness, last answer 1.2 s ago
guardian running (process 4242, 1 restarts)
sealed under key 1a2b3c4d

node                 heard                                               life              version  largest gap  lease    peer silent  arbiter heard  path to the clients
node 2               this node                                           00000000000000aa  0.1.0    3.1 ms       25.0 ms  -            1.2 s          up, 1 of 2 next hops answer
node 1 at 10.99.0.1  NEVER; NOT UNDERSTOOD 1.0 ms ago: it does not seal  -                 -        -            -        -            -              not known
node 3 at            1.5 ms ago, session 3.0 s old                       -                 -        900 us       -        -            -              DARK: no carrier; worse once in ten minutes
agents' datagrams: unsealed 3

service  node    role   epoch  flows           peer behind  stands
web      node 2  owner  7      104, 60 copied  12 records   serves, node 1 is being filled
web      node 1  none   7      -               -            being filled by node 2
web      node 3  none   6      -               -            UNFIT as peer: its content (as of 4.0 s ago)

service  role   owner   peer    protection         flows            peer behind  lease    epoch
web      owner  node 2  node 1  filling 60 of 104  104 (60 copied)  12 records   21.4 ms  7

web: peer is 12 records, 2048 bytes behind

web: took over 104 flows 3.0 s ago (epoch 5) in 33.4 ms: detect 30.1 ms, grant 900 us, \
apply 2.3 ms, announce 40 us, first byte 120 us

core    flows  segments in  segments out  crossed in  crossed out  drops
core 1  0      5            0             0           0            no_flow 3
core 1: active_refused 4; ICMP errors: too_big 4

timer  configured  in use
lease  1 us        25.0 ms

largest gap of this node: 3.1 ms
";
    assert_eq!(render(&example()), expected);
}

#[test]
fn a_guardian_that_is_not_there_is_never_silent() {
    let mut status = example();
    status.guardian.process = None;
    assert!(render(&status).contains("guardian ABSENT (1 restarts)"));
}

#[test]
fn a_cluster_that_seals_nothing_is_never_silent() {
    let mut status = example();
    status.cluster.keys.clear();
    assert!(render(&status).contains("NOT SEALED"));
}

#[test]
fn split_brain_is_never_silent() {
    let mut status = example();
    status.cluster.split_brain_possible = true;
    assert!(render(&status).contains("SPLIT-BRAIN POSSIBLE"));
}

#[test]
fn a_node_that_does_not_run_is_an_error_with_advice() {
    let socket = Some(PathBuf::from("/nonexistent/1.sock"));
    let error = text(&StatusArgs { socket, json: false, watch: None }).expect_err("nobody answers");
    assert!(error.contains("/nonexistent/1.sock") && error.contains("is it running"));
    assert!(only_socket(Path::new("/nonexistent")).is_err());
}
