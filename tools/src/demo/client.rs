//! The load generator as a process in the client's namespace.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use nix::sys::signal::Signal;

use super::bed::{Bed, ECHO_ADDRESS, Place, SERVICE_ADDRESS};
use super::process::Process;
use crate::load::report::{Line, LoadResult, Progress};

/// The running load.
#[derive(Debug)]
pub struct Load {
    process: Process,
    progress: Arc<Mutex<Progress>>,
    reader: JoinHandle<Option<LoadResult>>,
}

impl Load {
    /// Starts it: `connections` paced ones, half downloads and half uploads, and the usual others.
    pub fn start(
        bed: &Bed,
        program: &Path,
        dir: &Path,
        connections: u32,
        seconds: u64,
    ) -> anyhow::Result<Load> {
        let uploads = connections / 2;
        let args = [
            ("--downloads", u64::from(connections - uploads)),
            ("--uploads", u64::from(uploads)),
            ("--seconds", seconds),
        ];
        Load::start_with(bed, program, dir, &args)
    }

    /// Starts it with options of `understudy load run`.
    pub fn start_with(
        bed: &Bed,
        program: &Path,
        dir: &Path,
        options: &[(&str, u64)],
    ) -> anyhow::Result<Load> {
        Load::start_at((SERVICE_ADDRESS, ECHO_ADDRESS), bed, program, dir, options)
    }

    /// The same against other addresses: of downloads and uploads, and of echoes.
    pub fn start_at(
        (target, echo_target): (&str, &str),
        bed: &Bed,
        program: &Path,
        dir: &Path,
        options: &[(&str, u64)],
    ) -> anyhow::Result<Load> {
        let log = dir.join("load.log");
        let mut command = bed.command(Place::Client, program);
        command.args(["load", "run", "--target", target, "--echo-target", echo_target]);
        for (name, value) in options {
            command.args([*name, &value.to_string()]);
        }
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut process = Process::start("load", command, Some(log))?;
        let output = process.take_stdout().context("the load has no output")?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let shared = progress.clone();
        let reader = thread::spawn(move || read(BufReader::new(output), &shared));
        Ok(Load { process, progress, reader })
    }

    /// Where it stands.
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.ended()?.is_some())
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end.
    pub fn finish(mut self) -> anyhow::Result<LoadResult> {
        let status = self.process.wait()?;
        let result = self.reader.join().ok().flatten();
        result.ok_or_else(|| {
            anyhow!("the load ended without a result ({status})\n{}", self.process.log_tail())
        })
    }
}

fn read(output: impl BufRead, progress: &Mutex<Progress>) -> Option<LoadResult> {
    let lines = output.lines().map_while(Result::ok);
    for line in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
        match line {
            Line::Progress(seen) => {
                *progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = seen;
            }
            Line::Result(result) => return Some(*result),
        }
    }
    None
}
