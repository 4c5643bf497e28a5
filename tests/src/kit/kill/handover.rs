//! The group is handed over at every output of the owner, and whatever goes wrong on the way, the client must not
//! notice.

use super::{
    Case, OUTAGE, PATIENCE, Point, Reference, all_done, check_forgotten, check_said, conclude,
    hand_over, reference, say, take_over,
};
use crate::kit::settings::Hops;
use crate::kit::world::World;
use cluster::id::Epoch;
use stack::time::Duration;

/// A frozen owner's records must be committed within this.
const FROZEN_WITHIN: Duration = Duration::from_secs(2);

/// From the last commit until both have heard of the new register.
const SWAP: Duration = Duration::from_micros(700);

/// What goes wrong with a handover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// Nothing; the new owner hears of it first.
    None,
    /// Nothing; the former owner hears of it first.
    Late,
    /// It is given up while the owner freezes, or is frozen.
    Thawed {
        /// Its last records were committed.
        is_frozen: bool,
    },
    /// The owner dies while it freezes; of its datagrams so many arrive.
    OwnerDies(usize),
    /// The owner dies when everything is committed, before the register changes.
    FrozenOwnerDies,
    /// The new owner dies before it has heard that it is.
    HeirDiesUnaware,
    /// The new owner dies after so many outputs; of its datagrams so many arrive.
    HeirDies(u64, usize),
    /// The former owner dies once both have changed places.
    FormerDies,
    /// The group is handed back at once.
    ThereAndBack,
    /// It goes there, back and there again, and whatever was forwarded arrives only then.
    ThereBackAndThere,
}

impl Mishap {
    /// Nobody dies, and one hop is enough for whatever reaches the wrong node: no client has to say anything again.
    fn is_harmless(self) -> bool {
        matches!(self, Mishap::None | Mishap::Late | Mishap::Thawed { .. })
    }
}

/// Plays a case with a handover at every output, or every n-th (`Case::stride`), and this mishap. Panics if a client
/// noticed.
pub fn assert_handed_over(case: &Case, mishap: Mishap) -> u64 {
    let (points, failures) = handed_over(case, mishap);
    say(&format!("handovers: {points} of {}, {mishap:?}", case.name));
    assert!(failures.is_empty(), "{}: {mishap:?}: {failures:?}", case.name);
    points
}

/// The same; answers how many handovers there were, and after which outputs a client noticed what.
pub fn handed_over(case: &Case, mishap: Mishap) -> (u64, Vec<(u64, String)>) {
    let reference = reference(case);
    let (mut points, mut failures) = (0, Vec::new());
    for output in (1..=reference.outputs).step_by(case.stride) {
        if let Err(what) = play(case, &reference, output, mishap) {
            failures.push((output, what));
        }
        points += 1;
    }
    (points, failures)
}

fn play(case: &Case, reference: &Reference, output: u64, mishap: Mishap) -> Result<(), String> {
    let mut world = case.start();
    world.run_until(PATIENCE, |world| world.nodes[0].outputs >= output);
    world.freeze(0, Epoch(2), 1);
    let said = world.nodes[0].stacks().map(|stack| stack.counters().tx_frames).sum::<u64>();
    let owner = match mishap {
        Mishap::Thawed { is_frozen: false } => {
            world.run_for(Duration::from_micros(300));
            world.thaw(0);
            0
        }
        Mishap::OwnerDies(prefix) => {
            hand_over(&mut world, 0, Point { output, is_heard: true, prefix });
            world.run_for(OUTAGE);
            check_said(&world, 0)?;
            take_over(&mut world, 1, Epoch(3));
            1
        }
        _ => {
            let is_frozen = world.run_until(FROZEN_WITHIN, |world| world.is_frozen(0, 1));
            if !is_frozen {
                return Err("the last records were never committed".into());
            }
            world.run_for(SWAP);
            let since = world.nodes[0].stacks().map(|stack| stack.counters().tx_frames);
            if since.sum::<u64>() != said {
                return Err("a frozen owner has spoken".into());
            }
            go_on(&mut world, mishap)?
        }
    };
    conclude(case, reference, &mut world, owner)?;
    let links = [&case.settings.client_link, &case.settings.cluster_link];
    let is_clean =
        links.iter().all(|link| link.loss_permille == 0) && case.settings.hops == Hops::Arrive;
    if is_clean && mishap.is_harmless() && !case.may_repeat && world.repeats > 0 {
        return Err(format!("{} segments were said again", world.repeats));
    }
    // A flow whose client never closes stays, and so does its copy.
    let is_over = world.nodes[owner].flows().next().is_none();
    if is_over && world.nodes[1 - owner].is_alive {
        check_forgotten(&world, 1 - owner)
    } else {
        Ok(())
    }
}

/// Everything is committed; answers who owns the group in the end.
fn go_on(world: &mut World, mishap: Mishap) -> Result<usize, String> {
    match mishap {
        Mishap::Thawed { .. } => {
            world.thaw(0);
            return Ok(0);
        }
        Mishap::FrozenOwnerDies => {
            world.kill(0);
            world.run_for(OUTAGE);
            check_said(world, 0)?;
            take_over(world, 1, Epoch(3));
            return Ok(1);
        }
        Mishap::HeirDiesUnaware => {
            world.kill(1);
            world.yield_up(0, Epoch(3));
            world.run_for(OUTAGE);
            take_over(world, 0, Epoch(4));
            return Ok(0);
        }
        Mishap::Late => {
            world.yield_up(0, Epoch(3));
            world.run_for(SWAP);
            world.assume(1, Epoch(3));
        }
        _ => {
            world.assume(1, Epoch(3));
            world.run_for(SWAP);
            world.yield_up(0, Epoch(3));
        }
    }
    check_copied(world, 1)?;
    match mishap {
        Mishap::HeirDies(outputs, prefix) => {
            world.nodes[1].dies_after = Some(world.nodes[1].outputs + outputs);
            world.run_until(PATIENCE, |world| !world.nodes[1].is_alive || all_done(world));
            hand_over(world, 1, Point { output: outputs, is_heard: true, prefix });
            world.run_for(OUTAGE);
            check_said(world, 1)?;
            take_over(world, 0, Epoch(4));
            Ok(0)
        }
        Mishap::FormerDies => {
            world.kill(0);
            world.run_for(OUTAGE);
            world.alone(1, Epoch(4));
            Ok(1)
        }
        Mishap::ThereAndBack => {
            swap(world, 1, Epoch(3), 2)?;
            Ok(0)
        }
        Mishap::ThereBackAndThere => {
            swap(world, 1, Epoch(3), 2)?;
            swap(world, 0, Epoch(4), 3)?;
            Ok(1)
        }
        _ => Ok(1),
    }
}

/// `owner` hands over once more, in this epoch and by the n-th freeze.
fn swap(world: &mut World, owner: usize, epoch: Epoch, attempt: u32) -> Result<(), String> {
    if !world.swap(owner, epoch, attempt) {
        return Err("another handover was never committed".into());
    }
    check_copied(world, 1 - owner)
}

/// The new owner is protected from its first word on: without a fill, nothing is without a copy.
fn check_copied(world: &World, owner: usize) -> Result<(), String> {
    let (flows, copied) = world.nodes[owner]
        .status()
        .fold((0, 0), |(flows, copied), group| (flows + group.flows, copied + group.copied));
    if flows != copied {
        return Err(format!("{copied} of {flows} flows are copied after a handover"));
    }
    Ok(())
}
