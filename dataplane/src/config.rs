//! The configuration: one TOML file per node, read whole or refused with every reason.
//!
//! [`load`] and [`parse`] turn text into a [`Loaded`]: what the file says, if it has no error, and
//! all that is to be said about it. The text is parsed once into a tree with places; `read` takes
//! each section out of the tree, `check` compares sections with each other, and both go on after a
//! problem, so an operator sees all of them at once. Nothing of this host is looked at but the files
//! that the configuration names: `check` runs anywhere.
//!
//! ```text
//! text -> tree with places -> read: types, ranges, unknown keys -> check: sections against each other
//! ```
//!
//! Bounds: a file of [`FILE_BYTES_MAX`], [`DIAGNOSTICS_MAX`] problems shown.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use reader::Places;
use toml::de::DeTable;

pub mod change;
mod check;
mod diagnostic;
mod health;
mod proxy;
mod read;
mod reader;
mod service;
mod types;
mod value;

pub use check::agree;
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, DiagnosticLine, Kind, Severity};
pub use health::{Check, CheckKind, StatusRange};
pub use types::{
    Ack, Application, Arbiter, ArpPolicy, Balance, ClusterConfig, ClusterNode, Config, Control,
    CopyMode, Cores, Failback, Idle, Interface, Interfaces, Limits, Log, LogFormat, LogTarget,
    Metrics, NodeConfig, OnPeerLoss, OnServerDown, Protocol, Proxy, ProxyProtocol, Seal, Secret,
    Segmentation, Server, Service, Snoop, Survivor, TimerSet, Timers, XdpMode,
};
pub use value::{Mac, PortRange, duration_text, mac};

/// Reads "60s", as the configuration writes times.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    value::duration(text).map(|span| std::time::Duration::from_nanos(span.0))
}

/// Bytes of a configuration file at most.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A configuration file after reading.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The name of the file, as the messages show it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What it says; `None` if there is an error.
    pub config: Option<Config>,
    /// What is to be said about it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Where each value lies in the text.
    places: Places,
}

/// Reads the file at `path`.
pub fn load(path: &Path) -> Loaded {
    let file = path.display().to_string();
    let directory = path.parent().unwrap_or(Path::new(""));
    match read_text(path) {
        Ok(text) => parse(&file, text, directory),
        Err(message) => {
            let diagnostics = vec![Diagnostic::error(Kind::Unreadable, None, message)];
            Loaded { file, diagnostics, ..Loaded::default() }
        }
    }
}

/// Reads `text`, which came from `file`; files that it names are relative to `directory`.
pub fn parse(file: &str, text: String, directory: &Path) -> Loaded {
    let (tree, errors) = DeTable::parse_recoverable(&text);
    let mut reader = reader::Reader::default();
    for error in &errors {
        let message = format!("this is not TOML: {}", error.message().trim());
        reader.push(Diagnostic::error(Kind::Syntax, error.span(), message));
    }
    // What is missing after a syntax error is an echo of it.
    let config = read::config(&mut reader, tree.get_ref(), directory);
    let (mut diagnostics, places) = reader.into_parts();
    if !errors.is_empty() {
        diagnostics.retain(|diagnostic| diagnostic.kind == Kind::Syntax);
    }
    diagnostics.sort_by_key(|d| d.place.as_ref().map_or(usize::MAX, |place| place.start));
    let failed = diagnostics.iter().any(|d| d.severity == Severity::Error);
    let config = (!failed).then_some(config);
    Loaded { file: file.into(), text, config, diagnostics, places }
}

impl Loaded {
    /// How many errors and warnings.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == severity).count()
    }

    /// The place of the value at `path` ("services[1].home"), or of the nearest table around it.
    pub fn place(&self, path: &str) -> Option<Range<usize>> {
        self.places.of(path)
    }

    /// Every problem as text, with a blank line after each.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for diagnostic in self.diagnostics.iter().take(DIAGNOSTICS_MAX) {
            text += &diagnostic.render(&self.file, &self.text, color);
            text += "\n\n";
        }
        if let Some(more @ 1..) = self.diagnostics.len().checked_sub(DIAGNOSTICS_MAX) {
            text += &format!("... and {more} more problems, not shown\n\n");
        }
        text
    }
}

/// The text of a file that may be anything.
fn read_text(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes: this is no configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8 from byte {at} on: TOML is UTF-8")
    })
}
