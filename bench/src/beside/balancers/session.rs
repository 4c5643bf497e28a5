//! A run under way: turns, and what they come to.

use super::arena::Arena;
use super::distribution;
use super::figures::Figures;
use super::growth;
use super::idle;
use super::keepalived::{self, Behind};
use super::measure::{Measure, Turn};
use super::progress::Progress;
use super::rival::Rival;
use super::takeover::{self, Death, Run};
use super::vigil::Vigil;
use super::{
    BalancersArgs, ECHOES, HGRM_DIR, IDLE_ROUNDS, IDLE_SECONDS, MEASURE_SECONDS, MTUS,
    START_SECONDS,
};
use crate::Common;
use crate::moving::Paced;

/// A run under way.
pub struct Session<'a> {
    args: &'a BalancersArgs,
    common: &'a Common,
    /// A bed for each MTU.
    pub arenas: Vec<(u32, Arena<'a>)>,
    progress: Progress,
    /// What was found.
    pub figures: Figures,
    /// What could not be measured, and why.
    pub problems: Vec<String>,
    /// Every death that connections can outlive.
    pub takeovers: Vec<Run>,
}

impl<'a> Session<'a> {
    /// Builds the beds that are wanted. Of one that cannot be built the report says why; the other is as good without it.
    pub fn new(args: &'a BalancersArgs, common: &'a Common) -> Session<'a> {
        let mut session = Session {
            args,
            common,
            arenas: Vec::new(),
            progress: Progress::new(args.planned_seconds(common.rounds)),
            figures: Figures::new(args.options()),
            problems: Vec::new(),
            takeovers: Vec::new(),
        };
        for mtu in MTUS.into_iter().filter(|mtu| args.needs(*mtu)) {
            match Arena::new(common, &format!("mtu-{mtu}"), mtu, args.ms) {
                Ok(arena) => session.arenas.push((mtu, arena)),
                Err(error) => session.fail(format!("the bed with MTU {mtu}: {error:#}")),
            }
        }
        session
    }

    /// Measures all that is wanted. `save` is called after every step: what was found is not lost by what comes after.
    pub fn run(&mut self, save: impl Fn(&Session<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for round in 1..=self.common.rounds {
            self.round(round);
            if round <= IDLE_ROUNDS && self.args.wants(Measure::Idle) {
                self.idle(round);
            }
            save(self)?;
        }
        for (measure, step) in [
            (Measure::Takeover, Session::die as fn(&mut Session<'a>)),
            (Measure::Growth, Session::grow),
        ] {
            if self.args.wants(measure) {
                step(self);
                save(self)?;
            }
        }
        self.progress.begin("done");
        self.progress.say("");
        Ok(())
    }

    /// The bed in which connections are small and machines die.
    fn usual_arena(&self) -> Option<&Arena<'a>> {
        self.arenas.iter().find(|(mtu, _)| *mtu == MTUS[0]).map(|(_, arena)| arena)
    }

    /// Every balancer's turn in both beds.
    fn round(&mut self, round: u32) {
        let contenders = self.args.contenders.clone();
        for at in 0..self.arenas.len() {
            for &rival in &contenders {
                let turns = self.args.turns(rival, self.arenas[at].0);
                if turns.is_empty() {
                    continue;
                }
                if let Err(error) = self.turn(round, at, rival, &turns) {
                    let mtu = self.arenas[at].0;
                    self.fail(format!("round {round}, {}, MTU {mtu}: {error:#}", rival.name()));
                }
            }
        }
    }

    fn turn(
        &mut self,
        round: u32,
        at: usize,
        rival: Rival,
        turns: &[Measure],
    ) -> anyhow::Result<()> {
        let Session { args, common, arenas, progress, figures, problems, .. } = self;
        let (_, arena) = &arenas[at];
        let (name, rounds) = (rival.name(), common.rounds);
        progress.begin(&format!("round {round} of {rounds}, {name}"));
        let mut standing = arena.start(rival)?;
        progress.end(START_SECONDS);
        for (left, &measure) in (0..turns.len()).rev().zip(turns) {
            let what = measure.name();
            progress.begin(&format!("round {round} of {rounds}, {name}, {what}"));
            let hgrm = distribution::file(&common.out.join(HGRM_DIR), measure, rival, round);
            let turn = Turn { arena, standing: &standing, ms: args.ms, hgrm: &hgrm };
            let vigil = standing.pair_says()?.map(|nodes| Vigil::begin(&nodes));
            let mut taken = measure.take(&turn);
            // Whatever became of the turn: a takeover may be why it failed.
            let watched = vigil.zip(standing.pair_says()?).map(|(vigil, nodes)| vigil.end(&nodes));
            if let Some(watched) = &watched {
                figures.add(measure, rival, round, &watched.samples);
            }
            let has_changed = watched.is_some_and(|watched| watched.changes > 0);
            if has_changed {
                let why = "registers changed: some of it is another owner's, or was not mirrored";
                taken = taken.and_then(|_| Err(anyhow::anyhow!(why)));
            }
            match taken {
                Ok(samples) => figures.add(measure, rival, round, &samples),
                Err(error) => {
                    let problem = format!("round {round}, {name}, {what}: {error:#}");
                    progress.say(&problem);
                    problems.push(problem);
                }
            }
            if has_changed && left > 0 {
                drop(standing);
                standing = arena.start(rival)?;
            }
            progress.end(args.ms as f64 / 1e3 + MEASURE_SECONDS);
        }
        Ok(())
    }

    fn idle(&mut self, round: u32) {
        let Session { args, common, arenas, progress, figures, .. } = self;
        let Some((_, arena)) = arenas.iter().find(|(mtu, _)| *mtu == MTUS[0]) else { return };
        let mut failures = Vec::new();
        let mut sockets = 0.0;
        for rival in args.idle_contenders() {
            let name = rival.name();
            progress.begin(&format!("round {round} of {}, {name}, idle", common.rounds));
            match idle::take(arena, common, rival, sockets) {
                Ok(samples) if rival == Rival::Direct => {
                    let kernel = samples.iter().find(|sample| sample.metric == "kernel");
                    sockets = kernel.map_or(0.0, |sample| sample.value);
                }
                Ok(samples) => figures.add(Measure::Idle, rival, round, &samples),
                Err(error) => failures.push(format!("round {round}, {name}, idle: {error:#}")),
            }
            progress.end(IDLE_SECONDS);
        }
        failures.into_iter().for_each(|failure| self.fail(failure));
    }

    fn die(&mut self) {
        let paced = Paced {
            connections: self.args.connections,
            echoes: ECHOES,
            rate: self.args.rate,
            pace_ms: self.args.pace,
            server_pace_ms: self.args.pace,
            fresh_every_ms: 1,
            seconds: 0,
        };
        for run in 1..=self.args.takeovers {
            for pair in self.args.dying_pairs() {
                for death in Death::ALL {
                    self.die_here(run, pair, death, paced);
                }
            }
            for behind in [Behind::Haproxy, Behind::Conntrackd] {
                if self.args.contenders.contains(&behind.rival()) {
                    self.die_elsewhere(run, behind, paced);
                }
            }
        }
    }

    fn die_here(&mut self, run: u32, pair: Rival, death: Death, paced: Paced) {
        let (who, how, runs) = (pair.name(), death.name(), self.args.takeovers);
        self.progress.begin(&format!("takeover, {who}, {how}, run {run} of {runs}"));
        let Some(arena) = self.usual_arena() else { return };
        match takeover::run(arena, pair, death, paced) {
            Ok(found) => self.died(run, found),
            Err(error) => self.fail(format!("takeover, {who}, {how}, run {run}: {error:#}")),
        }
        self.progress.end(takeover::RUN_SECONDS);
    }

    /// The same of two other machines whose addresses keepalived moves.
    fn die_elsewhere(&mut self, run: u32, behind: Behind, paced: Paced) {
        let rival = behind.rival();
        let (name, runs) = (rival.name(), self.args.takeovers);
        self.progress.begin(&format!("takeover, keepalived and {name}, run {run} of {runs}"));
        let Some(arena) = self.usual_arena() else { return };
        match keepalived::run(arena, self.common, behind, paced) {
            Ok(found) => self.died(run, found),
            Err(error) => self.fail(format!("takeover, {name}, run {run}: {error:#}")),
        }
        self.progress.end(takeover::RUN_SECONDS);
    }

    /// Takes what a death came to.
    pub fn died(&mut self, run: u32, found: Run) {
        self.figures.add(Measure::Takeover, found.who, run, &found.samples());
        if found.outlives() {
            self.takeovers.push(found);
        }
    }

    /// The same of us with few connections and with very many.
    fn grow(&mut self) {
        if !self.args.contenders.contains(&Rival::Mirrored) {
            return;
        }
        let runs = self.args.takeovers;
        for run in 1..=runs {
            self.progress
                .begin(&format!("takeover with few flows and with many, run {run} of {runs}"));
            // What is too large for this machine takes nothing from the comparison.
            let further = growth::FURTHER_TURNS.iter().map(std::slice::from_ref);
            let further = further.filter(|_| run == 1);
            for turns in std::iter::once(growth::COMPARED_TURNS.as_slice()).chain(further) {
                match growth::take(self.common, turns) {
                    Ok(samples) => {
                        self.figures.add(Measure::Growth, Rival::Mirrored, run, &samples);
                    }
                    Err(error) => self.fail(format!("growth, run {run}: {error:#}")),
                }
            }
            self.progress.end(growth::run_seconds(run));
        }
    }

    fn fail(&mut self, problem: String) {
        self.progress.say(&problem);
        self.problems.push(problem);
    }
}
