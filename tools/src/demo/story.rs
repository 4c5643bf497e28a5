//! One telling of the story: start, protected, load, kill, verify, bring back.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::bed::{Arp, Bed, Layout};
use super::client::Load;
use super::cluster::{Cluster, Setup};
use super::curl::{self, Curls, With};
use super::dialogue::Dialogues;
use super::files::HOME;
use super::narrator::Narrator;
use super::outcome::{Moment, Restored, RunOutcome};
use super::status::{self, Takeover};
use super::{Appliance, DemoArgs, KillMode, failback};
use crate::load::wire::monotonic_ns;

/// The timers of nodes and witness: those of two nodes on two shared cores.
const TIMERS: &str = "bed";

/// How long the pair may take to be protected.
pub(super) const PROTECTED_WITHIN: Duration = Duration::from_secs(30);

/// How long a stopped owner sleeps.
const STOPPED_NS: u64 = 2_000_000_000;

/// The load goes on for so much longer than the transfers.
const LOAD_EXTRA_SECONDS: u64 = 2;

/// Between two looks at the load.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tells the story once.
pub fn tell(args: &DemoArgs, out: &Path, number: u32) -> anyhow::Result<RunOutcome> {
    let mut narrator = Narrator::new();
    let dir = out.join(format!("run{number}"));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let sockets = Sockets::new(args.keep)?;
    let program = std::env::current_exe()?;
    narrator
        .say("Building client, servers, switch, two nodes and a witness as network namespaces.");
    let layout = Layout { queues: args.cores.0, snoop: args.snoop, ..Layout::default() };
    let bed = Bed::laid_out(&dir, args.keep, layout)?;
    super::standing(bed.teardown());
    curl::prepare(&dir, args.size)?;
    let setup = Setup {
        program: program.clone(),
        appliance: args.appliance,
        held: args.held,
        timers: TIMERS,
        cores: args.cores.0,
        arp: Arp::default(),
        snoop: args.snoop,
        failback: (args.appliance == Appliance::Failback).then_some("new-connections"),
        dir: dir.clone(),
        sockets: sockets.dir.clone(),
        edits: Vec::new(),
    };
    let mut cluster = Cluster::start(&bed, setup)?;
    narrator.say("Witness and nodes are started; waiting until the pair is protected.");
    let mut owner = cluster.wait_protected(PROTECTED_WITHIN)?;
    if args.appliance == Appliance::Failback {
        // The other node may have been there first: what it has, nothing yet, goes home by itself.
        cluster.wait_for(HOME, "own everything", PROTECTED_WITHIN, status::owns_all)?;
        owner = cluster.wait_protected(PROTECTED_WITHIN)?;
    }
    narrator.say(&format!("Protected. Node {owner} owns the service. Starting the load."));

    let (with, dialogues) = match args.appliance {
        Appliance::Proxy => (With::Nginx, Dialogues::begin(&bed, &dir)?),
        _ => (With::Web, Dialogues::none()),
    };
    let seconds = args.transfers_last();
    let curls = Curls::start(&bed, &dir, args.size, seconds, with)?;
    let load = Load::start(&bed, &program, &dir, args.connections, seconds + LOAD_EXTRA_SECONDS)?;
    let mut act = Act { args, bed: &bed, narrator, cluster, curls, load, dialogues, owner };
    let Told { moments, late_voices, mut takeovers } = match args.appliance {
        Appliance::Failback => failback::tell(&mut act)?,
        _ => act.kill_in_the_middle()?,
    };
    act.until_the_end(moments[0].at_ns)?;
    let Act { mut narrator, mut cluster, curls, load, dialogues, owner, .. } = act;

    narrator.say("The load has ended. Comparing every byte.");
    let curls = curls.verify()?;
    let mut result = load.finish()?;
    dialogues.finish(|report, series| {
        result.connections.push(report);
        result.series.add_all(&series);
    });
    if takeovers.is_empty() && args.kill != KillMode::None {
        takeovers = cluster.takeovers(owner);
    }
    let restored = bring_back(&mut narrator, &mut cluster, owner, args.kill);
    let told = RunOutcome::new(&args.kill, &moments, &result, curls, takeovers, restored);
    Ok(RunOutcome { late_voices, ..told })
}

/// What a story has told when its last death is over.
pub(super) struct Told {
    /// What happened to the nodes, the first kill before everything else.
    pub moments: Vec<Moment>,
    /// Frames of a node for a connection that the other had answered before, if they were counted.
    pub late_voices: Option<u64>,
    /// Takeovers that nobody will tell any more in the end.
    pub takeovers: Vec<Takeover>,
}

/// What is on stage while the load runs.
pub(super) struct Act<'a> {
    pub args: &'a DemoArgs,
    pub bed: &'a Bed,
    pub narrator: Narrator,
    pub cluster: Cluster<'a>,
    curls: Curls,
    load: Load,
    dialogues: Dialogues,
    /// Who is killed next.
    pub owner: u8,
}

impl Act<'_> {
    fn kill_in_the_middle(&mut self) -> anyhow::Result<Told> {
        self.until_download(40)?;
        let moments = vec![Moment { what: "kill", at_ns: self.kill()? }];
        Ok(Told { moments, late_voices: None, takeovers: Vec::new() })
    }

    /// Waits until every connection moves bytes and so many per cent of the download are there.
    pub fn until_download(&mut self, wanted_percent: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let progress = self.load.progress();
            let everyone = progress.all_move();
            let percent = self.curls.percent();
            if everyone && percent >= wanted_percent {
                return Ok(());
            }
            let late = start.elapsed() > Duration::from_secs(self.args.transfers_last());
            if progress.failed > 0 || late || self.curls.ended()? {
                let (active, wanted, failed) = (progress.active, progress.wanted, progress.failed);
                let connections =
                    format!("{active} of {wanted} connections moving, {failed} failed");
                let hint = match late && progress.failed == 0 {
                    true => {
                        "; this machine is slow or busy: a smaller --size or more --seconds may do"
                    }
                    false => "",
                };
                bail!(
                    "the load did not get going: {connections}, curl at {percent} per cent{hint}"
                );
            }
            self.look();
        }
    }

    /// Does to the owner what was asked for; the moment of it.
    pub fn kill(&mut self) -> anyhow::Result<u64> {
        let killed_ns = self.cluster.kill(self.owner, self.args.kill)?;
        let owner = self.owner;
        self.narrator.say(&match self.args.kill {
            KillMode::Sigkill => format!("Killed node {owner} with SIGKILL."),
            KillMode::Sigstop => format!("Stopped node {owner} with SIGSTOP."),
            KillMode::Power => format!("Cut both cables of node {owner} and killed it."),
            KillMode::None => "Nothing is killed in this run.".to_string(),
        });
        Ok(killed_ns)
    }

    /// Fails if the load has ended before the story.
    pub fn still_running(&mut self) -> anyhow::Result<()> {
        if self.load.ended()? || self.curls.ended()? {
            bail!("the load was over before the story: give it more --seconds");
        }
        Ok(())
    }

    fn until_the_end(&mut self, killed_ns: u64) -> anyhow::Result<()> {
        let mut stopped = self.args.kill == KillMode::Sigstop;
        while !(self.load.ended()? && self.curls.ended()?) {
            if stopped && monotonic_ns() >= killed_ns + STOPPED_NS {
                stopped = false;
                self.cluster.resume(self.owner)?;
                self.narrator.say(&format!("Node {} runs on.", self.owner));
            }
            self.look();
        }
        Ok(())
    }

    fn look(&mut self) {
        let progress = self.load.progress();
        let (speaking, silenced) = self.dialogues.progress();
        self.narrator.update(&format!(
            "curl {:3} %   connections {} of {} moving, {} finished, {} failed   new {}   {} MB",
            self.curls.percent(),
            progress.active + speaking - silenced,
            progress.wanted + speaking,
            progress.survived,
            progress.failed + silenced,
            progress.fresh,
            progress.bytes / 1_000_000,
        ));
        thread::sleep(LOOK_EVERY);
    }
}

/// The dead node comes back and is filled again.
fn bring_back(
    narrator: &mut Narrator,
    cluster: &mut Cluster<'_>,
    owner: u8,
    mode: KillMode,
) -> Restored {
    if mode == KillMode::None {
        return Restored::NotNeeded;
    }
    narrator
        .say(&format!("Bringing node {owner} back; waiting until the pair is protected again."));
    let start = Instant::now();
    let back = cluster.revive(owner, mode).and_then(|()| cluster.wait_protected(PROTECTED_WITHIN));
    match back {
        Ok(now_owner) => {
            narrator.say(&format!("Protected again. Node {now_owner} owns the service."));
            Restored::After { ms: start.elapsed().as_millis() as u64 }
        }
        Err(error) => {
            narrator.say(&format!("Not protected again: {error:#}"));
            Restored::Failed { why: format!("{error:#}") }
        }
    }
}

/// A directory with a short name: the path of a socket has at most 107 bytes.
struct Sockets {
    dir: PathBuf,
    keep: bool,
}

impl Sockets {
    fn new(keep: bool) -> anyhow::Result<Sockets> {
        let dir = std::env::temp_dir().join(format!("understudy-demo-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Sockets { dir, keep })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if !self.keep {
            // What stays behind harms nobody.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
