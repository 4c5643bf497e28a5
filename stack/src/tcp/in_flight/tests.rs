//! The scoreboard, counted again after every step.

use super::*;
use alloc::vec::Vec;

impl InFlight {
    /// Every sum and link, counted again.
    pub fn check(&self, pool: &InFlightPool) {
        let (mut index, mut prev, mut at) = (self.head, NONE, self.una);
        let (mut items, mut sacked, mut lost, mut segments) = (0, 0, 0, 0);
        let mut networked = 0;
        while index != NONE {
            let segment = &pool[index];
            assert!(pool.is_used(index) && segment.seq == at && segment.len > 0);
            assert_eq!(segment.prev, prev);
            match segment.place {
                Place::Network => networked += 1,
                Place::Lost => lost += segment.len,
                Place::Sacked => {
                    sacked += segment.len;
                    segments += segment.segments as u16;
                }
            }
            (prev, at, items) = (index, segment.end(), items + 1);
            index = segment.next;
        }
        assert_eq!((prev, at, items), (self.tail, self.nxt, self.items));
        assert_eq!(
            (sacked, lost, segments),
            (self.sacked_bytes, self.lost_bytes, self.sacked_segments)
        );
        let mut sent = None;
        for (queue, place) in [(self.network, Place::Network), (self.lost, Place::Lost)] {
            let (mut index, mut prev) = (queue.head, NONE);
            while index != NONE {
                assert!(pool[index].place == place && pool[index].queue_prev == prev);
                if place == Place::Network {
                    networked -= 1;
                    assert!(sent.is_none_or(|sent| !Tick::after(sent, pool[index].sent)));
                    sent = Some(pool[index].sent);
                } else {
                    lost -= pool[index].len;
                }
                prev = index;
                index = pool[index].queue_next;
            }
            assert_eq!(prev, queue.tail);
        }
        assert_eq!((networked, lost), (0, 0));
    }
}

fn filled(count: u32) -> (InFlightPool, InFlight) {
    let mut pool = InFlightPool::new(64);
    let mut flight = InFlight::new(Seq(u32::MAX - 150));
    for n in 0..count {
        flight.push(&mut pool, Tick(n), flight.nxt, 100, false).unwrap();
    }
    flight.check(&pool);
    (pool, flight)
}

fn at(flight: &InFlight, from: u32, to: u32) -> (Seq, Seq) {
    (flight.una + from, flight.una + to)
}

#[test]
fn acknowledging_pops_whole_pieces_and_trims_the_next() {
    let (mut pool, mut flight) = filled(5);
    let mut seen = 0;
    let ack = flight.una + 250;
    assert_eq!(flight.acknowledge(&mut pool, ack, |_| seen += 1), 250);
    flight.check(&pool);
    assert_eq!((seen, flight.outstanding(), flight.pipe(), pool.used()), (2, 250, 250, 3));
    let ack = flight.nxt + 1_000;
    assert_eq!(flight.acknowledge(&mut pool, ack, |_| ()), 250);
    flight.check(&pool);
    assert_eq!((flight.una, flight.nxt, pool.used()), (ack, ack, 0));
}

/// RFC 2018: blocks may come in any order; runs are merged and give their items back.
#[test]
fn sacked_neighbours_become_one_run() {
    let (mut pool, mut flight) = filled(6);
    let blocks = [at(&flight, 300, 400), at(&flight, 100, 200)];
    assert_eq!(flight.sack(&mut pool, &blocks, |_| ()), 200);
    flight.check(&pool);
    assert_eq!((pool.used(), flight.pipe(), flight.sacked_segments()), (6, 400, 2));
    let blocks = [at(&flight, 100, 500)];
    let mut seqs = Vec::new();
    assert_eq!(flight.sack(&mut pool, &blocks, |s| seqs.push(s.seq)), 200);
    flight.check(&pool);
    assert_eq!(seqs, [flight.una + 200, flight.una + 400]);
    assert_eq!((pool.used(), flight.sacked_bytes, flight.sacked_segments()), (3, 400, 3));
}

#[test]
fn useless_blocks_change_nothing() {
    let (mut pool, mut flight) = filled(4);
    for (from, to) in [(0, 100), (150, 190), (200, 200), (300, 200), (100, 500), (!0, 100)] {
        let blocks = [at(&flight, from, to)];
        assert_eq!(flight.sack(&mut pool, &blocks, |_| ()), 0);
        flight.check(&pool);
    }
}

#[test]
fn lost_pieces_queue_in_order_of_discovery_and_split() {
    let (mut pool, mut flight) = filled(4);
    let first = flight.first().unwrap();
    let last = flight.last().unwrap();
    flight.mark_lost(&mut pool, last);
    flight.mark_lost(&mut pool, first);
    flight.check(&pool);
    assert_eq!((flight.lost_first(), flight.pipe()), (Some(last), 200));
    let rest = flight.split(&mut pool, last, 30).unwrap();
    flight.check(&pool);
    assert_eq!((pool[rest].len, flight.last()), (70, Some(rest)));
    flight.mark_resent(&mut pool, last, Tick(9));
    flight.check(&pool);
    assert_eq!((flight.lost_first(), flight.pipe()), (Some(rest), 230));
    flight.release(&mut pool);
    assert_eq!(pool.used(), 0);
}

/// RFC 2018 8: a time-out forgets what was sacked, and the queue is in sequence order again.
#[test]
fn losing_all_restores_sequence_order() {
    let (mut pool, mut flight) = filled(5);
    let last = flight.last().unwrap();
    flight.mark_lost(&mut pool, last);
    let blocks = [at(&flight, 100, 300)];
    flight.sack(&mut pool, &blocks, |_| ());
    assert_eq!(flight.lose(&mut pool, |_| true), 400);
    flight.check(&pool);
    assert_eq!((flight.pipe(), flight.lost_first()), (0, flight.first()));
}
