//! What came of the connections of a story.

use crate::kit::client::Ending;
use crate::sim::host::Host;
use crate::sim::world::Tally;
use stack::time::Instant;
use std::fmt;

/// What came of connections.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Those that somebody held at any time.
    pub connections: u64,
    /// Those of them that brought everything there and back.
    pub survived: u64,
    /// Those of them that were reset.
    pub resets: u64,
    /// Those that nobody held any more, and that are over.
    pub unheld: u64,
    /// Those of them whose clients waited for an answer and got none.
    pub unanswered: u64,
    /// Bytes of all that are other ones than they should be.
    pub wrong_bytes: u64,
    /// Frames of a former owner after the first of the next one, and those beyond what one burst explains.
    pub late_frames: u64,
    /// See there.
    pub two_voices: u64,
    /// The longest gap of each connection that survived, in nanoseconds.
    gaps: Vec<u64>,
    /// How the first that did not end well stands.
    complaint: Option<String>,
}

impl Counts {
    /// Of a world, but for its connections.
    pub fn of(tally: &Tally) -> Counts {
        Counts { late_frames: tally.late, two_voices: tally.two_voices, ..Counts::default() }
    }

    /// Counts a client's connection, when nothing more comes of it.
    pub fn add_host(&mut self, now: Instant, host: &mut Host) {
        let client = &mut host.client;
        let is_over = client.is_done() || client.has_lost_its_timer(now);
        let is_reset = client.ending == Ending::Reset;
        let has_survived = is_over && !is_reset && host.expected.is_all_of(&client.received);
        self.wrong_bytes += host.expected.wrong_bytes(&client.received) as u64;
        if host.is_excused && !has_survived {
            self.unheld += 1;
            self.unanswered += u64::from(!is_reset && client.unacknowledged() > 0);
            return;
        }
        self.connections += 1;
        self.survived += u64::from(has_survived);
        self.resets += u64::from(is_reset);
        match has_survived {
            true => self.gaps.push(host.pulse.gap),
            false => {
                self.complaint.get_or_insert(client.describe());
            }
        }
    }

    /// What is not as it should be.
    pub fn failure(&self) -> Option<String> {
        let Counts { connections, survived, resets, unanswered, wrong_bytes, two_voices, .. } =
            self;
        let is_well = survived == connections
            && [resets, unanswered, wrong_bytes, two_voices].iter().all(|count| **count == 0);
        let complaint = self.complaint.as_deref().unwrap_or("");
        (!is_well).then(|| format!("{self}, {unanswered} unanswered. {complaint}"))
    }

    /// Adds what came of another world's.
    pub fn add(&mut self, other: Counts) {
        self.connections += other.connections;
        self.survived += other.survived;
        self.resets += other.resets;
        self.unheld += other.unheld;
        self.unanswered += other.unanswered;
        self.wrong_bytes += other.wrong_bytes;
        self.late_frames += other.late_frames;
        self.two_voices += other.two_voices;
        self.gaps.extend(other.gaps);
    }

    /// The gap below which that many percent stay, in microseconds.
    fn gap_us(&self, percent: usize) -> u64 {
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let at = (gaps.len() * percent).div_ceil(100).saturating_sub(1);
        gaps.get(at).copied().unwrap_or(0) / 1_000
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { connections, survived, resets, unheld, wrong_bytes, .. } = self;
        let Counts { late_frames, two_voices, .. } = self;
        write!(
            f,
            "outcome: survived={survived}/{connections} unheld={unheld} resets={resets} \
             wrong_bytes={wrong_bytes} late_frames={late_frames} two_voices={two_voices}"
        )?;
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.gap_us(percent));
        match self.gaps.is_empty() {
            true => Ok(()),
            false => write!(f, " gaps_us={p50}/{p99}/{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told_by_the_nearest_rank() {
        let gaps = (1..=200).rev().map(|gap| gap * 1_000).collect();
        let counts = Counts { survived: 200, connections: 200, gaps, ..Counts::default() };
        assert!(counts.to_string().ends_with("gaps_us=100/198/200"), "{counts}");
        assert_eq!(counts.failure(), None);
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_a_failure() {
        let well = Counts { connections: 1, survived: 1, unheld: 4, ..Counts::default() };
        assert_eq!(well.failure(), None);
        let ill = [
            Counts { survived: 0, ..well.clone() },
            Counts { resets: 1, ..well.clone() },
            Counts { unanswered: 1, ..well.clone() },
            Counts { wrong_bytes: 1, ..well.clone() },
            Counts { two_voices: 1, ..well },
        ];
        assert!(ill.iter().all(|counts| counts.failure().is_some()));
    }
}
