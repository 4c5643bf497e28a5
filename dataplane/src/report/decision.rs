//! Decisions about ownership, in words.

use crate::orders;
use cluster::agent::Reason;
use cluster::register::Refusal;
use stack::time::Instant;

pub(super) fn decision(now: Instant, decision: &cluster::agent::Decision) -> String {
    let ago = now.since(decision.at).millis();
    let times = if decision.times > 1 { format!(" ({} times)", decision.times) } else { "".into() };
    format!("{ago} ms ago, epoch {}: {}{times}", decision.epoch, sentence(decision.reason))
}

/// A decision in words.
pub(super) fn sentence(reason: Reason) -> String {
    let ms = |span: stack::time::Duration| {
        format!("{}.{} ms", span.millis(), span.micros() % 1000 / 100)
    };
    match reason {
        Reason::Became(role) => format!("became {role:?}").to_lowercase(),
        Reason::Reconfigured => "its settings were changed by a reload".into(),
        Reason::AskedFirst => "asked to own it: it was never owned".into(),
        Reason::AskedPeer(peer) => format!("asked to add node {} as peer", peer.node),
        Reason::AskedInSync(peer, missing) if missing > 0 => format!(
            "asked to declare node {} in sync: it holds every connection but {missing}, which hold too much to be copied now",
            peer.node
        ),
        Reason::AskedInSync(peer, _) => {
            format!("asked to declare node {} in sync: it holds every connection", peer.node)
        }
        Reason::AskedAlone(span) => {
            format!("asked to be alone: the peer granted nothing for {}", ms(span))
        }
        Reason::AskedAloneStalled(node) => format!(
            "asked to be alone: node {node} lives and acknowledges nothing of what it is sent; see copy_malformed there"
        ),
        Reason::AskedAloneNewLife(node) => {
            format!("asked to be alone: node {node} has begun a new life")
        }
        Reason::AskedTakeOver(span) => {
            format!("asked to take over: the owner was silent for {}", ms(span))
        }
        Reason::Surrendered(node) => {
            format!("node {node} has surrendered: its process has ended")
        }
        Reason::Declared(node) => format!("an operator has said that node {node} is dead"),
        Reason::AskedTakeOverSurrendered => "asked to take over: the owner has surrendered".into(),
        Reason::AskedAloneSurrendered => "asked to be alone: the peer has surrendered".into(),
        Reason::CopiesStale(node) => format!(
            "gave its copies up: there is no arbiter, and node {node} may have served without them before it ended"
        ),
        Reason::GaveHint(peer) => format!("told node {peer} that the owner is silent here"),
        Reason::Hinted(node) => format!("node {node} says that the owner is silent there, too"),
        Reason::AskedFresh => {
            "asked for a fresh start: nobody who held the connections seems to live".into()
        }
        Reason::Refused(Refusal::PeerUnregistered) => {
            "refused by the witness: that node has not said hello to it; does it reach the witness?"
                .into()
        }
        Reason::Refused(refusal) => format!("refused by the arbiter: {refusal:?}"),
        Reason::NotSurvivor => "did not go on alone: another node is the survivor".into(),
        Reason::Superseded => "ended: another life of this node is registered".into(),
        Reason::Ordered(node, cause) => {
            format!("began to hand it over to node {node}: {}", orders::cause(cause))
        }
        Reason::AskedAloneForHandover(node) => {
            format!("asked to be alone: node {node} is to be the peer before it is the owner")
        }
        Reason::AskedSwap(node) => {
            format!("asked to change places with node {node}: it holds every connection as it is")
        }
        Reason::HandedOver(node, flows) => format!("handed {flows} connections to node {node}"),
        Reason::TookOverFrom(node) => format!("node {node} has handed it over"),
        Reason::RefusedPeer(node, why) => {
            format!("refused node {node} as peer: {}", orders::unfit_text(why))
        }
        Reason::CopiesDiffered(owner) => {
            format!("copies of node {owner}'s connections differed from them and are captured anew")
        }
        Reason::AskedClose(home) => {
            format!("asked to close it: node {home} is back and gets the new connections")
        }
        Reason::AskedNext => {
            "asked for the next generation: this one takes the new connections".into()
        }
        Reason::Arrived => "its configuration names it from now on: it has come".into(),
        Reason::Leaves => "its configuration does not name it any more: it takes no new connections, and goes when those that \
                           it has have ended"
            .into(),
        Reason::Stays => "its configuration names it again: it stays".into(),
        Reason::AwaitsHome(home) => format!(
            "waits: node {home}, its home, lives and does not know it (`understudy reload` there, or has it just gone from its \
             file?)"
        ),
        Reason::UnknownThere(node) => format!(
            "node {node} lives and does not know it yet: `understudy reload` there, once its file names it"
        ),
        Reason::AskedRetireLeft => {
            "asked to end it: its configuration does not name it any more, and its last connection is over".into()
        }
        Reason::AskedRetire => {
            "asked to end it: it is closed, and its last connection is over".into()
        }
        Reason::HandoverFailed(failure) => {
            format!("the handover came to nothing: {}", orders::failure_text(failure))
        }
    }
}
