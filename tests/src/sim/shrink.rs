//! Makes a failure short: which of a story's clients and mishaps are enough for it?
//!
//! What is left out changes what follows (the world draws its own dice), so every try is a play, and a shorter story may
//! fail in another way. Then it is another failure, and no shorter story of this one.
//!
//! Bounds: [`PLAYS_MAX`] plays.

use crate::sim::story::{Outcome, Script, play};
use std::collections::BTreeSet;

/// Plays that may be tried.
const PLAYS_MAX: usize = 150;

/// The shortest story found that fails in the same way, and what came of it. One that does not fail is returned as it is.
///
/// Halves, quarters and so on of what is left are left out, until no single item can be (Zeller and Hildebrandt's
/// delta debugging, without its complements).
pub fn shrink(script: &Script) -> (Script, Outcome) {
    let outcome = play(script);
    let mut kept: Vec<usize> = match &script.only {
        Some(only) => only.iter().copied().collect(),
        None => (0..outcome.items).collect(),
    };
    let Some(wanted) = outcome.failure.as_deref().map(kind_of) else {
        return (script.clone(), outcome);
    };
    let mut best = (script.clone(), outcome);
    let mut plays = 0;
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        let mut has_shrunk = false;
        while at < kept.len() && plays < PLAYS_MAX {
            plays += 1;
            let end = (at + chunk).min(kept.len());
            let rest: BTreeSet<usize> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            let shorter = Script { only: Some(rest.clone()), ..script.clone() };
            let outcome = play(&shorter);
            if outcome.failure.as_deref().map(kind_of).as_ref() == Some(&wanted) {
                kept = rest.into_iter().collect();
                best = (shorter, outcome);
                has_shrunk = true;
            } else {
                at = end;
            }
        }
        chunk = match (chunk, has_shrunk) {
            (1, true) => 1,
            (1, false) => 0,
            _ => chunk.div_ceil(2),
        };
        if plays >= PLAYS_MAX {
            break;
        }
    }
    best
}

/// What a check has complained of, without whom and how much: its words, up to the first value that it shows.
fn kind_of(failure: &str) -> String {
    let words = failure.split(['{', '(', '[']).next().unwrap_or(failure);
    let is_kept = |c: &char| !c.is_ascii_digit();
    words.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_of_another_node_is_the_same_kind() {
        let one = kind_of("node 1: acknowledged 48 bytes that the peer does not hold");
        assert_eq!(one, kind_of("node 2: acknowledged 3564 bytes that the peer does not hold"));
        assert_ne!(one, kind_of("node 1: allocated 2 times"));
        assert_eq!(
            kind_of("decisions differ in group 3: Some([Decided"),
            "decisions differ in group : Some"
        );
    }
}
