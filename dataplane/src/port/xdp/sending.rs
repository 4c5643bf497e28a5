//! The sending half of a port: descriptors of a frame, telling the kernel, and taking back what it has
//! not taken.
//!
//! Path: last step. Bounds: [`KICK_CALLS_MAX`] and a call for each withdrawn descriptor; one for each superframe and what follows it.

use super::frames::FrameState;
use super::socket::Told;
use super::superframes::{Fate, Lies, Superframes};
use super::umem::{CHUNK_BYTES, Umem};
use super::{BURST, KICK_CALLS_MAX, Port, XdpPort};
use std::io;

/// What the kernel refuses: an address outside of any memory.
const NOWHERE: libc::xdp_desc = libc::xdp_desc { addr: u64::MAX, len: 0, options: 0 };

impl XdpPort {
    /// The frame to send of which this descriptor's address is a part.
    #[inline]
    fn frame_at(&self, address: u64) -> u32 {
        (Umem::chunk_of(address) - self.sending_from) / self.parts
    }

    /// Takes back what the kernel has sent.
    #[inline]
    pub(super) fn reap(&mut self) {
        let mut reaped = false;
        while let Some(address) = self.socket.completion.take() {
            // Some kernels give back the addresses that they refused, others do not.
            if address != NOWHERE.addr {
                self.sending.completed(self.frame_at(address));
            }
            reaped = true;
        }
        if reaped {
            self.socket.completion.release();
        }
    }

    /// Whether a frame can be staged now.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        if self.left > 0 || self.staged() == BURST || self.is_full_of_superframes() {
            return false;
        }
        if self.sending.count(FrameState::Free) == 0 {
            self.reap();
        }
        self.sending.count(FrameState::Free) > 0 && self.socket.transmit.has_room_for(self.parts)
    }

    /// Writes the descriptors of a frame of `len` bytes; returns how many there are.
    #[inline]
    pub(super) fn describe(&mut self, chunk: u32, len: usize) -> u8 {
        let mut addr = Umem::address_of(chunk) + self.lead as u64;
        let (mut left, mut room, mut parts) = (len, CHUNK_BYTES - self.lead, 0);
        while left > 0 {
            let part = left.min(room);
            left -= part;
            let options = if left > 0 { libc::XDP_PKT_CONTD } else { 0 };
            let descriptor = libc::xdp_desc { addr, len: part as u32, options };
            let written = self.socket.transmit.write(descriptor);
            assert!(written, "there is room for the longest frame, as asked before");
            addr += part as u64;
            (room, parts) = (CHUNK_BYTES, parts + 1);
        }
        parts
    }

    /// Zero copy: wakes the driver if it sleeps; it sends what is published in its own time.
    pub(super) fn wake_driver(&mut self) -> io::Result<()> {
        if !self.socket.transmit.needs_wakeup() {
            return Ok(());
        }
        self.counters.kicks += 1;
        match self.socket.tell_transmit()? {
            Told::Done | Told::Again => Ok(()),
            Told::Refused => Err(io::ErrorKind::NetworkDown.into()),
        }
    }

    /// Copy mode: makes the kernel send what is published, as far as it goes. `withdrawn` descriptors
    /// are in front of it: the kernel steps over one in each call.
    pub(super) fn send_all(&mut self, withdrawn: u32) -> io::Result<()> {
        for call in 0..KICK_CALLS_MAX + withdrawn {
            self.counters.kicks += 1;
            let told = self.socket.tell_transmit();
            self.left = self.socket.transmit.unconsumed();
            match told? {
                // Nothing of this kick was looked at if the first call was refused.
                Told::Refused if call == 0 => return Err(io::ErrorKind::NetworkDown.into()),
                Told::Refused => break,
                Told::Done | Told::Again if self.left == 0 => return Ok(()),
                // The completion ring may be what is full.
                Told::Done | Told::Again => self.reap(),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Publishes the staged frames.
    #[inline]
    pub(super) fn show(&mut self) {
        self.socket.transmit.publish();
        for (frame, parts) in &self.staged {
            self.sending.kicked(*frame, *parts);
        }
    }

    /// The staged frames are with the kernel.
    #[inline]
    pub(super) fn note_shown(&mut self) {
        self.counters.tx_frames += self.staged.len() as u64;
        self.counters.tx_bytes += std::mem::take(&mut self.staged_bytes);
        self.staged.clear();
    }

    /// Takes the burst back that was just published and not looked at.
    pub(super) fn take_back(&mut self) {
        let descriptors = self.staged.iter().map(|(_, parts)| u32::from(*parts)).sum();
        self.socket.transmit.unpublish(descriptors);
        for (frame, _) in &self.staged {
            self.sending.refused(*frame);
        }
        self.left = 0;
    }

    /// Copy mode: makes sure that what the kernel has not taken is never sent. It looks at the ring
    /// within our own system calls only, so not now.
    pub(super) fn withdraw(&mut self) {
        let XdpPort { socket, sending, counters, sending_from, parts, .. } = self;
        socket.transmit.withdraw(NOWHERE, |old| {
            if old.addr == NOWHERE.addr {
                return;
            }
            sending.completed((Umem::chunk_of(old.addr) - *sending_from) / *parts);
            if old.options & libc::XDP_PKT_CONTD == 0 {
                counters.tx_frames -= 1;
                counters.tx_withdrawn += 1;
            }
        });
        self.left = 0;
    }

    /// Gives the ring's staged frames to the kernel, see [`Port::kick`].
    pub(super) fn kick_ring(&mut self) -> io::Result<()> {
        // What is there before anything new is shown was withdrawn, or was left by the last kick.
        let before = self.socket.transmit.unconsumed();
        self.show();
        let is_zero_copy = self.socket.is_zero_copy();
        let outcome = if is_zero_copy { self.wake_driver() } else { self.send_all(before) };
        let refused = matches!(&outcome, Err(e) if e.kind() == io::ErrorKind::NetworkDown);
        if refused && !is_zero_copy && !self.staged.is_empty() {
            self.take_back();
            return outcome;
        }
        self.note_shown();
        outcome
    }

    /// Throws the ring's staged frames away, see [`Port::discard`].
    pub(super) fn discard_ring(&mut self) {
        self.socket.transmit.rollback();
        self.counters.tx_discarded += self.staged.len() as u64;
        self.staged_bytes = 0;
        for (frame, _) in self.staged.drain(..) {
            self.sending.discarded(frame);
        }
        if self.left > 0 {
            self.withdraw();
        }
    }

    #[inline]
    pub(super) fn is_full_of_superframes(&self) -> bool {
        self.superframes.as_ref().is_some_and(Superframes::is_full)
    }

    /// Gives what was staged behind the ring's frames to the kernel, in order.
    pub(super) fn send_superframes(&mut self) -> io::Result<()> {
        let XdpPort { superframes, umem, sending_from, parts, lead, .. } = self;
        let Some(superframes) = superframes else { return Ok(()) };
        if !superframes.is_busy() {
            return Ok(());
        }
        let bytes_of = |frame: u32, len: usize| {
            // SAFETY: the frame is staged: the kernel does not have it, and it was written before.
            let memory = unsafe { umem.chunks(*sending_from + frame * *parts, *parts) };
            &memory[*lead..*lead + len]
        };
        let outcome = superframes.send(bytes_of);
        if outcome.is_ok() {
            self.end_superframes();
        }
        outcome
    }

    /// Counts what was sent of the superframes and of what followed them, and throws the rest away.
    pub(super) fn end_superframes(&mut self) {
        let XdpPort { superframes, sending, counters, .. } = self;
        let Some(superframes) = superframes else { return };
        for staged in superframes.end() {
            match staged.fate {
                Fate::Sent => {
                    counters.kicks += 1;
                    counters.tx_frames += 1;
                    counters.tx_bytes += staged.len as u64;
                    counters.tx_superframes += u64::from(staged.segments > 1);
                }
                Fate::Refused => counters.tx_withdrawn += 1,
                Fate::Staged => counters.tx_discarded += 1,
            }
            if let Lies::Frame(frame) = staged.at {
                sending.discarded(frame);
            }
        }
    }
}
