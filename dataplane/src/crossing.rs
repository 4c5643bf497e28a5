//! Frames on their way from the core that received them to the core that serves them.
//!
//! A NIC deals frames out by a hash of its own, or by none; a flow lives on one core. Between each two cores there
//! are two rings in each direction: one takes full parcels there, one brings the empty ones back. A frame is copied
//! once, into a parcel; after that only the parcel's box moves. Parcels and rings are taken at start. Where no
//! parcel is left the frame is dropped and counted, as if the NIC had dropped it. A burst is shown to the other core
//! once, by one store.
//!
//! An adaptive core sleeps in the kernel, where a ring cannot wake it. So it says that it sleeps and looks at its rings once
//! more; whoever fills a ring looks afterwards whether its reader sleeps ([`Doorbell`]).
//!
//! Path: between steps 1 and 2. Bounds: [`PARCELS`] for each ordered pair of cores, [`BURST`] of each other core a round.

// Between rings and lists only the box moves: one word, whatever a parcel holds.
#![allow(clippy::vec_box)]

use crate::port::BURST;
use crate::sys::event::Event;
use cluster::id::Epoch;
use rtrb::{Consumer, Producer, RingBuffer};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Parcels from one core to another: eight bursts, so that a reader that is a few rounds late loses nothing.
pub const PARCELS: usize = 8 * BURST;

/// Where a frame came in, and what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// From the clients; the hash of its flow.
    Client(u64),
    /// From another node.
    Cluster,
    /// From nowhere: a core tells the others where a client was led, its address and these.
    Stick {
        /// The service.
        service: u8,
        /// The server.
        server: u16,
    },
    /// From nowhere: a core tells the others what is decided about a server.
    Decided {
        /// Index of the group.
        group: u8,
        /// Since which epoch the node owns it.
        owned_from: Epoch,
    },
}

/// One frame between cores.
pub struct Parcel {
    side: Side,
    len: usize,
    bytes: Box<[u8]>,
}

impl Parcel {
    /// Where the frame came in.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The frame, to be changed where it lies.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

/// What crossed over, as its core has counted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrossingCounters {
    /// Frames handed to other cores.
    pub sent: u64,
    /// Frames taken from other cores.
    pub received: u64,
    /// Frames dropped because the other core had all parcels.
    pub full: u64,
    /// Frames dropped because they are longer than a parcel.
    pub too_long: u64,
    /// Times that a sleeping core was woken.
    pub wakes: u64,
}

/// How a core that sleeps is woken.
///
/// The sleeper sets `is_asleep`, then looks at its rings; the writer publishes in a ring, then looks at `is_asleep`. With a
/// sequentially consistent fence between the two steps on both sides, one of them sees what the other did: either the
/// sleeper finds the parcels and does not sleep, or the writer finds it asleep and rings. (Without the fences both
/// could read what was before, each store waiting in its processor's buffer, and the parcels would lie there.)
#[repr(align(128))]
struct Doorbell {
    is_asleep: AtomicBool,
    event: Event,
}

impl Doorbell {
    /// Wakes the core if it sleeps; call it after having published. Answers whether it did.
    fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeps =
            self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed);
        if sleeps {
            self.event.raise();
        }
        sleeps
    }
}

/// Towards one other core.
struct Outgoing {
    to: u8,
    full: Producer<Box<Parcel>>,
    empty: Consumer<Box<Parcel>>,
    free: Vec<Box<Parcel>>,
    /// Filled in this burst, not published.
    filled: Vec<Box<Parcel>>,
}

/// From one other core.
struct Incoming {
    full: Consumer<Box<Parcel>>,
    empty: Producer<Box<Parcel>>,
}

/// One core's ends of all rings.
pub struct Crossing {
    core: usize,
    outgoing: Vec<Outgoing>,
    incoming: Vec<Incoming>,
    burst: Vec<Box<Parcel>>,
    bells: Arc<[Doorbell]>,
    counters: CrossingCounters,
}

impl Crossing {
    /// The ends for each of `cores` cores, for frames of at most `frame_bytes`.
    pub fn among(cores: usize, frame_bytes: usize) -> io::Result<Vec<Crossing>> {
        let bell = || Ok(Doorbell { is_asleep: AtomicBool::new(false), event: Event::new()? });
        let bells: Arc<[Doorbell]> = (0..cores).map(|_| bell()).collect::<io::Result<_>>()?;
        let mut ends: Vec<Crossing> = (0..cores)
            .map(|core| Crossing {
                core,
                outgoing: Vec::new(),
                incoming: Vec::new(),
                burst: Vec::with_capacity(BURST),
                bells: bells.clone(),
                counters: CrossingCounters::default(),
            })
            .collect();
        for from in 0..cores {
            for to in (0..cores).filter(|&to| to != from) {
                let (outgoing, incoming) = pair(to as u8, frame_bytes);
                ends[from].outgoing.push(outgoing);
                ends[to].incoming.push(incoming);
            }
        }
        Ok(ends)
    }

    /// Bytes that the crossings of a node take.
    pub fn memory_bytes(cores: usize, frame_bytes: usize) -> usize {
        cores * (cores - 1) * PARCELS * (size_of::<Parcel>() + frame_bytes)
    }

    /// Whether there is another core.
    #[inline]
    pub fn has_others(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Copies a frame into a parcel for core `to`. It leaves with [`Crossing::publish`].
    #[inline]
    pub fn send(&mut self, to: u8, side: Side, frame: &[u8]) {
        let outgoing = self.outgoing.iter_mut().find(|outgoing| outgoing.to == to);
        let outgoing = outgoing.expect("a frame crosses over to another core of this node");
        outgoing.take_back();
        let Some(mut parcel) = outgoing.free.pop() else {
            self.counters.full += 1;
            return;
        };
        match parcel.bytes.get_mut(..frame.len()) {
            Some(bytes) => {
                bytes.copy_from_slice(frame);
                (parcel.side, parcel.len) = (side, frame.len());
                self.counters.sent += 1;
                outgoing.filled.push(parcel);
            }
            None => {
                self.counters.too_long += 1;
                outgoing.free.push(parcel);
            }
        }
    }

    /// Whether there is a parcel for every other core.
    pub fn has_room(&mut self) -> bool {
        self.outgoing.iter_mut().all(|outgoing| {
            outgoing.take_back();
            !outgoing.free.is_empty()
        })
    }

    /// The same for every other core.
    pub fn send_to_all(&mut self, side: Side, frame: &[u8]) {
        for n in 0..self.outgoing.len() {
            let to = self.outgoing[n].to;
            self.send(to, side, frame);
        }
    }

    /// Shows the burst's parcels to the cores that they are for, and wakes those that sleep.
    #[inline]
    pub fn publish(&mut self) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| !outgoing.filled.is_empty()) {
            move_all(&mut outgoing.filled, &mut outgoing.full);
            self.counters.wakes += self.bells[outgoing.to as usize].ring() as u64;
        }
    }

    /// Calls `handle` with a burst from each other core that has sent one; answers how many frames there were.
    #[inline]
    pub fn receive(&mut self, mut handle: impl FnMut(&mut [Box<Parcel>])) -> usize {
        let mut received = 0;
        for incoming in &mut self.incoming {
            let count = incoming.full.slots().min(BURST);
            let Ok(chunk) = incoming.full.read_chunk(count) else { continue };
            if count == 0 {
                continue;
            }
            self.burst.extend(chunk);
            handle(&mut self.burst);
            move_all(&mut self.burst, &mut incoming.empty);
            received += count;
        }
        self.counters.received += received as u64;
        received
    }

    /// Becomes readable when this core is woken; to wait for between [`Crossing::lie_down`] and [`Crossing::get_up`].
    pub fn fd(&self) -> RawFd {
        self.bells[self.core].event.fd()
    }

    /// Says that this core sleeps. `false`: something has arrived, it must not.
    pub fn lie_down(&self) -> bool {
        self.bells[self.core].is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_quiet = self.incoming.iter().all(|incoming| incoming.full.is_empty());
        if !is_quiet {
            self.get_up();
        }
        is_quiet
    }

    /// Says that this core is awake.
    pub fn get_up(&self) {
        let bell = &self.bells[self.core];
        bell.is_asleep.store(false, Ordering::Relaxed);
        if self.has_others() {
            bell.event.lower();
        }
    }

    /// Counters so far.
    pub fn counters(&self) -> CrossingCounters {
        self.counters
    }
}

impl Outgoing {
    /// Takes the parcels that have come back, if none is left.
    #[inline]
    fn take_back(&mut self) {
        if self.free.is_empty()
            && let Ok(chunk) = self.empty.read_chunk(self.empty.slots())
        {
            self.free.extend(chunk);
        }
    }
}

/// The two ends of what leads from one core to core `to`.
fn pair(to: u8, frame_bytes: usize) -> (Outgoing, Incoming) {
    let (full, full_end) = RingBuffer::new(PARCELS);
    let (empty_end, empty) = RingBuffer::new(PARCELS);
    let parcel =
        || Box::new(Parcel { side: Side::Cluster, len: 0, bytes: vec![0; frame_bytes].into() });
    let free = (0..PARCELS).map(|_| parcel()).collect();
    let filled = Vec::with_capacity(BURST);
    (Outgoing { to, full, empty, free, filled }, Incoming { full: full_end, empty: empty_end })
}

/// Moves all parcels into a ring, which has room for every parcel that there is, and shows them at once.
#[inline]
fn move_all(parcels: &mut Vec<Box<Parcel>>, ring: &mut Producer<Box<Parcel>>) {
    let chunk =
        ring.write_chunk_uninit(parcels.len()).expect("a ring holds all parcels of its pair");
    chunk.fill_from_iter(parcels.drain(..));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wait_readable;

    fn two(frame_bytes: usize) -> (Crossing, Crossing) {
        let mut ends = Crossing::among(2, frame_bytes).unwrap().into_iter();
        (ends.next().unwrap(), ends.next().unwrap())
    }

    fn received(end: &mut Crossing) -> Vec<(Side, Vec<u8>)> {
        let mut frames = Vec::new();
        end.receive(|burst| {
            frames.extend(burst.iter().map(|parcel| (parcel.side(), parcel.frame().to_vec())));
        });
        frames
    }

    #[test]
    fn frames_arrive_in_order_once_they_are_published() {
        let (mut a, mut b) = two(64);
        a.send(1, Side::Client(7), b"one");
        a.send(1, Side::Cluster, b"two and more");
        assert_eq!(received(&mut b), []);
        a.publish();
        let expected =
            [(Side::Client(7), b"one".to_vec()), (Side::Cluster, b"two and more".to_vec())];
        assert_eq!(received(&mut b), expected);
        assert_eq!((received(&mut b), received(&mut a)), (vec![], vec![]));
        assert_eq!((a.counters().sent, b.counters().received), (2, 2));
    }

    #[test]
    fn parcels_come_back_and_without_one_a_frame_is_dropped() {
        let (mut a, mut b) = two(64);
        for n in 0..PARCELS + 10 {
            a.send(1, Side::Client(n as u64), &[n as u8]);
            a.publish();
        }
        assert_eq!((a.counters().sent, a.counters().full), (PARCELS as u64, 10));
        for n in 0..3 * PARCELS as u64 {
            let burst = received(&mut b);
            assert!(burst.len() == BURST || n > 0);
            a.send(1, Side::Client(n), &[n as u8]);
            a.publish();
        }
        assert_eq!(a.counters().full, 10, "a reader that keeps up loses nothing");
        a.send(1, Side::Cluster, &[0; 65]);
        assert_eq!(a.counters().too_long, 1);
    }

    #[test]
    fn each_core_reaches_every_other() {
        let mut ends = Crossing::among(3, 64).unwrap();
        for from in 0..3u8 {
            for to in (0..3u8).filter(|&to| to != from) {
                ends[from as usize].send(to, Side::Cluster, &[from, to]);
            }
            ends[from as usize].publish();
        }
        for to in 0..3u8 {
            let mut frames: Vec<_> =
                received(&mut ends[to as usize]).into_iter().map(|(_, f)| f).collect();
            frames.sort();
            let expected: Vec<_> =
                (0..3).filter(|&from| from != to).map(|from| vec![from, to]).collect();
            assert_eq!(frames, expected);
        }
    }

    /// A writer and a reader that sleeps whenever it finds nothing: none of its sleeps may last.
    #[test]
    fn a_sleeping_core_is_woken() {
        const FRAMES: u64 = 20_000;
        let (mut a, mut b) = two(64);
        let reader = std::thread::spawn(move || {
            let (mut count, mut sleeps) = (0, 0);
            while count < FRAMES {
                let burst = received(&mut b);
                count += burst.len() as u64;
                if burst.is_empty() && b.lie_down() {
                    sleeps += 1;
                    let is_woken = wait_readable(&[b.fd()], 20_000_000_000).unwrap();
                    assert!(is_woken, "slept beside {count} frames");
                    b.get_up();
                }
            }
            sleeps
        });
        let mut n = 0;
        while n < FRAMES {
            let sent = a.counters().sent;
            a.send(1, Side::Client(n), b"frame");
            a.publish();
            n += a.counters().sent - sent;
            if n % 64 == 0 {
                std::thread::yield_now();
            }
        }
        let sleeps = reader.join().unwrap();
        assert!(sleeps > 0 && a.counters().wakes > 0, "{sleeps} sleeps");
    }
}
