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
