//! The thread of one poll core: pinned, round after round; asleep when there is nothing to do and that is allowed.

use super::{MachineClock, StartError, failed};
use crate::clock;
use crate::config::{Config, Idle};
use crate::core::{Core, Round};
use crate::guardian::Guard;
use crate::log;
use crate::port::xdp::XdpPort;
use crate::sys;
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

/// Longest sleep of an idle core, in nanoseconds: an order of the agent waits no longer.
const IDLE_NS: u64 = 1_000_000;

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
        let (mut idle_rounds, mut patience) = (0, IDLE_ROUNDS);
        while !stopping.load(Ordering::Relaxed) {
            let Round { received, sent } = core.poll();
            if received + sent > 0 || !is_adaptive {
                idle_rounds = 0;
                continue;
            }
            idle_rounds += 1;
            if idle_rounds < patience {
                thread::yield_now();
            } else {
                let slept = sleep(&core, &descriptors)?;
                patience = if slept < SELDOM_NS { IDLE_ROUNDS } else { IDLE_ROUNDS_SELDOM };
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
