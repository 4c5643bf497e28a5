//! The behaviour revision: how this program treats flows, as a number.
//!
//! The peer applies what the owner records by its own code. Two programs that speak one format but make something else
//! of a fact (another window, another byte of an answer) would drift apart unseen until a digest tells, or a takeover.
//! So a node declares its revision, and an owner takes no peer of another one: an upgrade across revisions leaves
//! services unprotected, and says so, until both nodes have it. What the present revision does is stored with the tests
//! (`scenario::behaviour`); a change of that is a new revision.

/// To be raised with every change of what a fact does to a contract or to an application's bytes.
pub const BEHAVIOUR: u16 = 2;
