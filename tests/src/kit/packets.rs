//! What smoltcp runs over in the kit: whole IP packets in and out, and the world's time.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;
use stack::time::Instant;
use std::cell::Cell;
use std::collections::VecDeque;

thread_local! {
    /// Milliseconds of the world whose machine is being polled: what smoltcp's TSval is made from.
    static CLOCK_MS: Cell<u32> = const { Cell::new(0) };
}

/// What TSval is made from.
pub(crate) fn clock() -> u32 {
    CLOCK_MS.get()
}

/// A machine of a world at this time is polled next.
pub(crate) fn set_clock(now: Instant) {
    CLOCK_MS.set(now.millis() as u32);
}

/// The world's time, as smoltcp counts it.
pub(crate) fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros((now.0 / 1_000) as i64)
}

/// Packets on their way in and out.
#[derive(Default)]
pub(crate) struct Packets {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: VecDeque<Vec<u8>>,
}

pub(crate) struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Packets {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}
