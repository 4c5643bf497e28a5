//! A bounded channel whose receiver sleeps on descriptors: who sends wakes it.
//!
//! The agent waits for datagrams, which come by a socket, and for what the node's other threads tell it. To look every
//! millisecond whether there is any of that would take the processor from a poll core a thousand times a second, and have a
//! handover wait for the next look.

use crate::sys::event::Event;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::time::Duration;

/// Sends, and wakes the receiver.
#[derive(Clone)]
pub struct WakingSender<T> {
    sender: Sender<T>,
    event: Arc<Event>,
}

/// A channel of so many messages whose receiver is woken by `event`.
pub fn waking<T>(messages_max: usize, event: &Arc<Event>) -> (WakingSender<T>, Receiver<T>) {
    let (sender, receiver) = bounded(messages_max);
    (WakingSender { sender, event: event.clone() }, receiver)
}

impl<T> WakingSender<T> {
    /// Sends, if there is room.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(message).inspect(|()| self.event.raise())
    }

    /// Sends, as soon as there is room.
    pub fn send_timeout(&self, message: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        self.sender.send_timeout(message, limit).inspect(|()| self.event.raise())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wait_readable;

    /// Whoever lowers the event before it looks misses nothing; what found no room wakes nobody.
    #[test]
    fn what_is_sent_wakes_its_receiver() {
        let event = Arc::new(Event::new().unwrap());
        let is_woken = || wait_readable(&[event.fd()], 1_000).unwrap();
        let (sender, receiver) = waking(1, &event);
        assert!(!is_woken());
        sender.try_send(1).unwrap();
        assert!(is_woken());
        event.lower();
        assert_eq!(receiver.try_recv(), Ok(1));
        sender.send_timeout(2, Duration::from_secs(10)).unwrap();
        assert!(is_woken());
        event.lower();
        assert!(sender.try_send(3).is_err() && !is_woken());
    }
}
