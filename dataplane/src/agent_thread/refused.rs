//! Nodes that speak, but not so that this node can open it: they are not dead, and an operator must know.

use crate::log;
use cluster::id::NodeId;
use cluster::message::WITNESS;
use cluster::seal::Unopened;
use stack::time::{Duration, Instant};

/// So long a refusal is shown.
const RECENT: Duration = Duration::from_secs(10);

/// A node is spoken of in the log once in so long.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// By the address that they came from, which anybody may forge: this is for eyes only.
#[derive(Default)]
pub struct Refused(Vec<Entry>);

struct Entry {
    node: NodeId,
    reason: Unopened,
    at: Instant,
    said_at: Instant,
}

impl Refused {
    /// Something from the address of `node` was not opened.
    pub fn note(&mut self, now: Instant, node: Option<NodeId>, reason: Unopened) {
        let tells =
            matches!(reason, Unopened::Unsealed | Unopened::OtherVersion | Unopened::OtherKey);
        let Some(node) = node.filter(|_| tells) else { return };
        let known = self.0.iter_mut().find(|entry| entry.node == node);
        let Some(entry) = known else {
            say(node, reason);
            return self.0.push(Entry { node, reason, at: now, said_at: now });
        };
        (entry.reason, entry.at) = (reason, now);
        if now.since(entry.said_at) >= SAID_EVERY {
            entry.said_at = now;
            say(node, reason);
        }
    }

    /// Who was refused of late: why, and how long ago.
    pub fn recent(&self, now: Instant) -> impl Iterator<Item = (NodeId, Unopened, Duration)> + '_ {
        let recent = self.0.iter().filter(move |entry| now.since(entry.at) < RECENT);
        recent.map(move |entry| (entry.node, entry.reason, now.since(entry.at)))
    }
}

fn say(node: NodeId, reason: Unopened) {
    let who = if node == WITNESS { "the witness".into() } else { format!("node {node}") };
    log::warning(format!("{who} speaks, but is not understood: {}", in_words(reason)));
}

/// What is wrong, for an operator.
pub fn in_words(reason: Unopened) -> &'static str {
    match reason {
        Unopened::Unsealed => "it does not seal what it says, and this node does",
        Unopened::OtherVersion => {
            "it speaks another version of the format: upgrade it, or this node"
        }
        Unopened::OtherKey => "it seals under a key that this node does not hold",
        _ => "what comes from its address cannot be opened",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_otherwise_is_shown_for_a_while() {
        let mut refused = Refused::default();
        let now = Instant(1_000_000_000);
        refused.note(now, Some(NodeId(2)), Unopened::OtherKey);
        refused.note(now, Some(NodeId(3)), Unopened::Repeated);
        refused.note(now, None, Unopened::Unsealed);
        let later = now + Duration::from_secs(1);
        let expected = (NodeId(2), Unopened::OtherKey, Duration::from_secs(1));
        assert_eq!(refused.recent(later).collect::<Vec<_>>(), [expected]);
        assert_eq!(refused.recent(now + RECENT).count(), 0);
    }
}
