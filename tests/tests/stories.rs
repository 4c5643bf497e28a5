//! The named stories of `tests/SPECIFICATION.md` that take a whole cluster: what becomes of its connections.
//!
//! Each is played for several moments or kinds of one mishap, under several seeds: see `tests/src/sim/named.rs`. The same
//! stories are told of agents alone, at every single moment, in `cluster/tests/agent/`.

use assert_no_alloc::AllocDisabler;

/// Tells when a core allocates.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

mod stories {
    mod failback;
    mod link;
    mod nodes;
    mod odd;
    mod reload;
    mod third;
    mod witness;
}
