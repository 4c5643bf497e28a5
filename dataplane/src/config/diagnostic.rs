//! What is wrong with a configuration file: which kind, where, and what to write instead.
//!
//! Every problem of a file is collected, sorted by place and shown with its line and a caret. The
//! drawing is annotate-snippets', the same as the Rust compiler's.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// Problems shown of one file; a file with more has one cause and many echoes.
pub const DIAGNOSTICS_MAX: usize = 50;

/// Whether the node can run all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but the operator should know.
    Warning,
}

/// What sort of problem.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The file, or a file it names, cannot be read.
    Unreadable,
    /// Not TOML.
    Syntax,
    /// No such key here.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A string where a number belongs, and the like.
    WrongType,
    /// Of the right type, but not a possible value.
    BadValue,
    /// A number outside its limits.
    OutOfRange,
    /// Twice, where once is the rule.
    Duplicate,
    /// Two services claim the same address and port.
    Overlap,
    /// Contradicts another part of the file.
    Inconsistent,
    /// Understood, but this version cannot do it yet.
    NotYet,
    /// Legal, and risks what the cluster is for.
    Risky,
    /// A running node cannot take it.
    NotNow,
}

/// One problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What sort of problem.
    pub kind: Kind,
    /// One sentence.
    pub message: String,
    /// Where in the file, in bytes; `None` if it is about the file as a whole.
    pub place: Option<Range<usize>>,
    /// A second place that belongs to it, with a remark.
    pub related: Option<(Range<usize>, String)>,
    /// What to do.
    pub help: Option<String>,
}

/// A diagnostic as `check --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DiagnosticLine<'a> {
    /// Error or warning.
    pub severity: Severity,
    /// What sort of problem.
    pub kind: Kind,
    /// The file.
    pub file: &'a str,
    /// Counted from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// Counted from 1, in characters; 0 if it is about the file as a whole.
    pub column: usize,
    /// One sentence.
    pub message: &'a str,
    /// What to do.
    pub help: Option<&'a str>,
}

impl Diagnostic {
    /// An error at `place`.
    pub fn error(kind: Kind, place: Option<Range<usize>>, message: impl Into<String>) -> Self {
        let (severity, message) = (Severity::Error, message.into());
        Diagnostic { severity, kind, message, place, related: None, help: None }
    }

    /// A warning at `place`.
    pub fn warning(kind: Kind, place: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(kind, place, message) }
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a second place and a remark on it.
    pub fn related(mut self, place: Option<Range<usize>>, remark: impl Into<String>) -> Self {
        self.related = place.map(|place| (place, remark.into()));
        self
    }

    /// The problem as text, several lines, without a line feed at the end.
    pub fn render(&self, file: &str, text: &str, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let mut group = match &self.place {
            Some(place) => {
                let mut snippet = Snippet::source(text)
                    .path(file)
                    .annotation(AnnotationKind::Primary.span(within(text, place)));
                if let Some((place, remark)) = &self.related {
                    let annotation = AnnotationKind::Context.span(within(text, place));
                    snippet = snippet.annotation(annotation.label(remark.as_str()));
                }
                title.element(snippet)
            }
            None => Group::with_title(title).element(annotate_snippets::Origin::path(file)),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The problem as a flat record.
    pub fn line<'a>(&'a self, file: &'a str, text: &str) -> DiagnosticLine<'a> {
        let (line, column) = match &self.place {
            Some(place) => line_and_column(text, within(text, place).start),
            None => (0, 0),
        };
        let (message, help) = (self.message.as_str(), self.help.as_deref());
        let (severity, kind) = (self.severity, self.kind);
        DiagnosticLine { severity, kind, file, line, column, message, help }
    }
}

/// The place cut to its first line and to character boundaries.
fn within(text: &str, place: &Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (floor(place.start), floor(place.end));
    let line = text[start..].find('\n').map_or(text.len(), |length| start + length);
    start..end.clamp(start, line)
}

/// Line and column of a byte, both counted from 1.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |feed| feed + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_can_be_drawn() {
        let text = "a = 1\nü = \"ß\"\n\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let place = start..end;
                let error = Diagnostic::error(Kind::Syntax, Some(place.clone()), "m").help("h");
                let error = error.related(Some(end..start), "r");
                assert!(error.render("f", text, false).contains("f:"), "{place:?}");
                assert!(error.line("f", text).line >= 1);
            }
        }
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(line_and_column("ab\ncd", 0), (1, 1));
        assert_eq!(line_and_column("ab\nücd", 6), (2, 3));
    }
}
