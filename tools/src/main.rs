//! `understudy`: the command line. Each subcommand is a module of the library.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use dataplane::memory::BigPages;
use tools::{
    bench, check, confirm_dead, demo, doctor, flows, handover, impair, keygen, load, ownership,
    print, reload, run, servers, status, top, views, why, witness,
};

use tools::views::View;

#[global_allocator]
static MEMORY: BigPages = BigPages;

/// A bare-metal load balancer that does not drop connections when a machine dies.
#[derive(Parser, Debug)]
#[command(
    name = "understudy",
    version,
    after_help = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a node until it is told to end.
    Run(run::RunArgs),
    /// Check configuration files; needs neither the interfaces nor a running node.
    Check(check::CheckArgs),
    /// Look at this host and its network: whether a node can run here, and which ways of hearing work.
    Doctor(doctor::DoctorArgs),
    /// Show how a running node is: who owns what, what is protected, what was dropped.
    Status(status::StatusArgs),
    /// Say why a service is owned by whom: the last decisions, each with its epoch, time and reason.
    Why(why::WhyArgs),
    /// Show what each node declares about the services: the ownership advertisements.
    Ownership(ownership::OwnershipArgs),
    /// Show what is served, by whom, and how well it is protected.
    Services(views::ViewArgs),
    /// Show the poll cores and their ports.
    Cores(views::ViewArgs),
    /// Show the nodes of the cluster.
    Peers(views::ViewArgs),
    /// Show what a node does now, in rates, again and again.
    Top(top::TopArgs),
    /// Show the connections of a node, those that a filter lets through.
    Flows(flows::FlowsArgs),
    /// Do something to one connection.
    Flow(flows::FlowArgs),
    /// Let another node own a service, with every live connection.
    Handover(handover::HandoverArgs),
    /// Hand every service of a node over; it takes no new role until `undrain` or a restart.
    Drain(handover::DrainArgs),
    /// Let a drained node take roles again.
    Undrain(handover::DrainArgs),
    /// Say that a node is dead, where nothing else can tell: its power failed, and its peer's too.
    ConfirmDead(confirm_dead::ConfirmDeadArgs),
    /// Let a running node take what its configuration file says by now.
    Reload(reload::ReloadArgs),
    /// Let the last reload stay.
    Confirm(reload::ConfirmArgs),
    /// Show to whom connections are passed on: how each server is, and how many connections it has.
    Servers(servers::ServersArgs),
    /// Use a server, or do not: drain, maint, ready, weight N.
    Server(servers::ServerArgs),
    /// Keep the registers that say who owns what, on a third machine.
    Witness(witness::WitnessArgs),
    /// Make a key for the cluster's datagrams.
    Keygen(keygen::KeygenArgs),
    /// Kill a node in the middle of real transfers, in network namespaces on this machine.
    Demo(demo::DemoArgs),
    /// Load a service: new connections, requests, small messages, bulk, paced streams, idle connections.
    Bench(bench::BenchArgs),
    /// Clients that verify every byte, as the demo uses them.
    #[command(hide = true)]
    Load(load::LoadArgs),
    /// A bad network between two interfaces, as the tests and benchmarks use it.
    #[command(hide = true)]
    Impair(impair::ImpairArgs),
    /// Tell the cluster when the node that started this has died.
    #[command(hide = true)]
    Guardian,
    /// Print a shell's completion script: `understudy completions bash > /etc/bash_completion.d/understudy`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Status(args) => status::main(&args),
        Command::Why(args) => why::main(&args),
        Command::Ownership(args) => ownership::main(&args),
        Command::Services(args) => views::main(View::Services, &args),
        Command::Cores(args) => views::main(View::Cores, &args),
        Command::Peers(args) => views::main(View::Peers, &args),
        Command::Top(args) => top::main(&args),
        Command::Flows(args) => flows::list(&args),
        Command::Flow(args) => flows::flow(&args),
        Command::Handover(args) => handover::handover(&args),
        Command::Drain(args) => handover::drain(&args),
        Command::Undrain(args) => handover::undrain(&args),
        Command::ConfirmDead(args) => confirm_dead::main(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Confirm(args) => reload::confirm(&args),
        Command::Servers(args) => servers::servers(&args),
        Command::Server(args) => servers::server(&args),
        Command::Witness(args) => witness::main(&args),
        Command::Keygen(args) => keygen::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Load(args) => load::main(&args),
        Command::Impair(args) => impair::main(&args),
        Command::Guardian => run::guard(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "understudy", &mut script);
            print(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
        Command::Version => {
            print(concat!("understudy ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// What the units for systemd run is what this program takes.
    #[test]
    fn the_units_run_commands_that_there_are() {
        let units = [
            include_str!("../systemd/understudy.service"),
            include_str!("../systemd/understudy-witness.service"),
        ];
        let mut commands = 0;
        for line in units.iter().flat_map(|unit| unit.lines()) {
            let Some((_, command)) = line.split_once("=@PREFIX@/bin/") else { continue };
            let given = "--listen 10.99.0.9:7948 --cluster demo --key cluster.key";
            let command = command.replace("$WITNESS", given);
            if let Err(error) = Arguments::try_parse_from(command.split_whitespace()) {
                panic!("{line}: {error}");
            }
            commands += 1;
        }
        assert_eq!(commands, 4);
    }
}
