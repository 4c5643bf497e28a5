//! A process of the bed: its log, its signals, its end.

use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus};

use anyhow::{Context, bail};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Lines shown of a log when something went wrong.
const TAIL_LINES: usize = 15;

/// A running program. It ends with this, unless it is left to itself.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
    is_left: bool,
}

impl Process {
    /// Starts a command.
    pub fn start(
        name: &str,
        mut command: Command,
        log: Option<PathBuf>,
    ) -> anyhow::Result<Process> {
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Process { name: name.into(), child, log, is_left: false })
    }

    /// The same, running on when this is gone.
    pub fn left(mut self) -> Process {
        self.is_left = true;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, whatever namespace it runs in.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output, if it was asked for.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its end, if it has come.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Sends a signal. SIGKILL is not waited for.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            signal::kill(Pid::from_raw(self.child.id() as i32), signal)
                .with_context(|| format!("cannot send {signal} to {}", self.name))?;
        }
        Ok(())
    }

    /// Stops it, and waits until none of its threads runs any more.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let process = Pid::from_raw(self.child.id() as i32);
        match waitpid(process, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            other => bail!("{} does not stop: {other:?}", self.name),
        }
    }

    /// The last lines of its log, for an error message.
    pub fn log_tail(&self) -> String {
        let Some(log) = &self.log else { return String::new() };
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        let shown = lines[from..].iter().map(|line| format!("    {line}\n"));
        format!("{} ends with:\n{}", log.display(), shown.collect::<String>())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_left {
            // Gone already is as good; waited for, lest many runs leave as many dead children.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
