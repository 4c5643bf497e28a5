//! The thread of one poll core: pinned, round after round; asleep when there is nothing to do and that is allowed.

use super::{MachineClock, StartError, failed};
use crate::clock;
use crate::config::{Config, Idle};
use crate::core::{Core, Round};
use crate::guardian::Guard;
use crate::log;
use crate::port::BURST;
use crate::port::xdp::XdpPort;
use crate::sys;
use stack::time::{Duration, Instant};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

/// Rounds without a frame after which an adaptive core sleeps, if frames come often.
const IDLE_ROUNDS: u32 = 64;

/// And if they come seldom: to await the next one awake would take the processor from whoever shares it.
const IDLE_ROUNDS_SELDOM: u32 = 4;

/// A sleep of this many nanoseconds was worth it: frames come seldom.
const SELDOM_NS: u64 = 150_000;

/// A round that has received more frames than this is no small one: more may lie in the rings.
const SMALL_ROUND: usize = BURST / 2;

/// Frames of whomever, received in a round, from which on they come thick.
const THICK_FRAMES: usize = 3;

/// Frames wait no longer for each other, as long as `gather` may be, in nanoseconds.
const GATHER_MAX_NS: u64 = 1_000_000;

/// For so long after a takeover the core does nothing but wake clients, who stand still; where more of them wait, the rest shares it
/// with others again.
const WAKING: Duration = Duration::from_millis(30);

/// Longest sleep of an idle core, in nanoseconds: an order of the agent waits no longer.
const IDLE_NS: u64 = 1_000_000;

/// How long an adaptive core stays awake for frames that do not come.
struct Patience {
    /// Rounds without a frame since the last one.
    idle_rounds: u32,
    /// After so many it sleeps.
    idle_rounds_max: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { idle_rounds: 0, idle_rounds_max: IDLE_ROUNDS }
    }
}

impl Patience {
    /// A round had frames.
    fn note_frames(&mut self) {
        self.idle_rounds = 0;
    }

    /// A round had none: whether another one awake is worth it.
    fn suffices(&mut self) -> bool {
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        self.idle_rounds < self.idle_rounds_max
    }

    /// It slept for so many nanoseconds.
    fn note_sleep(&mut self, slept: u64) {
        self.idle_rounds_max = if slept < SELDOM_NS { IDLE_ROUNDS } else { IDLE_ROUNDS_SELDOM };
    }
}

/// Whether clients are being woken, and for how long already.
#[derive(Default)]
struct Waking {
    since: Option<Instant>,
}

impl Waking {
    /// Whether the next round may not wait, nor anybody else have the processor. `now` is asked only while clients are woken.
    fn is_urgent(&mut self, is_waking: bool, now: impl FnOnce() -> Instant) -> bool {
        if !is_waking {
            self.since = None;
            return false;
        }
        let now = now();
        now.since(*self.since.get_or_insert(now)) < WAKING
    }
}

type PollCore = Core<XdpPort, MachineClock>;

/// Starts the poll loop of core `number` on its processor.
pub(super) fn start(
    config: &Config,
    number: usize,
    mut core: PollCore,
    guard: Arc<Guard>,
    stopping: Arc<AtomicBool>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let processor = usize::from(config.cores.pin[number]);
    let span = config.cores.gather;
    let is_adaptive = config.cores.idle == Idle::Adaptive;
    let run = move || -> io::Result<()> {
        if let Err(error) = sys::pin_to_core(processor) {
            log::warning(format!(
                "poll core {number} is not pinned to processor {processor}: {error}"
            ));
        }
        // Held until the last frame has left, however that comes.
        let _held = guard.hold(number).inspect_err(|error| {
            log::warning(format!("no guardian ({error}): a crash is noticed by silence only"));
        });
        let descriptors = core.descriptors(XdpPort::fd);
        let (mut patience, mut waking) = (Patience::default(), Waking::default());
        while !stopping.load(Ordering::Relaxed) {
            let round = core.poll();
            if waking.is_urgent(core.is_waking(), clock::now) {
                // Whoever shares the processor would have it for milliseconds.
                patience.note_frames();
                continue;
            }
            if is_small(round) && core.is_crowded() {
                let_gather(&mut core, Duration((span.0 * moments(round)).min(GATHER_MAX_NS)));
            }
            if round.received + round.sent > 0 || !is_adaptive {
                patience.note_frames();
                continue;
            }
            core.pause();
            if patience.suffices() {
                thread::yield_now();
            } else {
                patience.note_sleep(sleep(&core, &descriptors)?);
            }
        }
        Ok(())
    };
    let body = move || {
        let mut run = run;
        if let Err(error) = run() {
            log::error(format!("poll core {number} has ended: {error}"));
        }
    };
    let name = format!("poll{number}");
    thread::Builder::new().name(name).spawn(body).map_err(failed("start a poll core"))
}

/// Whether frames come, and the rings hold no more of them: the next round may wait for company.
fn is_small(round: Round) -> bool {
    round.received + round.sent > 0 && round.received <= SMALL_ROUND
}

/// How many moments the next round waits: where frames come thick, two. They have company then in any case, and whoever said them waits
/// longer for the others' turns. (`beside balancers --measures request --contenders mirrored`, 64 connections: a request takes 0.55 calls, and
/// 0.95 where it is one moment.)
fn moments(round: Round) -> u64 {
    if round.received >= THICK_FRAMES { 2 } else { 1 }
}

/// Lets frames gather until `span` after the last round began: what comes by then shares a round, a system call and an interrupt of
/// the receiver. Whoever else wants the processor has it meanwhile.
fn let_gather(core: &mut PollCore, span: Duration) {
    let next = core.pause() + span;
    while clock::now() < next {
        thread::yield_now();
    }
}

/// Sleeps until a frame or a parcel comes, or a timer is due; for how many nanoseconds it did.
fn sleep(core: &PollCore, descriptors: &[RawFd]) -> io::Result<u64> {
    let now = clock::now();
    let due = core.poll_timeout().map_or(u64::MAX, |at| at.since(now).0);
    if due > 0 && core.crossing().lie_down() {
        let outcome = sys::wait_readable(descriptors, due.min(IDLE_NS));
        core.crossing().get_up();
        outcome?;
        return Ok(clock::now().since(now).0);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds awake after frames, until it sleeps.
    fn rounds_awake(patience: &mut Patience) -> u32 {
        patience.note_frames();
        (1..).find(|_| !patience.suffices()).expect("it sleeps at last")
    }

    /// Where frames come often they are awaited awake, where they come seldom hardly; one sleep tells which it is.
    #[test]
    fn a_core_awaits_frames_as_long_as_they_are_likely_to_come() {
        let mut patience = Patience::default();
        assert_eq!(rounds_awake(&mut patience), IDLE_ROUNDS);
        for (slept, rounds) in [
            (SELDOM_NS - 1, IDLE_ROUNDS),
            (SELDOM_NS, IDLE_ROUNDS_SELDOM),
            (IDLE_NS, IDLE_ROUNDS_SELDOM),
            (0, IDLE_ROUNDS),
        ] {
            patience.note_sleep(slept);
            assert_eq!(rounds_awake(&mut patience), rounds, "after {slept} ns");
        }
    }

    /// However many clients are to be woken, it is no longer than [`WAKING`] at a time that nobody else has the processor.
    #[test]
    fn waking_is_urgent_for_a_while_each_time() {
        let mut waking = Waking::default();
        let at = |ns| move || Instant(ns);
        for start in [0, 10 * WAKING.0] {
            assert!(waking.is_urgent(true, at(start)));
            assert!(waking.is_urgent(true, at(start + WAKING.0 - 1)));
            assert!(!waking.is_urgent(true, at(start + WAKING.0)), "there is no end of them");
            assert!(!waking.is_urgent(false, || unreachable!("nobody is woken")));
        }
    }

    /// Whoever has received a burst looks at once whether there is more: rings do not fill up while a core waits for company.
    #[test]
    fn a_core_that_has_much_to_do_does_not_wait_for_more() {
        let round = |received| Round { received, sent: BURST };
        assert!(is_small(round(0)) && is_small(round(SMALL_ROUND)));
        assert!(!is_small(round(SMALL_ROUND + 1)) && !is_small(round(BURST)));
        let nothing = Round { received: 0, sent: 0 };
        assert!(!is_small(nothing), "nor one to whom nothing comes");
    }

    /// One or two frames wait a moment for company, three that came within one another.
    #[test]
    fn where_frames_come_thick_they_wait_twice_as_long() {
        let received = |received| moments(Round { received, sent: BURST });
        assert_eq!([0, 1, 2, 3, SMALL_ROUND].map(received), [1, 1, 1, 2, 2]);
    }

    /// Who has slept in vain sleeps on: an order of the agent or a timer is no reason to stay awake.
    #[test]
    fn a_sleep_that_brought_no_frame_is_followed_by_the_next() {
        let mut patience = Patience::default();
        rounds_awake(&mut patience);
        for _ in 0..100 {
            patience.note_sleep(IDLE_NS);
            assert!(!patience.suffices());
        }
    }
}
