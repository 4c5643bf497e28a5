//! Downloads that are read at a pace, into small buffers: how long they wait when their owner dies.
//!
//! What is under way at a death and has got nowhere is said again when its sender's timer runs out, a second in the server's
//! TCP here. So a server that is offered no more than its client takes has nothing under way for most of the time, and then
//! the kick or the next word of the client brings the download on. One that is offered more has always something under
//! way: each of its downloads would wait for that timer.

use crate::{pattern, up_and_down};
use cluster::id::Epoch;
use stack::limits::PROBE_AFTER;
use stack::time::{Duration, Instant};
use tests::kit::dialogue::Step;
use tests::kit::kill::Case;
use tests::kit::world::World;

/// One segment is read, then nothing for so long.
const PACE: Duration = Duration::from_millis(40);
/// From the death to the promotion.
const OUTAGE: Duration = Duration::from_millis(15);
/// There and back, through the node, and what the log adds.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// Segments read before the death, and in all.
const SEGMENTS: (usize, usize) = (20, 40);

/// Beside timestamps a full segment has twelve bytes less.
fn segment(timestamps: bool) -> usize {
    if timestamps { 1448 } else { 1460 }
}

/// Its client takes so many segments without reading.
fn download(segments: usize, timestamps: bool) -> Case {
    let bytes = SEGMENTS.1 * segment(timestamps);
    let mut case = up_and_down(
        "a paced download",
        vec![Step::Receive(bytes)],
        vec![Step::Send(pattern(2, bytes))],
    );
    case.dialogues[0].reading = Some((segment(timestamps), PACE));
    case.settings.split_records = false;
    // Whole segments, so that none is cut before the client's buffer is full for the first time.
    case.settings.ports[0].receive_buffer = 8 * segment(timestamps) as u32;
    case.client.receive_buffer = segments * segment(timestamps);
    case.servers[0].0.send_buffer = bytes;
    for settings in [&mut case.client, &mut case.servers[0].0] {
        settings.timestamps = timestamps;
    }
    case
}

fn read(world: &World) -> usize {
    world.clients[1].received.len()
}

/// How long the client had to wait for something to read, at most.
struct Wait {
    read: usize,
    since: Instant,
    longest: Duration,
}

impl Wait {
    /// The client has just read.
    fn new(world: &World) -> Wait {
        Wait { read: read(world), since: world.now, longest: Duration::ZERO }
    }

    fn note(&mut self, world: &World) {
        if read(world) > self.read {
            self.longest = self.longest.max(world.now.since(self.since));
            (self.read, self.since) = (read(world), world.now);
        }
    }
}

/// The owner dies so long after a segment was read.
fn longest_wait(case: &Case, after: Duration) -> Duration {
    let segment = case.dialogues[0].reading.expect("it is paced").0;
    let mut world = case.start();
    let is_half = |world: &World| read(world) >= SEGMENTS.0 * segment;
    assert!(world.run_until(Duration::from_secs(5), is_half));
    let mut wait = Wait::new(&world);
    world.run_for(after);
    world.kill(0);
    world.run_until(OUTAGE, |world| {
        wait.note(world);
        false
    });
    world.promote(1, Epoch(3));
    let is_whole = world.run_until(Duration::from_secs(10), |world| {
        wait.note(world);
        read(world) == SEGMENTS.1 * segment
    });
    assert!(is_whole && world.clients[1].received == pattern(2, SEGMENTS.1 * segment));
    wait.longest
}

/// The client's words that were lost in the outage are said again by the next read, if it has a segment left for that; else by
/// the answer to the probe. Nothing waits for a timer of the server's.
#[test]
fn a_paced_download_waits_for_no_timer_of_its_server() {
    for timestamps in [true, false] {
        for segments in [1, 2, 3, 4, 8] {
            let case = download(segments, timestamps);
            let again = if segments == 1 { PROBE_AFTER } else { Duration::ZERO };
            let longest = Duration(PACE.0 + OUTAGE.0 + again.0 + ROUND_TRIP.0);
            // By then what was read last is acknowledged and recorded.
            for eighth in 3..8 {
                let wait = longest_wait(&case, Duration(PACE.0 * eighth / 8));
                assert!(
                    wait <= longest,
                    "{segments} segments, timestamps {timestamps}, {eighth}/8: {wait:?}"
                );
            }
        }
    }
}
