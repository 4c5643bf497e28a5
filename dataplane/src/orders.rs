//! An operator's orders: from the control socket to the agent, and what it says against them in words.

use crate::config::Config;
use crate::control::status as shown;
use crate::control::{Reply, Request};
use crate::report::{LATE, Reporter};
use crate::shared::ToAgent;
use cluster::agent::handover::{Cause, Failure, Handed, Handover, Order, OrderError, Phase};
use cluster::agent::status::GroupStatus;
use cluster::agent::{Decision, Reason};
use cluster::id::{Epoch, GroupId, NodeId};
use cluster::message::advertise::Unfit;
use crossbeam_channel::bounded;
use stack::time::Instant;

/// How long the agent may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

impl Reporter {
    /// Passes an order on to the agent.
    pub fn order(&self, request: Request) -> Reply {
        let error = |message: String| Reply::Error { message };
        let order = match &request {
            Request::Status => return error("a status is no order".into()),
            Request::Servers { service } => return self.servers(service.as_deref()),
            Request::Server { service, server, order } => {
                return self.order_server(service, server, *order);
            }
            Request::Reload { confirm_within_us } => {
                return self.reload(*confirm_within_us);
            }
            Request::Confirm => return self.confirm(),
            Request::Flows { filter } => return self.flows(filter),
            Request::EndFlow { id } => return self.end_flow(id),
            Request::Solicit => {
                return match self.questions.try_send(ToAgent::Solicit) {
                    Ok(()) => Reply::Begun,
                    Err(_) => error(LATE.into()),
                };
            }
            Request::Drain => Order::Drain,
            Request::Undrain => Order::Undrain,
            Request::ConfirmDead { node } => Order::Dead(NodeId(*node)),
            Request::Handover { service, to, epoch, force } => {
                let index = match service_index(&self.config(), service) {
                    Ok(index) => index,
                    Err(message) => return error(message),
                };
                let group = GroupId::new(self.config().services[index].id, 0);
                let epoch = epoch.map(Epoch);
                Order::Handover { group, to: NodeId(*to), epoch, force: *force }
            }
        };
        let (answer, begun) = bounded(1);
        let asked = self.questions.try_send(ToAgent::Order(order, answer));
        match asked.ok().and_then(|()| begun.recv_timeout(PATIENCE).ok()) {
            None => error(LATE.into()),
            Some((_, Ok(()))) => Reply::Begun,
            Some((node, Err(why))) => error(refusal(node, &request, why)),
        }
    }
}

/// The index of the service of this name.
pub(crate) fn service_index(config: &Config, name: &str) -> Result<usize, String> {
    let services = &config.services;
    services.iter().position(|service| service.name == name).ok_or_else(|| {
        let known: Vec<_> = services.iter().map(|known| known.name.as_str()).collect();
        format!("there is no service {name:?}; there are: {}", known.join(", "))
    })
}

/// Why node `me` refused an order, and what to do.
fn refusal(me: NodeId, request: &Request, why: OrderError) -> String {
    let (service, to) = match request {
        Request::Handover { service, to, .. } => (service.as_str(), *to),
        Request::ConfirmDead { node } => ("", *node),
        _ => ("", 0),
    };
    match why {
        OrderError::UnknownGroup => format!("there is no service {service:?}"),
        OrderError::NotOwner(Some(owner)) => {
            format!("node {me} does not own {service}: node {owner} does, but it cannot be asked")
        }
        OrderError::NotOwner(None) => {
            format!("node {me} does not own {service}, and does not know who does")
        }
        OrderError::OtherEpoch(epoch) => {
            format!("the epoch of {service} is {epoch} by now: look again before you order")
        }
        OrderError::OwnsAlready => format!("node {to} owns {service} already"),
        OrderError::NotDesignated => {
            format!("node {to} is neither home nor peer of {service} in the configuration")
        }
        OrderError::NotAlive => {
            format!("node {to} is not heard, or its cores make no progress")
        }
        OrderError::Draining => {
            format!("node {to} is being drained: `understudy undrain {to}` there ends it")
        }
        OrderError::WorsePath => format!(
            "node {to} reaches the clients worse than node {me} does (see `understudy status`): it would give {service} \
             back at once"
        ),
        OrderError::OtherDeclared => format!(
            "node {to} cannot hold the connections of {service}: it declares something else than node {me}; \
             `understudy ownership {service}` shows what"
        ),
        OrderError::UnderWay => {
            format!("another change of {service} is under way; see `understudy why {service}`")
        }
        OrderError::NotSurvivor if service.is_empty() => format!(
            "without an arbiter only the node that `survivor` names goes on alone, and node {me} is not it: name it \
             there and restart it"
        ),
        OrderError::NotSurvivor => format!(
            "without an arbiter only the node that `survivor` names may hand {service} over: node {me} could \
             not exclude that it goes on by itself"
        ),
        OrderError::OwnerSilent(owner) => format!(
            "node {owner}, which owns {service}, has not answered: it may have begun; see `understudy why {service}`"
        ),
        OrderError::UnknownNode => {
            format!("node {me} watches no node {to}, or knows of no life of it that could be over")
        }
        OrderError::Lives => format!(
            "node {to} lives: node {me} heard it a moment ago. Stop it first, by its power if nothing else helps"
        ),
        OrderError::Unfit => {
            format!("a core of node {me} makes no progress, or its life is over")
        }
    }
}

/// A handover under way, as the status shows it.
pub fn handover(now: Instant, handover: &Handover) -> shown::Handover {
    shown::Handover {
        to: handover.to.0,
        cause: cause(handover.cause).into(),
        phase: match handover.phase {
            Phase::Replacing if handover.absent_since.is_some() => "copying",
            Phase::Replacing => "making it the peer",
            Phase::Sounding => "asking the arbiter",
            Phase::Freezing if handover.cause == Cause::NewConnections => "closing",
            Phase::Freezing => "freezing",
            Phase::Swapping if handover.cause == Cause::NewConnections => "closing",
            Phase::Swapping => "changing places",
        }
        .into(),
        age_us: now.since(handover.ordered).micros(),
    }
}

/// The last handover from this node, as the status shows it.
pub fn handed(now: Instant, handed: &Handed) -> shown::Handed {
    shown::Handed {
        epoch: handed.epoch.0,
        to: handed.to.node.0,
        cause: cause(handed.cause).into(),
        connections: handed.flows.into(),
        lost: handed.lost.into(),
        age_us: now.since(handed.swapped).micros(),
        prepare_us: handed.froze.since(handed.ordered).micros(),
        freeze_us: handed.committed.since(handed.froze).micros(),
        swap_us: handed.swapped.since(handed.committed).micros(),
    }
}

/// Why the last handover came to nothing, if the last did.
pub fn last_failure(group: &GroupStatus) -> Option<String> {
    let outcome = |decision: &Decision| match decision.reason {
        Reason::HandoverFailed(failure) => Some(Some(failure_text(failure))),
        Reason::HandedOver(..) => Some(None),
        _ => None,
    };
    group.reasons.iter().rev().find_map(outcome).flatten()
}

/// Why a handover is made.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Operator => "ordered by the operator",
        Cause::Drain => "this node is being drained",
        Cause::Failback => "its home node is back and holds every connection",
        Cause::NewConnections => "its home node is back and gets the new connections",
        Cause::Path => "the peer reaches the clients better",
        Cause::Copies => "its home node is back and gets the copies",
    }
}

/// Why a node is no peer, by what it declares.
pub fn unfit_text(why: Unfit) -> String {
    let agree = "`understudy check` with the files of both nodes shows where they differ";
    match why {
        Unfit::OtherService => {
            "it has a service of another name with the same id (a hash of the name): rename one, on every node".into()
        }
        Unfit::OtherAddresses => {
            format!("it has other addresses, or another `arp` or `mac`; {agree}")
        }
        Unfit::OtherPorts => format!("it has other ports; {agree}"),
        Unfit::OtherBehaviour(theirs, ours) => format!(
            "its program is of behaviour revision {theirs}, the owner's of {ours}: what one records the other would take \
             otherwise; upgrade both nodes to one release"
        ),
        Unfit::OtherApplication => format!("another application runs there; {agree}"),
        Unfit::Leaving => {
            "its file does not name the service any more: reload or restart the other nodes with that file, too".into()
        }
        Unfit::OtherContent => {
            "its application is configured differently or has other content; the files under \
                                `root` must be the same, byte by byte"
                .into()
        }
        Unfit::LowerLimit("mss", theirs, ours) => format!(
            "its segments carry {theirs} bytes, the owner's {ours}: the MTU of its client-side interface is lower"
        ),
        Unfit::LowerLimit(name, theirs, ours) => {
            format!("its limit `{name}` is {theirs}, lower than the owner's {ours}")
        }
    }
}

/// Why nothing came of a handover.
pub fn failure_text(failure: Failure) -> String {
    match failure {
        Failure::NoPeer => "the wanted node did not become the peer in sync in time".into(),
        Failure::PeerLost => {
            "the register changed meanwhile: the peer was lost, or took over".into()
        }
        Failure::ArbiterSilent => "the arbiter did not answer".into(),
        Failure::NotFrozen => "the peer did not acknowledge the last records in time".into(),
        Failure::Absent(flows) => {
            format!("{flows} connections have no copy at the peer and would be lost")
        }
        Failure::Refused => "the arbiter refused it".into(),
        Failure::Withdrawn => "the order was taken back".into(),
    }
}
