//! A seed's story: a cluster, clients, one mishap after another, and peace in the end.
//!
//! The whole of it is drawn before it is played ([`Tale`]), so that single clients and mishaps of it can be left out: that
//! is how a failure is made short ([`crate::sim::shrink`]).

use crate::kit::client::Ending;
use crate::sim::capture::Captured;
use crate::sim::fault::MS;
use crate::sim::host::Host;
use crate::sim::mishap::Mishap;
use crate::sim::tale::{Item, Tale};
use crate::sim::workload::Caller;
use crate::sim::world::{Fate, Tally, World};
use cluster::limits::SHUNNED_FOR;
use stack::time::Instant;
use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A group that is to be protected is, after so long without faults: whoever was filled in vain has another chance by then.
const PEACE: u64 = 30_000 * MS + SHUNNED_FOR.0;
/// Clients are done after so long without faults; their own timers double.
const PATIENCE: u64 = 300_000 * MS;
/// Pause between two looks at whether they are.
const LOOK: u64 = 250 * MS;

/// How much may go wrong at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// One thing after the other: nobody may lose a connection.
    One,
    /// Anything at any time: connections may be lost, but not silently altered.
    Beyond,
}

/// Which story to play, and how to look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// What everything is drawn from.
    pub seed: u64,
    /// How much may go wrong at once.
    pub budget: Budget,
    /// Only these clients and mishaps of it, by their number in the story.
    pub only: Option<BTreeSet<usize>>,
    /// Keeps what every event was.
    pub trace: bool,
    /// Keeps every frame, for [`crate::sim::capture`].
    pub capture: bool,
}

impl Script {
    /// The whole story of a seed.
    pub fn new(seed: u64, budget: Budget) -> Script {
        Script { seed, budget, only: None, trace: false, capture: false }
    }

    /// The command that plays it again.
    pub fn command(&self) -> String {
        let beyond = if self.budget == Budget::Beyond { " --beyond" } else { "" };
        let list = |only: &BTreeSet<usize>| {
            let only: Vec<String> = only.iter().map(usize::to_string).collect();
            format!(" --only {}", only.join(","))
        };
        let only = self.only.as_ref().map(list).unwrap_or_default();
        format!("cargo xtask sim --seed {}{beyond}{only}", self.seed)
    }
}

/// What came of a story.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it cost and saw.
    pub tally: Tally,
    /// Of every event: the same seed gives the same.
    pub trace_hash: u64,
    /// Simulated nanoseconds.
    pub time: u64,
    /// Clients and mishaps that the whole story has.
    pub items: usize,
    /// What happened, in order.
    pub diary: Vec<String>,
    /// Clients, and those of them that were reset.
    pub clients: (usize, usize),
    /// The first rule that was broken.
    pub failure: Option<String>,
    /// Every event, if they were to be kept.
    pub trace: Vec<String>,
    /// Every frame that arrived, if they were to be kept.
    pub frames: Vec<Captured>,
}

/// Plays a story. Whatever panics in it has failed.
pub fn play(script: &Script) -> Outcome {
    let tale = Tale::draw(script);
    let mut world = World::new(script.seed, tale.shape.clone());
    let mut story = Story::new(script);
    let played = catch_unwind(AssertUnwindSafe(|| story.play(&mut world, &tale)));
    let failure = played.unwrap_or_else(|panic| Err(said_by(panic))).err();
    let resets = world.hosts.iter().filter(|host| host.client.ending == Ending::Reset).count();
    Outcome {
        tally: world.tally(),
        trace_hash: world.trace_hash(),
        time: world.now,
        items: tale.items,
        diary: story.diary,
        clients: (world.hosts.len(), resets),
        failure: world.failure.take().or(failure),
        trace: world.take_trace(),
        frames: world.take_capture(),
    }
}

/// What a panic had to say; where it was stands on the standard error output.
fn said_by(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
    format!("panicked: {text}")
}

/// A story that is being played.
pub(super) struct Story<'a> {
    script: &'a Script,
    diary: Vec<String>,
}

impl Story<'_> {
    /// Its beginning.
    pub fn new(script: &Script) -> Story<'_> {
        Story { script, diary: Vec::new() }
    }

    fn play(&mut self, world: &mut World, tale: &Tale) -> Result<(), String> {
        await_protection(world, "at the start")?;
        for round in &tale.rounds {
            self.connect(world, &round.before);
            world.run_for(round.wait);
            let is_wanted = self.is_wanted(round.mishap.0);
            if is_wanted {
                self.begin(world, &round.mishap);
            }
            self.connect(world, &round.during);
            if is_wanted {
                world.run_for(round.length);
            }
            if self.script.budget == Budget::One {
                await_protection(world, "after a mishap")?;
            }
        }
        world.heal();
        await_protection(world, "in the end")?;
        self.conclude(world)
    }

    fn is_wanted(&self, number: usize) -> bool {
        self.script.only.as_ref().is_none_or(|only| only.contains(&number))
    }

    fn note(&mut self, world: &World, number: usize, what: &str) {
        self.diary.push(format!("{:>12.3} ms  {number:>3}  {what}", world.now as f64 / 1e6));
    }

    fn begin(&mut self, world: &mut World, (number, mishap): &Item<Mishap>) {
        self.note(world, *number, &format!("{:?}, then {:?}", mishap.fault, mishap.repairs));
        world.schedule(0, mishap.fault);
        let mut end = 0;
        for (wait, repair) in &mishap.repairs {
            end += wait;
            world.schedule(end, *repair);
        }
    }

    fn connect(&mut self, world: &mut World, callers: &[Item<(Caller, u64)>]) {
        for (number, (caller, wait)) in callers {
            if self.is_wanted(*number) {
                let steps: Vec<&str> =
                    caller.dialogue.steps.iter().map(|step| step.name()).collect();
                self.note(world, *number, &format!("{:?} {steps:?}", caller.settings));
                world.connect(caller.clone());
                world.run_for(*wait);
            }
        }
    }

    /// After the faults everybody gets what was theirs.
    fn conclude(&self, world: &mut World) -> Result<(), String> {
        self.settle(world);
        let (now, fates) = (Instant(world.now), world.fates());
        for (index, host) in world.hosts.iter_mut().enumerate() {
            self.conclude_one(now, host, fates[index])?;
        }
        world.check_copies()?;
        world.check_end()
    }

    /// Waits until nothing more can come of any client's connection, but not for ever.
    pub fn settle(&self, world: &mut World) {
        let end = world.now + PATIENCE;
        while world.now < end && world.failure.is_none() && !self.are_settled(world) {
            world.run_for(LOOK);
        }
    }

    fn are_settled(&self, world: &mut World) -> bool {
        let (now, fates) = (Instant(world.now), world.fates());
        let mut hosts = world.hosts.iter_mut().enumerate();
        hosts.all(|(index, host)| self.is_settled(now, host, fates[index]))
    }

    /// Whether nothing more can come of a client's connection.
    fn is_settled(&self, now: Instant, host: &mut Host, fate: Fate) -> bool {
        let is_silent = host.client.unacknowledged() == 0;
        // Who only listens hears of no loss; within the budget nothing is lost.
        let may_be_lost = self.script.budget == Budget::Beyond || host.is_excused;
        host.is_done()
            || host.client.has_lost_its_timer(now)
            || may_be_lost && fate != Fate::Known && is_silent
            || fate == Fate::Unborn && is_silent
    }

    fn conclude_one(&self, now: Instant, host: &mut Host, fate: Fate) -> Result<(), String> {
        let is_settled = self.is_settled(now, host, fate);
        let client = &mut host.client;
        let is_reset = client.ending == Ending::Reset;
        if is_reset && self.script.budget == Budget::One && !host.is_excused && !host.is_refused {
            return Err(format!("reset: {}", client.describe()));
        }
        if !is_settled {
            return Err(format!("stalled: {}", client.describe()));
        }
        let is_over = client.is_done() || client.has_lost_its_timer(now);
        let is_right = match is_reset || !is_over || host.is_abrupt {
            true => host.expected.begins_with(&client.received),
            false => host.expected.is_all_of(&client.received),
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("other bytes: {}", client.describe())),
        }
    }
}

/// Waits until every group is protected, and looks at every copy.
pub(super) fn await_protection(world: &mut World, when: &str) -> Result<(), String> {
    // A third node's home may have to wait until its path is believed to be steady.
    let peace = PEACE << (2 * world.nodes.len().saturating_sub(2));
    if world.run_until(peace, World::is_protected) {
        return world.check_copies();
    }
    let groups = 0..world.shape().settings.ports.len();
    let registers: Vec<String> =
        groups.map(|group| format!("{:?}", world.register(group))).collect();
    Err(format!("not protected {when}: {}", registers.join("; ")))
}
