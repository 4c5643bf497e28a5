//! Who speaks for which connection, counted by the switch where both nodes are heard.
//!
//! A connection that one node has answered since [`watch`] is that node's from then on: every frame that the other one
//! still sends for it is counted. The switch's own packet filter does so, so no frame is missed and none is delayed.
//!
//! Bounds: the filter remembers as many connections as a client has ports.

use anyhow::Context;

use super::bed::{Bed, ECHO_ADDRESS, Place, SERVICE_ADDRESS, run};

/// The table of the filter, and the counter in it.
const TABLE: &str = "bridge turns";
const COUNTER: &str = "bridge turns late";

/// From here on `former` may speak for a connection until `next` has.
pub fn watch(bed: &Bed, former: u8, next: u8) -> anyhow::Result<()> {
    let service = format!("ip saddr {{ {SERVICE_ADDRESS}, {ECHO_ADDRESS} }}");
    let connection = "ip saddr . tcp sport . tcp dport";
    // One transaction: no frame is between two rules.
    let rules = format!(
        "add table {TABLE}; delete table {TABLE}; add table {TABLE}; add counter {COUNTER}; \
         add set {TABLE} answered {{ typeof {connection}; flags dynamic; size 131072; }}; \
         add chain {TABLE} said {{ type filter hook prerouting priority 0; policy accept; }}; \
         add rule {TABLE} said iifname \"node{next}-eth0\" {service} add @answered {{ {connection} }}; \
         add rule {TABLE} said iifname \"node{former}-eth0\" {service} {connection} @answered counter name late"
    );
    let watched = run(bed.command(Place::Switch, "nft").arg(rules)).map(drop);
    watched.context("telling the switch whom to count")
}

/// Frames that came too late since [`watch`].
pub fn late(bed: &Bed) -> anyhow::Result<u64> {
    let text = run(bed.command(Place::Switch, "nft").arg(format!("list counter {COUNTER}")))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    let count = words.nth(1).and_then(|count| count.parse().ok());
    count.with_context(|| format!("the switch does not say how many packets it counted: {text}"))
}
