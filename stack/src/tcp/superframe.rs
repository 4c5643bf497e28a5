//! Several full segments of one flow written as one *superframe*, which whoever sends it cuts: a NIC, or the kernel for one
//! that cannot (TCP segmentation offload). One copy, one header and one passage through the kernel for all of them.
//!
//! A superframe is nothing but those segments: everything that is noted of each is noted as if they had been written one by
//! one, and the cuts lie where they would have lain. What needs care (repetitions, probes, the first words after a takeover, a
//! FIN) is never in one: `transmit.rs` says that.
//!
//! Path: step 7. Bounds: [`SUPERFRAME_BYTES_MAX`]; as many segments as whoever sends it takes.

use crate::flow::{Env, Flow, Owed};
use crate::limits::SUPERFRAME_BYTES_MAX;
use crate::tcp::state::State;
use crate::tcp::transmit::Plan;
use crate::time::Instant;
use crate::wire::{ETHERNET_BYTES, Flags, Mac, Superframe, emit_superframe, emit_whole};

impl Flow {
    /// Writes the next superframe, of up to `segments_max` segments, into `buffer`, which holds [`SUPERFRAME_BYTES_MAX`] bytes.
    /// `None`: what is to be said next is no matter of several segments of new data; [`Flow::poll_transmit`] knows.
    pub fn poll_superframe(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        (buffer, segments_max): (&mut [u8], u32),
    ) -> Option<Superframe> {
        if !self.may_stream(env) {
            return None;
        }
        self.age_path(now, env);
        let full = self.payload_room(now, env);
        let headers = self.key.remote.header_bytes() as u32 + 20 + u32::from(self.mss()) - full;
        let room = (SUPERFRAME_BYTES_MAX - ETHERNET_BYTES) as u32 - headers;
        let usable = (self.local.snd_una + self.local.snd_wnd).distance(self.local.snd_nxt).max(0);
        let allowed = (usable as u32).min(self.sender.window_left(now, &env.senders));
        let unsent = self.unsent()?.min(u64::from(u32::MAX)) as u32;
        let most = allowed.min(room).min(segments_max.saturating_mul(full));
        let payload_bytes = match unsent <= most && env.services[self.group as usize].nodelay {
            true => unsent,
            false => most.min(unsent) / full * full,
        };
        if payload_bytes <= full {
            return None;
        }
        let seq = self.local.snd_nxt;
        let payload_bytes = self.track_segments(now, env, payload_bytes, full);
        if payload_bytes == 0 {
            return None;
        }
        self.local.owed.partial = false;
        self.local.snd_nxt = seq + payload_bytes;
        let push = if payload_bytes == unsent { Flags::PSH } else { Flags(0) };
        let flags = Flags::ACK.with(push);
        let plan = Plan { seq, payload_bytes: payload_bytes as usize, flags };
        let (path, header) = self.fill(now, ts_now, env, source_mac, &plan, buffer);
        if payload_bytes <= full {
            // There was room to note one.
            return Some(emit_whole(buffer, &path, &header, plan.payload_bytes));
        }
        // As the second segment would have been noted; no later one finds anything else.
        self.note_acknowledgement_sent(now, header.ack, self.local.adv_edge);
        Some(emit_superframe(buffer, &path, &header, plan.payload_bytes, full as u16))
    }

    /// Notes each segment of a superframe as about to be in flight; for how many bytes there was room.
    fn track_segments(&mut self, now: Instant, env: &mut Env, bytes: u32, full: u32) -> u32 {
        let mut tracked = 0;
        while tracked < bytes {
            let len = full.min(bytes - tracked);
            if !self.track(now, env, self.local.snd_nxt + tracked, len, false) {
                break;
            }
            tracked += len;
        }
        tracked
    }

    /// Whether the flow is in the midst of a stream of new data: open, nothing held, nothing to repair or to probe, nothing
    /// owed that a segment of its own would have to say, and more there than a segment takes.
    #[inline]
    fn may_stream(&self, env: &Env) -> bool {
        let owed = Owed { ack: false, ack_new: false, partial: false, ..self.local.owed };
        matches!(self.contract.state, State::Established | State::CloseWait)
            && self.unsent().is_some_and(|bytes| bytes > u64::from(self.mss()))
            && owed == Owed::default()
            && !self.is_held()
            && !self.has_blocks()
            && !self.sender.is_repairing(&env.senders)
            && !self.sender.is_probe_due(&env.senders)
    }
}
