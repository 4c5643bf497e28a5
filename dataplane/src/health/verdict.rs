//! What a node makes of the checks of one server: up or down, and how soon it asks again. A state machine without I/O.
//!
//! ```text
//! Unknown --passed--------------> Up --`fall` failures in a row--> Down
//!    `-----`fall` failures in a row-----------------------------^    |
//!                                 ^--`rise` passed in a row----------'
//! ```
//!
//! A server of which nothing is known yet is in use, as it is without checks. While a verdict is about to change, the next
//! check follows sooner. A check that this node could not make says nothing of the server.

use stack::time::Duration;

/// How many checks it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// So many passed in a row bring a server up; at least 1.
    pub rise: u8,
    /// So many failures in a row take it down; at least 1.
    pub fall: u8,
    /// Between the beginnings of two checks.
    pub interval: Duration,
    /// The same while a verdict is about to change, or there is none.
    pub fast_interval: Duration,
}

/// What came of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The server works, and how that showed.
    Passed(String),
    /// It does not, and why.
    Failed(String),
    /// This node could not check, and why.
    Unable(String),
}

/// What is known of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing has passed yet, and not enough has failed.
    Unknown {
        /// Failures in a row.
        failed: u8,
    },
    /// It works.
    Up {
        /// Failures in a row.
        failed: u8,
    },
    /// It does not.
    Down {
        /// Passed in a row.
        passed: u8,
    },
}

impl Default for Verdict {
    /// Nothing was checked yet.
    fn default() -> Verdict {
        Verdict::Unknown { failed: 0 }
    }
}

impl Verdict {
    /// The verdict after a check.
    pub fn after(self, rule: &Rule, outcome: &Outcome) -> Verdict {
        let failure = |failed: u8, state: fn(u8) -> Verdict| match failed + 1 {
            failed if failed >= rule.fall => Verdict::Down { passed: 0 },
            failed => state(failed),
        };
        match (self, outcome) {
            (verdict, Outcome::Unable(_)) => verdict,
            (Verdict::Unknown { failed }, Outcome::Failed(_)) => {
                failure(failed, |failed| Verdict::Unknown { failed })
            }
            (Verdict::Up { failed }, Outcome::Failed(_)) => {
                failure(failed, |failed| Verdict::Up { failed })
            }
            (Verdict::Down { .. }, Outcome::Failed(_)) => Verdict::Down { passed: 0 },
            (Verdict::Down { passed }, Outcome::Passed(_)) if passed + 1 < rule.rise => {
                Verdict::Down { passed: passed + 1 }
            }
            (_, Outcome::Passed(_)) => Verdict::Up { failed: 0 },
        }
    }

    /// Up or down; `None` while that is not known.
    pub fn is_up(self) -> Option<bool> {
        match self {
            Verdict::Unknown { .. } => None,
            Verdict::Up { .. } => Some(true),
            Verdict::Down { .. } => Some(false),
        }
    }

    /// From the beginning of a check to that of the next.
    pub fn interval(self, rule: &Rule) -> Duration {
        match self {
            Verdict::Up { failed: 0 } | Verdict::Down { passed: 0 } => rule.interval,
            _ => rule.fast_interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        rise: 2,
        fall: 3,
        interval: Duration::from_millis(2000),
        fast_interval: Duration::from_millis(200),
    };

    fn outcome(word: char) -> Outcome {
        match word {
            '+' => Outcome::Passed(String::new()),
            '-' => Outcome::Failed(String::new()),
            _ => Outcome::Unable(String::new()),
        }
    }

    /// The verdicts one after the other: `u`p, `d`own, `?`; capital where the next check follows sooner.
    fn story(rule: &Rule, checks: &str) -> String {
        let mut verdict = Verdict::default();
        let each = checks.chars().map(|word| {
            verdict = verdict.after(rule, &outcome(word));
            let is_fast = verdict.interval(rule) == rule.fast_interval;
            match (verdict.is_up(), is_fast) {
                (Some(true), false) => 'u',
                (Some(true), true) => 'U',
                (Some(false), false) => 'd',
                (Some(false), true) => 'D',
                (None, _) => '?',
            }
        });
        each.collect()
    }

    #[test]
    fn verdicts_change_after_as_many_checks_as_the_rule_says() {
        for (checks, verdicts) in [
            ("+", "u"),
            ("--+", "??u"),
            ("---", "??d"),
            ("+--+--+---", "uUUuUUuUUd"),
            ("---+-+-++-", "??dDdDdDuU"),
            ("+---++", "uUUdDu"),
        ] {
            assert_eq!(story(&RULE, checks), verdicts, "{checks}");
        }
    }

    #[test]
    fn one_check_may_be_enough() {
        let rule = Rule { rise: 1, fall: 1, ..RULE };
        assert_eq!(story(&rule, "-+-+"), "dudu");
    }

    /// What says something of this node says nothing of the server.
    #[test]
    fn a_check_that_cannot_be_made_changes_nothing() {
        assert_eq!(story(&RULE, "!!+-!-!-!+!+"), "??uUUUUddDDu");
    }

    /// RFC-like totality: from every state, every outcome leads somewhere and back.
    #[test]
    fn every_state_is_left_again() {
        for fall in 1..=4 {
            for rise in 1..=4 {
                let rule = Rule { rise, fall, ..RULE };
                let down = "-".repeat(fall.into());
                let up = "+".repeat(rise.into());
                let verdicts = story(&rule, &format!("+{down}{up}{down}{up}"));
                let turns: Vec<char> = verdicts.to_lowercase().chars().collect();
                let mut expected = vec!['u'];
                for _ in 0..2 {
                    expected.extend(vec!['u'; fall as usize - 1]);
                    expected.extend(vec!['d'; rise as usize]);
                    expected.push('u');
                }
                assert_eq!(turns, expected, "rise {rise}, fall {fall}");
            }
        }
    }
}
