//! Choices, decisions, next hops, reloads.

use super::choice::Wish;
use super::decision::{Admin, Change, Word};
use super::*;
use alloc::vec;
use core::cmp::Ordering;

fn address(n: u8) -> Address {
    Address::v4([10, 2, 0, n])
}

fn upstream(balance: Balance, weights: &[u16]) -> Upstream {
    let server = |(n, &weight)| {
        let address = address(n as u8 + 1);
        Server {
            address,
            port: 80,
            weight,
            next_hop: address,
            is_backup: false,
            connections_max: 0,
            is_retired: false,
        }
    };
    let servers = weights.iter().enumerate().map(server).collect();
    Upstream { servers, balance, attempts_max: 3, ..Upstream::default() }
}

fn roster(upstream: &Upstream) -> Roster {
    let mut roster = Roster::new(upstream);
    let now = Instant(1_000_000_000);
    roster.begin(now);
    for n in 0..upstream.servers.len() as u8 {
        assert!(roster.learn(now, upstream, &address(n + 1), [n; 6]));
    }
    roster
}

fn chosen(roster: &mut Roster, upstream: &Upstream, last: u16) -> Result<u16, NoServer> {
    let suits = |n| u64::from(n) * 7 % 5;
    let wish = Wish { last, client: 77, suits, drawn: [3, 8], stuck: None };
    roster.choose(NOW, upstream, &wish).map(|(server, _)| server)
}

const NONE: u16 = u16::MAX;
const NOW: Instant = Instant(5_000_000_000);

/// The settings are others from now on, while the node serves.
fn renew(roster: &mut Roster, now: Instant, before: &Upstream, after: &Upstream) {
    let mut next = Roster::new(after);
    next.succeed(now, (roster, before), after, true);
    *roster = next;
}

/// Asks the next question that is due.
fn ask(roster: &mut Roster, now: Instant, upstream: &Upstream) -> Option<Address> {
    let asked = roster.poll_query(now, upstream)?;
    roster.note_asked(now, upstream, asked);
    Some(asked)
}

fn set_down(roster: &mut Roster, server: u16) {
    roster.set_verdict(server, false);
    roster.adopt_verdicts(Instant(2_000_000_000));
}

#[test]
fn turns_are_dealt_by_weight_and_evenly_spread() {
    let upstream = upstream(Balance::RoundRobin, &[3, 1, 0]);
    let mut roster = roster(&upstream);
    let turns: Vec<u16> = (0..8).map(|_| chosen(&mut roster, &upstream, NONE).unwrap()).collect();
    assert_eq!(turns, [0, 0, 1, 0, 0, 0, 1, 0]);
}

#[test]
fn who_failed_is_asked_again_only_if_there_is_nobody_else() {
    for balance in
        [Balance::RoundRobin, Balance::LeastConnections, Balance::Source, Balance::RandomTwo]
    {
        let upstream = upstream(balance, &[1, 1]);
        let mut roster = roster(&upstream);
        for last in [0, 1, 0, 0] {
            assert_eq!(chosen(&mut roster, &upstream, last), Ok(1 - last), "{balance:?}");
        }
        set_down(&mut roster, 1);
        assert_eq!(chosen(&mut roster, &upstream, 0), Ok(0), "{balance:?}");
        set_down(&mut roster, 0);
        assert_eq!(chosen(&mut roster, &upstream, 0), Err(NoServer::AllDown), "{balance:?}");
    }
}

#[test]
fn the_fewest_connections_count_by_weight() {
    let upstream = upstream(Balance::LeastConnections, &[2, 1]);
    let mut roster = roster(&upstream);
    let mut counts = [0; 2];
    for _ in 0..9 {
        let server = chosen(&mut roster, &upstream, NONE).unwrap();
        roster.note_connection(server);
        counts[server as usize] += 1;
    }
    assert_eq!(counts, [6, 3]);
}

#[test]
fn backups_are_used_when_nobody_else_is() {
    for balance in
        [Balance::RoundRobin, Balance::Maglev, Balance::Source, Balance::LeastConnections]
    {
        let mut upstream = upstream(balance, &[1, 1, 1, 1]);
        (upstream.servers[0].is_backup, upstream.servers[2].is_backup) = (true, true);
        let mut roster = roster(&upstream);
        let expect = |roster: &mut Roster, wanted: &[u16]| {
            for _ in 0..8 {
                let server = chosen(roster, &upstream, NONE).unwrap();
                assert!(wanted.contains(&server), "{balance:?}: {server} of {wanted:?}");
            }
        };
        expect(&mut roster, &[1, 3]);
        set_down(&mut roster, 1);
        expect(&mut roster, &[3]);
        set_down(&mut roster, 3);
        expect(&mut roster, &[0, 2]);
        roster.decide(NOW, 0, Change::Admin(Admin::Drain));
        expect(&mut roster, &[2]);
        roster.set_verdict(3, true);
        roster.adopt_verdicts(NOW);
        expect(&mut roster, &[3]);
    }
}

/// A server that is full is passed over, and no backup stands in for it: it is not down.
#[test]
fn limits_of_servers_and_of_the_service_are_kept() {
    let mut upstream = upstream(Balance::RoundRobin, &[1, 1, 1]);
    (upstream.servers[0].connections_max, upstream.servers[1].connections_max) = (1, 3);
    upstream.servers[2].is_backup = true;
    let mut roster = roster(&upstream);
    let mut counts = [0; 3];
    while let Ok(server) = chosen(&mut roster, &upstream, NONE) {
        roster.note_connection(server);
        counts[server as usize] += 1;
    }
    assert_eq!(counts, [1, 3, 0]);
    assert_eq!(chosen(&mut roster, &upstream, 0), Err(NoServer::Full));
    roster.queue.has_news = false;
    roster.note_end(1);
    assert!(roster.queue.has_news);
    assert_eq!(chosen(&mut roster, &upstream, 1), Ok(1), "though it was asked in vain");
    let upstream = Upstream { connections_max: 3, ..upstream };
    assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::Full));
    roster.note_end(1);
    assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(1));
}

#[test]
fn a_server_that_comes_back_gets_its_share_little_by_little() {
    let slow_start = Duration::from_secs(10);
    let upstream = Upstream { slow_start, ..upstream(Balance::RoundRobin, &[1, 1]) };
    let mut roster = roster(&upstream);
    let share = |roster: &mut Roster, now: Instant| {
        let wish = Wish { last: NONE, client: 0, suits: |_| 0, drawn: [0, 0], stuck: None };
        let turns = (0..200).map(|_| roster.choose(now, &upstream, &wish).unwrap().0);
        turns.filter(|server| *server == 1).count()
    };
    assert_eq!(share(&mut roster, NOW), 100, "whoever was always there is warm");
    set_down(&mut roster, 1);
    roster.set_verdict(1, true);
    roster.adopt_verdicts(NOW);
    let shares =
        [0, 1, 5, 9, 10, 60].map(|secs| share(&mut roster, NOW + Duration::from_secs(secs)));
    for (share, wanted) in shares.into_iter().zip([3usize, 17, 67, 94, 100, 100]) {
        assert!(share.abs_diff(wanted) <= 1, "{shares:?}");
    }
}

/// A client goes on to its server while that is drained, and not when it is full, down or in maintenance.
#[test]
fn a_client_sticks_to_its_server_as_long_as_that_may_be() {
    let mut upstream = upstream(Balance::RoundRobin, &[1, 1, 1]);
    upstream.servers[2].connections_max = 1;
    let mut roster = roster(&upstream);
    let led = |roster: &mut Roster| {
        let wish = Wish { last: NONE, client: 0, suits: |_| 0, drawn: [0, 0], stuck: Some(2) };
        let server = roster.choose(NOW, &upstream, &wish).unwrap().0;
        assert!(server < 3);
        server == 2
    };
    assert!((0..9).all(|_| led(&mut roster)));
    roster.decide(NOW, 2, Change::Admin(Admin::Drain));
    assert!((0..9).all(|_| led(&mut roster)));
    roster.note_connection(2);
    assert!((0..9).all(|_| !led(&mut roster)));
    roster.note_end(2);
    roster.decide(NOW, 2, Change::Admin(Admin::Maintenance));
    assert!((0..9).all(|_| !led(&mut roster)));
    roster.decide(NOW, 2, Change::Admin(Admin::Ready));
    set_down(&mut roster, 2);
    assert!((0..9).all(|_| !led(&mut roster)));
}

#[test]
fn who_is_led_by_the_table_stays_and_only_those_of_a_lost_server_move() {
    let upstream = upstream(Balance::Maglev, &[2, 1, 1, 3]);
    let mut roster = roster(&upstream);
    let led = |roster: &mut Roster| led(roster, &upstream);
    let before = led(&mut roster);
    let shares = [0, 1, 2, 3].map(|n| before.iter().filter(|server| **server == n).count());
    for (share, wanted) in shares.into_iter().zip([2000, 1000, 1000, 3000]) {
        assert!(share.abs_diff(wanted) < 150, "{shares:?}");
    }
    set_down(&mut roster, 1);
    let after = led(&mut roster);
    assert!(before.iter().zip(&after).all(|(a, b)| if *a == 1 { *b != 1 } else { a == b }));
    roster.set_verdict(1, true);
    roster.adopt_verdicts(NOW);
    assert_eq!(led(&mut roster), before);
    roster.decide(NOW, 0, Change::Weight(0));
    assert!(led(&mut roster).iter().all(|server| *server != 0));
}

/// Where the table leads 7000 clients.
fn led(roster: &mut Roster, upstream: &Upstream) -> Vec<u16> {
    let one = |client: u64| {
        let client = client.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let wish = Wish { last: NONE, client, suits: |_| 0, drawn: [0, 0], stuck: None };
        roster.choose(NOW, upstream, &wish).unwrap().0
    };
    (0..7000).map(one).collect()
}

/// A choice deals nothing; the table of before leads until the next one is whole, however often it is begun anew.
#[test]
fn a_weight_that_changes_counts_when_the_table_is_whole() {
    let upstream = upstream(Balance::Maglev, &[1, 1]);
    let mut roster = roster(&upstream);
    assert!(!roster.is_dealing(), "the first one is dealt before anybody comes");
    let before = led(&mut roster, &upstream);
    for weight in [9, 3] {
        roster.decide(NOW, 1, Change::Weight(weight));
        roster.deal_some(&upstream);
        assert!(roster.is_dealing());
        assert_eq!(led(&mut roster, &upstream), before);
    }
    let mut polls = 1;
    while roster.is_dealing() {
        roster.deal_some(&upstream);
        polls += 1;
    }
    assert!((10..100).contains(&polls), "{polls}");
    let share = led(&mut roster, &upstream).iter().filter(|server| **server == 1).count();
    assert!(share.abs_diff(7000 * 3 / 4) < 200, "{share}");
}

/// A client that was led to a server is not led to another one that has got its place.
#[test]
fn who_sticks_to_a_place_does_not_stick_to_its_next_tenant() {
    let stick = Duration::from_secs(60);
    let mut before = Upstream { stick, ..upstream(Balance::RoundRobin, &[1, 1]) };
    before.servers[0].is_retired = true;
    let mut roster = roster(&before);
    let clients = [0, 1].map(|server| {
        let client = Address::v4([10, 3, 0, server as u8]);
        assert!(roster.note_stick(NOW, stick, Stick { client, hash: 5, server, until: NOW }));
        client
    });
    let mut after = before.clone();
    after.servers[0] = Server { address: address(9), is_retired: false, ..before.servers[1] };
    renew(&mut roster, NOW, &before, &after);
    let server = |client| roster.stick(NOW, 5, client).map(|stick| stick.server);
    assert_eq!(clients.each_ref().map(server), [None, Some(1)]);
}

#[test]
fn a_client_keeps_its_server_when_others_come_and_go() {
    let upstream = upstream(Balance::Source, &[1, 1, 1]);
    let mut roster = roster(&upstream);
    // By the hashes of `chosen`: 0, 2, 4.
    assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(2));
    set_down(&mut roster, 0);
    assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(2));
    set_down(&mut roster, 2);
    assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(1));
}

/// Places and what is known of them stay; a retired server gets nothing, and its place goes to another when it is free.
#[test]
fn servers_come_and_go_and_those_that_stay_keep_what_is_known_of_them() {
    let before = upstream(Balance::RoundRobin, &[1, 1]);
    let mut roster = roster(&before);
    for server in [0, 1, 0] {
        let status = roster.server_mut(server).unwrap();
        (status.connections, status.opened) = (status.connections + 1, status.opened + 1);
    }
    let mut after = upstream(Balance::RoundRobin, &[0, 3, 1]);
    after.servers[0].is_retired = true;
    let now = Instant(2_000_000_000);
    renew(&mut roster, now, &before, &after);
    assert_eq!(roster.servers().len(), 3);
    assert_eq!((roster.servers()[0].connections, roster.servers()[1].opened), (2, 1));
    assert_eq!(ask(&mut roster, now, &after), Some(address(3)));
    assert_eq!(ask(&mut roster, now, &after), None, "the others are known");
    assert!(roster.learn(now, &after, &address(3), [3; 6]));
    let turns = (0..4).map(|_| chosen(&mut roster, &after, NONE).unwrap());
    assert_eq!(turns.collect::<Vec<_>>(), [1, 1, 2, 1]);
    assert_eq!(after.position(&address(1), 80), None);
    assert_eq!(after.position(&address(3), 80), Some(2));
    roster.server_mut(0).unwrap().connections = 0;
    let mut later = after.clone();
    let newcomer =
        Server { address: address(9), next_hop: address(9), weight: 1, ..after.servers[1] };
    later.servers[0] = newcomer;
    renew(&mut roster, now, &after, &later);
    assert_eq!((roster.servers()[0].opened, roster.servers()[1].opened), (0, 1));
    assert_eq!(ask(&mut roster, now, &later), Some(address(9)));
    assert_eq!(later.position(&address(9), 80), Some(0));
    // A router in between is asked for before anything goes its way.
    let mut routed = later.clone();
    routed.servers.iter_mut().for_each(|server| server.next_hop = address(7));
    renew(&mut roster, now, &later, &routed);
    assert_eq!(chosen(&mut roster, &routed, NONE), Err(NoServer::NotYet));
}

/// What was decided since there were `told` changes, and about which server.
fn changes(roster: &Roster, upstream: &Upstream, told: u64) -> Vec<(u64, u16)> {
    let next = |(told, _): &(u64, Word)| roster.next_change(upstream, *told);
    let words = core::iter::successors(roster.next_change(upstream, told), next);
    words.map(|(change, word)| (change, server_of(&word))).collect()
}

/// The position that the server of [`address`] has in [`upstream`].
fn server_of(word: &Word) -> u16 {
    u16::from(word.address.as_v4().expect("they are IPv4 addresses")[3]) - 1
}

/// The operator's order and weight hold whatever the checks find, and each change is told once to whoever has to know.
#[test]
fn decisions_are_kept_apart_and_told_in_order() {
    let upstream = upstream(Balance::RoundRobin, &[1, 1, 1]);
    let mut roster = roster(&upstream);
    let now = Instant(3_000_000_000);
    assert!(roster.decide(now, 1, Change::Admin(Admin::Drain)));
    set_down(&mut roster, 2);
    assert!(!roster.decide(now, 3, Change::Weight(3)));
    assert_eq!(changes(&roster, &upstream, 0), [(1, 1), (2, 2)]);
    for _ in 0..4 {
        assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(0));
    }
    roster.decide(now, 1, Change::Weight(5));
    roster.decide(now, 1, Change::Weight(5));
    assert_eq!((roster.changes(), changes(&roster, &upstream, 1)), (3, vec![(2, 2), (3, 1)]));
    let expected = Decided { is_down: false, admin: Admin::Drain, weight: Some(5) };
    assert_eq!(roster.servers()[1].decided, expected);
    roster.decide(now, 1, Change::Admin(Admin::Ready));
    let turns = (0..6).map(|_| chosen(&mut roster, &upstream, NONE).unwrap());
    assert_eq!(turns.filter(|server| *server == 1).count(), 5);
    roster.decide(now, 0, Change::Weight(0));
    roster.decide(now, 1, Change::Admin(Admin::Maintenance));
    assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::AllDown));
    roster.forget_decisions();
    assert_eq!(changes(&roster, &upstream, 0), []);
    // A new owner decides what it has found itself.
    roster.begin(now);
    assert!(roster.servers()[2].decided.is_down);
    assert_eq!(changes(&roster, &upstream, 0), [(7, 2)]);
}

/// Of what two cores hold, the later revision counts, whoever is told by whom, and however often.
#[test]
fn of_two_cores_that_differ_the_later_revision_counts() {
    let now = Instant(3_000_000_000);
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    let [mut one, mut other] = [roster(&upstream), roster(&upstream)];
    one.decide(now, 0, Change::Weight(5));
    other.decide(now, 0, Change::Weight(5));
    one.decide(now, 0, Change::Admin(Admin::Drain));
    let told = |roster: &Roster, server: usize| {
        let status = &roster.servers()[server];
        (status.revision, status.decided)
    };
    assert_eq!((told(&one, 0).0, told(&other, 0).0), (2, 1));
    assert_eq!(one.follow(now, 0, told(&other, 0)), Ordering::Less);
    assert_eq!(one.servers()[0].decided.admin, Admin::Drain);
    assert_eq!(other.follow(now, 0, told(&one, 0)), Ordering::Greater);
    assert_eq!(other.follow(now, 0, told(&one, 0)), Ordering::Equal);
    // The same number of changes and not the same: one of the two counts on both.
    one.decide(now, 1, Change::Admin(Admin::Drain));
    other.decide(now, 1, Change::Weight(5));
    let (of_one, of_other) = (told(&one, 1), told(&other, 1));
    assert_ne!(one.follow(now, 1, of_other), other.follow(now, 1, of_one));
    assert_eq!(told(&one, 1), told(&other, 1));
    // Who begins to serve tells of each about which anything was ever decided.
    one.begin(now);
    let untold: Vec<u16> =
        core::iter::from_fn(|| one.take_untold(&upstream)).map(|word| server_of(&word)).collect();
    assert_eq!(untold, [0, 1]);
    one.tell(&upstream, &one.servers()[1].word(&upstream.servers[1]));
    one.forget_decisions();
    assert_eq!((one.take_untold(&upstream), told(&one, 0)), (None, (0, Decided::default())));
    // No number that a record can hold ends anything.
    assert_eq!(one.follow(now, 0, (u32::MAX, Decided::default())), Ordering::Greater);
    assert!(one.decide(now, 0, Change::Admin(Admin::Drain)));
}

/// What was decided and taken back leaves a revision, and whoever is told of it tells it on: of what two owners decide, one after
/// the other, the later counts.
#[test]
fn a_revision_is_told_on_though_nothing_is_in_force() {
    let now = Instant(3_000_000_000);
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    let [mut one, mut other] = [roster(&upstream), roster(&upstream)];
    one.decide(now, 1, Change::Admin(Admin::Drain));
    one.decide(now, 1, Change::Admin(Admin::Ready));
    let status = one.servers()[1];
    assert_eq!((status.revision, status.decided), (2, Decided::default()));
    assert_eq!(other.follow(now, 1, (2, Decided::default())), Ordering::Greater);
    assert_eq!(changes(&other, &upstream, 0), [(1, 1)], "its next peer is told");
}

#[test]
fn next_hops_are_asked_for_and_given_up() {
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    let mut roster = Roster::new(&upstream);
    let mut now = Instant(1_000_000_000);
    roster.begin(now);
    assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::NotYet));
    let mut asked = vec![];
    for _ in 0..20 {
        asked.extend(core::iter::from_fn(|| ask(&mut roster, now, &upstream)));
        now = roster.poll_timeout();
        roster.learn(now, &upstream, &address(2), [2; 6]);
    }
    assert_eq!(asked[..2], [address(1), address(2)]);
    assert!(roster.servers()[0].is_unreachable());
    assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(1));
    // What was known is forgotten when nobody answers for it any more.
    let silent_from = now;
    while roster.servers()[1].mac.is_some() {
        while ask(&mut roster, now, &upstream).is_some() {}
        now = roster.poll_timeout();
    }
    assert!(now < silent_from + NEIGHBOR_FRESH + Duration::from_secs(5));
    assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::AllDown));
}

/// A question that could not be put is not one that nobody answered.
#[test]
fn what_could_not_be_asked_does_not_count_as_unanswered() {
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    let mut roster = roster(&upstream);
    assert_eq!(roster.poll_query(NOW, &upstream), None);
    let mut now = roster.poll_timeout();
    for _ in 0..1000 {
        assert_eq!(roster.poll_query(now, &upstream), Some(address(1)));
        roster.put_off_queries(now);
        assert_eq!(roster.poll_query(now, &upstream), None, "not at once again");
        now = roster.poll_timeout();
    }
    assert!(roster.servers().iter().all(|server| server.mac.is_some()));
    assert!(chosen(&mut roster, &upstream, NONE).is_ok());
}

/// Its connections are looked for once, however often the others are checked meanwhile.
#[test]
fn a_server_goes_out_of_service_once() {
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    let mut roster = roster(&upstream);
    set_down(&mut roster, 1);
    assert!(roster.take_lost());
    for verdict in [(0, true), (1, false)] {
        roster.set_verdict(verdict.0, verdict.1);
        roster.adopt_verdicts(NOW);
        assert!(!roster.take_lost() && roster.has_out_of_service());
    }
    // It is out of service already, whoever wants it to be.
    roster.decide(NOW, 1, Change::Admin(Admin::Maintenance));
    assert!(!roster.take_lost());
    roster.decide(NOW, 0, Change::Admin(Admin::Drain));
    assert!(!roster.take_lost(), "what it has may go on");
    roster.decide(NOW, 0, Change::Admin(Admin::Maintenance));
    assert!(roster.take_lost());
}

/// Nobody is led to a retired server: whether it can be reached is of no interest.
#[test]
fn the_next_hop_of_a_retired_server_is_not_asked_for() {
    let mut upstream = upstream(Balance::RoundRobin, &[1, 1]);
    upstream.servers[0].is_retired = true;
    let mut roster = Roster::new(&upstream);
    roster.begin(NOW);
    assert_eq!(ask(&mut roster, NOW, &upstream), Some(address(2)));
    assert_eq!(ask(&mut roster, NOW, &upstream), None);
    assert_eq!(roster.poll_timeout(), NOW + NEIGHBOR_AGAIN);
}

/// A node whose file lacks a server keeps what is decided about it, tells it on, and goes by it when the server has a place; what
/// gives its place to another is not forgotten either.
#[test]
fn what_is_decided_about_a_server_without_a_place_waits_for_one() {
    let now = Instant(3_000_000_000);
    let (two, three) =
        (upstream(Balance::RoundRobin, &[1, 1]), upstream(Balance::RoundRobin, &[1; 3]));
    let mut owner = roster(&three);
    owner.decide(now, 2, Change::Admin(Admin::Drain));
    let (_, drained) = owner.next_change(&three, 0).expect("it was decided");
    owner.decide(now, 2, Change::Weight(7));
    let (_, weighed) = owner.next_change(&three, 0).expect("it was decided");

    let mut peer = roster(&two);
    assert_eq!(peer.hear(now, &two, weighed), Ordering::Greater);
    assert_eq!(peer.hear(now, &two, weighed), Ordering::Equal);
    assert_eq!(peer.hear(now, &two, drained), Ordering::Less, "it is older");
    assert_eq!(changes(&peer, &two, 0), [(1, 2)], "its next peer is told");
    peer.begin(now);
    assert_eq!(peer.take_untold(&two), Some(weighed), "and so are the other cores");
    assert_eq!(peer.take_untold(&two), None);
    peer.tell(&two, &drained);
    assert_eq!(peer.take_untold(&two), Some(weighed));

    renew(&mut peer, now, &two, &three);
    assert_eq!(peer.servers()[2].word(&three.servers[2]), weighed);
    assert!(peer.learn(now, &three, &address(3), [3; 6]));
    let turns = (0..4).map(|_| chosen(&mut peer, &three, NONE).unwrap());
    assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 0, 1], "it is drained");

    // Its place goes to another, and it comes back to a new one.
    let mut without = three.clone();
    (without.servers[2].address, without.servers[2].next_hop) = (address(9), address(9));
    renew(&mut peer, now, &three, &without);
    assert_eq!((peer.servers()[2].revision, peer.servers()[2].decided), Default::default());
    assert_eq!(peer.next_change(&without, 0).map(|(_, word)| word), Some(weighed));
    let mut with = without.clone();
    with.servers.push(three.servers[2]);
    renew(&mut peer, now, &without, &with);
    assert_eq!(peer.servers()[3].word(&with.servers[3]), weighed);
    peer.forget_decisions();
    assert_eq!(peer.next_change(&with, 0), None);
}

/// What was heard of a server before it had a place is forgotten with everything else when somebody else will say what is.
#[test]
fn what_was_heard_is_forgotten_with_all_that_was_decided() {
    let now = Instant(3_000_000_000);
    let (one, two) = (upstream(Balance::RoundRobin, &[1]), upstream(Balance::RoundRobin, &[1, 1]));
    let mut owner = roster(&two);
    owner.decide(now, 1, Change::Admin(Admin::Drain));
    let (_, word) = owner.next_change(&two, 0).expect("it was decided");
    let mut peer = roster(&one);
    peer.hear(now, &one, word);
    peer.forget_decisions();
    renew(&mut peer, now, &one, &two);
    assert_eq!(peer.servers()[1].decided, Decided::default());
}
