//! Side by side with what a user would pick instead: the same service behind HAProxy, behind nginx, behind a node alone, behind a
//! pair, and behind nobody.
//!
//! ```text
//! rounds x balancers x measures -> figures -> bars -> one directory: result.json env.json report.html *.csv *.hgrm files
//! ```
//!
//! Balancers take turns within each round, so that what else happens on the machine happens to all. A turn that fails is a
//! problem that the report shows; the others go on.
//!
//! Exit code 0: every bar that was measured is met. 1: at least one is missed. 2: something could not be measured; of a run of
//! everything, also a bar.

mod arena;
mod bars;
mod chart;
mod distribution;
mod environment;
mod figures;
mod growth;
mod idle;
mod keepalived;
mod measure;
mod page;
mod progress;
mod rival;
mod session;
mod takeover;
pub mod usage;
mod vigil;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::report::plain;
use crate::{CLIENT_CPU, Common, SERVER_CPU, Seal};
use arena::Arena;
use bars::Bar;
use environment::Environment;
use figures::Figures;
use measure::Measure;
use rival::Rival;
use session::Session;
use takeover::Run;

/// Version of `result.json`: raised when a reader of the last one would misread it.
const SCHEMA: u32 = 1;

/// Rounds, and milliseconds of a turn of a measure, unless the command line says otherwise.
pub const ROUNDS: &str = "5";
const TURN_MS: u64 = 1_500;

/// Deaths of each kind, connections then, bytes a second of each of them, and milliseconds between its steps: with a thousand
/// connections a pace that clients, servers and the node that has taken over can keep on one processor, and a full segment a
/// step: with less or more Nagle's algorithm and delayed acknowledgements would decide.
const TAKEOVERS: u32 = 3;
const CONNECTIONS: u64 = 1_000;
const RATE: u64 = 28_960;
const PACE_MS: u64 = 50;

/// Of the connections when a node dies, those that are dialogues: a thousand exchanges a second each, so a few.
const ECHOES: u64 = 5;

/// Where what is measured again goes: the first that is not the directory of the run itself.
const AGAIN: [&str; 2] = ["out/again", "out/once-more"];

/// Where distributions of latencies go.
const HGRM_DIR: &str = "hgrm";

/// Seconds that a balancer takes to start and to end, and a measure beside its measured time.
const START_SECONDS: f64 = 3.0;
const MEASURE_SECONDS: f64 = 0.6;
/// And an idle measure of one balancer; more rounds than these show no more of it.
const IDLE_SECONDS: f64 = 8.0;
const IDLE_ROUNDS: u32 = 3;

/// Arguments of `beside balancers`.
#[derive(Args, Clone, Debug)]
pub struct BalancersArgs {
    #[command(flatten)]
    pub common: Common,
    /// What is measured; everything if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    measures: Vec<Measure>,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Rival::ALL)]
    contenders: Vec<Rival>,
    /// How long each turn of each measure is measured.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = TURN_MS)]
    ms: u64,
    /// Deaths of each kind.
    #[arg(long, default_value_t = TAKEOVERS)]
    takeovers: u32,
    /// Paced connections when a node dies.
    #[arg(long, default_value_t = CONNECTIONS)]
    connections: u64,
    /// Bytes a second of each of them.
    #[arg(long, default_value_t = RATE)]
    rate: u64,
    /// Milliseconds between two steps of each of them.
    #[arg(long, default_value_t = PACE_MS)]
    pace: u64,
}

/// Everything that a run came to.
#[derive(Serialize)]
pub struct Outcome {
    schema: u32,
    rounds: u32,
    /// What could not be measured, and why.
    problems: Vec<String>,
    bars: Vec<Bar>,
    figures: Figures,
    takeovers: Vec<Run>,
    #[serde(skip)]
    environment: Environment,
    /// Name and text of each configuration file.
    #[serde(skip)]
    configurations: Vec<(String, String)>,
    #[serde(skip)]
    dir: PathBuf,
}

/// Measures, writes the directory, prints the bars; whether they are met, and nothing went wrong.
pub fn run(args: &BalancersArgs) -> anyhow::Result<bool> {
    let common = args.common.clone().prepared()?;
    let outcome = measure(args, &common)?;
    tools::print(&match common.json {
        true => serde_json::to_string_pretty(&outcome)? + "\n",
        false => text(&outcome),
    });
    eprintln!("Report: {}", outcome.dir.join("report.html").display());
    anyhow::ensure!(
        outcome.problems.is_empty(),
        "{} turns could not be measured; the report names them",
        outcome.problems.len()
    );
    bars::are_met(&outcome.bars, args.is_everything())
}

impl BalancersArgs {
    /// What decides how and how much is measured, as far as it is not the usual; and another directory, lest who measures again loses
    /// the report that told how.
    fn options(&self) -> String {
        let Common { rounds, json: _, out, program, seal, client_cpu, server_cpu, peer_cpu } =
            &self.common;
        let name_of = |seal: Seal| match seal.to_possible_value() {
            Some(value) => value.get_name().to_string(),
            None => unreachable!("none is hidden"),
        };
        let mut options = vec![
            ("rounds", rounds.to_string(), ROUNDS.to_string()),
            ("ms", self.ms.to_string(), TURN_MS.to_string()),
            ("takeovers", self.takeovers.to_string(), TAKEOVERS.to_string()),
            ("connections", self.connections.to_string(), CONNECTIONS.to_string()),
            ("rate", self.rate.to_string(), RATE.to_string()),
            ("pace", self.pace.to_string(), PACE_MS.to_string()),
            ("seal", name_of(*seal), name_of(Seal::Noise)),
            ("client-cpu", client_cpu.to_string(), CLIENT_CPU.to_string()),
            ("server-cpu", server_cpu.to_string(), SERVER_CPU.to_string()),
        ];
        options.extend(peer_cpu.map(|cpu| ("peer-cpu", cpu.to_string(), String::new())));
        options.extend(
            program.iter().map(|path| ("program", path.display().to_string(), String::new())),
        );
        let elsewhere = AGAIN.into_iter().find(|dir| !out.ends_with(dir)).unwrap_or_default();
        options.push(("out", elsewhere.to_string(), String::new()));
        let unusual = options.iter().filter(|(_, is, usual)| is != usual);
        unusual.map(|(name, is, _)| format!(" --{name} {is}")).collect()
    }

    /// Whether nothing was left out on the command line.
    fn is_everything(&self) -> bool {
        self.measures.is_empty() && Rival::ALL.iter().all(|rival| self.contenders.contains(rival))
    }

    /// Whether something is measured in the bed with this MTU.
    fn needs(&self, mtu: u32) -> bool {
        let dies =
            [Measure::Idle, Measure::Takeover].into_iter().any(|measure| self.wants(measure));
        (mtu == MTUS[0] && dies)
            || self.contenders.iter().any(|rival| !self.turns(*rival, mtu).is_empty())
    }

    /// Our pairs of which a machine dies.
    fn dying_pairs(&self) -> Vec<Rival> {
        let pairs = [Rival::Mirrored, Rival::Hearing];
        pairs.into_iter().filter(|pair| self.contenders.contains(pair)).collect()
    }

    /// Those that hold idle connections: nobody first, for what connections take without a balancer is no balancer's.
    fn idle_contenders(&self) -> Vec<Rival> {
        let others = self.contenders.iter().copied();
        let others = others.filter(|rival| *rival != Rival::Direct && Measure::Idle.suits(*rival));
        [Rival::Direct].into_iter().chain(others).collect()
    }

    fn wants(&self, measure: Measure) -> bool {
        self.measures.is_empty() || self.measures.contains(&measure)
    }

    /// What a balancer does in one bed.
    fn turns(&self, rival: Rival, mtu: u32) -> Vec<Measure> {
        let all = Measure::TURNS.into_iter();
        all.filter(|m| m.mtu() == mtu && m.suits(rival) && self.wants(*m)).collect()
    }

    fn planned_seconds(&self, rounds: u32) -> f64 {
        let measured = self.ms as f64 / 1e3 + MEASURE_SECONDS;
        let mut round = 0.0;
        for &rival in &self.contenders {
            for mtu in MTUS {
                let turns = self.turns(rival, mtu).len();
                if turns > 0 {
                    round += START_SECONDS + turns as f64 * measured;
                }
            }
        }
        let mut planned = round * f64::from(rounds);
        if self.wants(Measure::Idle) {
            let idle = self.idle_contenders().len() as f64 * IDLE_SECONDS;
            planned += idle * f64::from(rounds.min(IDLE_ROUNDS));
        }
        if self.wants(Measure::Takeover) {
            let dying = [Rival::Haproxy, Rival::Nat].iter().filter(|r| self.contenders.contains(r));
            let ours = self.dying_pairs().len() * takeover::Death::ALL.len();
            let kinds = (ours + dying.count()) as f64;
            planned += kinds * f64::from(self.takeovers) * takeover::RUN_SECONDS;
        }
        if self.wants(Measure::Growth) && self.contenders.contains(&Rival::Mirrored) {
            planned += (1..=self.takeovers).map(growth::run_seconds).sum::<f64>();
        }
        planned.max(1.0)
    }
}

/// MTUs of the two beds.
const MTUS: [u32; 2] = [1_500, 9_000];

/// Measures; what was found is written after every step.
fn measure(args: &BalancersArgs, common: &Common) -> anyhow::Result<Outcome> {
    let mut environment = Environment::of(common);
    let hgrm = common.out.join(HGRM_DIR);
    // What an earlier run left there would be taken for this one's.
    let _ = fs::remove_dir_all(&hgrm);
    fs::create_dir_all(&hgrm).with_context(|| format!("cannot make {}", hgrm.display()))?;
    let mut session = Session::new(args, common);
    for (mtu, arena) in &session.arenas {
        environment.add_offloads(arena, *mtu);
    }
    session.run(|session| write(&Outcome::of(session, common, &environment)?))?;
    Outcome::of(&session, common, &environment)
}

impl Outcome {
    /// What a run has come to so far.
    fn of(
        session: &Session<'_>,
        common: &Common,
        environment: &Environment,
    ) -> anyhow::Result<Outcome> {
        Ok(Outcome {
            schema: SCHEMA,
            rounds: common.rounds,
            problems: session.problems.clone(),
            bars: bars::bars(&session.figures),
            figures: session.figures.clone(),
            takeovers: session.takeovers.clone(),
            environment: environment.clone(),
            configurations: configurations(&session.arenas)?,
            dir: common.out.clone(),
        })
    }
}

/// How every balancer was set up: names and texts.
fn configurations(arenas: &[(u32, Arena<'_>)]) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (mtu, arena) in arenas {
        for rival in Rival::ALL {
            let dir = arena.stage.dir().join(rival.name());
            // Not every balancer was started with every MTU.
            for name in rival.files().iter().filter(|name| dir.join(name).exists()) {
                let text = fs::read_to_string(dir.join(name))?;
                all.push((format!("mtu-{mtu}/{}/{name}", rival.name()), text));
            }
        }
    }
    Ok(all)
}

fn write(outcome: &Outcome) -> anyhow::Result<()> {
    let save = |name: &str, text: String| {
        let path = outcome.dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    save("result.json", serde_json::to_string_pretty(outcome)? + "\n")?;
    save("env.json", serde_json::to_string_pretty(&outcome.environment)? + "\n")?;
    for measure in
        Measure::TURNS.into_iter().chain([Measure::Idle, Measure::Takeover, Measure::Growth])
    {
        if outcome.figures.of(measure).next().is_some() {
            save(&format!("{}.csv", measure.name()), outcome.figures.csv(measure))?;
        }
    }
    if !outcome.takeovers.is_empty() {
        save("takeover-gaps.csv", takeover::csv(&outcome.takeovers))?;
    }
    save("report.html", page::page(outcome))
}

/// The bars, for a terminal.
fn text(outcome: &Outcome) -> String {
    let width = outcome.bars.iter().map(|bar| bar.text.chars().count()).max().unwrap_or(0);
    let line = |bar: &Bar| {
        let (value, verdict) = bar.words();
        let text = &bar.text;
        format!("  {text:<width$}  {value:>30}  {:<14} {verdict}\n", bar.bound.words())
    };
    let mut text: String = outcome.bars.iter().map(line).collect();
    for figure in outcome.figures.of(Measure::Connect).filter(|figure| figure.metric == "load") {
        let (who, load) = (figure.contender.title(), plain(figure.spread.median));
        let n = figure.spread.count;
        text += &format!("  {who}: the load's processor was {load} % busy, n = {n}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cli, Subject};
    use clap::Parser;

    fn parsed(options: &str) -> BalancersArgs {
        let words = ["beside", "balancers"].into_iter().chain(options.split_whitespace());
        match Cli::try_parse_from(words).expect("options that are known").subject {
            Subject::Balancers(args) => args,
            _ => unreachable!("the words name it"),
        }
    }

    /// What a printed command orders.
    fn ordered(command: &str) -> BalancersArgs {
        let options = command.strip_prefix("make bench ARGS=\"").expect("`make bench`");
        parsed(options.strip_suffix('"').expect("options in quotes"))
    }

    #[test]
    fn whatever_a_bar_needs_is_part_of_a_run_of_everything() {
        let usual = parsed("");
        assert!(usual.is_everything() && !parsed("--contenders haproxy,held").is_everything());
        for bar in bars::bars(&Figures::new(usual.options())) {
            let again = ordered(&bar.command);
            assert!(!again.contenders.is_empty() && !again.measures.is_empty(), "{}", bar.command);
            for rival in &again.contenders {
                assert!(usual.contenders.contains(rival), "{rival:?}: {}", bar.text);
                assert!(again.measures.iter().any(|m| m.suits(*rival)), "{}", bar.command);
            }
        }
    }

    #[test]
    fn a_printed_command_orders_what_was_ordered_and_writes_elsewhere() {
        for (out, elsewhere) in
            [("out/bench", "out/again"), ("/x/out/again", "out/once-more"), ("x", "out/again")]
        {
            let args = parsed(&format!(
                "--rounds 2 --ms 300 --takeovers 1 --connections 10 --rate 5000 --pace 7 --seal none --client-cpu 3 \
                 --server-cpu 2 --peer-cpu 4 --program /x/understudy --out {out}"
            ));
            let command = Figures::new(args.options()).again(Measure::Takeover, &[Rival::Hearing]);
            let (measures, contenders) = (vec![Measure::Takeover], vec![Rival::Hearing]);
            let common = Common { out: elsewhere.into(), ..args.common.clone() };
            let expected = BalancersArgs { common, measures, contenders, ..args };
            assert_eq!(format!("{:?}", ordered(&command)), format!("{expected:?}"));
        }
        let short = Figures::new(parsed("").options()).again(Measure::Idle, &[Rival::Nginx]);
        let short = short.split_once('"').map(|(_, options)| options);
        assert_eq!(short, Some("--measures idle --contenders nginx --out out/again\""));
    }

    #[test]
    fn whoever_outlives_a_machine_leaves_gaps_and_the_others_survivors_alone() {
        // Neither needs a bed.
        let args = parsed("--measures growth --contenders haproxy");
        let mut session = Session::new(&args, &args.common);
        for who in [Rival::Haproxy, Rival::Nat] {
            let found = Run {
                who,
                death: takeover::Death::Power,
                connections: 2,
                survived: 1,
                before_ns: 0,
                downloads_ns: vec![7],
                uploads_ns: vec![9],
                echoes_ns: vec![11],
                newcomers_ns: vec![13],
                first_ns: Some(1_000_000),
                lost: vec!["reset".into()],
            };
            session.died(1, found);
        }
        let csv = takeover::csv(&session.takeovers);
        assert_eq!(
            csv,
            "run,contender,death,kind,gap_ns\n1,nat,power,download,7\n1,nat,power,upload,9\n1,nat,power,echo,11\n1,nat,power,newcomer,13\n"
        );
        let of_haproxy =
            session.figures.of(Measure::Takeover).filter(|one| one.contender == Rival::Haproxy);
        let metrics: Vec<&str> = of_haproxy.map(|one| one.metric).collect();
        assert_eq!((metrics[0], metrics[4]), ("power: survived", "power: first SYN-ACK"));
        assert!(metrics[1..4].iter().all(|metric| metric.starts_with("power: newcomer's wait")));
        assert_eq!(metrics.len(), 5);
        assert!(
            session.figures.get(Measure::Takeover, "power: upload gap p99", Rival::Nat).is_some()
        );
    }
}
