//! What a flow says next: one frame for each call, in the order in which it must be said.
//!
//! This is where the gate stands (DESIGN 5). SEG.ACK is capped at what the peer holds, the window at the
//! right edge that the peer knows, and output that cannot be derived again waits for its op. Payload is
//! not gated: it follows from bytes that the client still holds.
//!
//! Path: step 7. Spec: RFC 9293 3.8 and 3.10.8, RFC 7323, RFC 6691 (MSS without options); blocks in `selective.rs`.
//! How long an acknowledgement may rest: `delayed_ack.rs`.

use crate::flow::{Env, Flow, Local, Owed};
use crate::limits::{KICK_SEGMENTS, SEND_AGAIN, SHARE_BYTES_MOST, WINDOW_STEP_BYTES};
use crate::seq::Seq;
use crate::tcp::deadline::Wait;
use crate::tcp::sender::Resend;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Header, Mac, Path, SegmentOptions, emit_tcp, payload_offset};

/// What to put into one segment.
pub(super) struct Plan {
    pub(super) seq: Seq,
    pub(super) payload_bytes: usize,
    pub(super) flags: Flags,
}

impl Flow {
    /// Writes the next frame into `buffer`; 0 if there is nothing to say now. `ts_now` is TSval.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        if self.is_held() {
            return 0;
        }
        if self.contract.state == State::Closed {
            return self.transmit_reset(ts_now, env, source_mac, buffer);
        }
        if matches!(self.contract.state, State::SynSent | State::SynReceived) {
            return self.transmit_opening(now, ts_now, env, source_mac, buffer);
        }
        if self.is_kick_out(env) {
            return self.transmit_resend_or_ack(now, ts_now, env, source_mac, buffer);
        }
        if self.local.owed.probe {
            self.local.owed.probe = false;
            let plan = Plan { seq: self.local.snd_una - 1, payload_bytes: 0, flags: Flags::ACK };
            return self.emit(now, ts_now, env, source_mac, plan, buffer);
        }
        let resend = self.sender.poll_resend(&mut env.senders, self.has_new_data());
        if let Some(resend) = resend {
            return self.transmit_again(now, ts_now, env, source_mac, resend, buffer);
        }
        if let Some(plan) = self.plan_new(now, env) {
            return self.transmit_new(now, ts_now, env, source_mac, plan, buffer);
        }
        self.transmit_ack(now, ts_now, env, source_mac, buffer)
    }

    /// Whether [`Flow::poll_transmit`], which has just said something, may have more to say at once. Most often it has
    /// not, and this sees it sooner than another call: acknowledgement and window went out with what was said.
    #[inline]
    pub fn has_more(&self, env: &Env) -> bool {
        self.local.owed != Owed::default()
            || self.has_unsent()
            || self.sender.is_repairing(&env.senders)
    }

    /// The acknowledgement that may be said now: no further than the peer holds, and not the newest full
    /// segment of a stream while it is held back.
    #[inline]
    fn ack_value(&self, now: Instant) -> Seq {
        let mut ack = self.local.committed.rcv_nxt;
        if self.local.deadlines.is_ahead(now, Wait::HoldBack) {
            ack = ack.min(self.local.hold_back);
        }
        ack.max(self.local.rcv_acked)
    }

    /// SEG.WND for `ack`: up to the right edge that the peer knows, or as far as there is memory for, rounded so that it does not
    /// move left.
    fn window_value(&self, env: &Env, ack: Seq, scale: u8) -> (u16, Seq) {
        let edge = self.local.committed.rcv_edge.min(self.afforded_edge(env, ack));
        let available = edge.distance(ack).max(0) as u32;
        let mut window = available >> scale;
        if (ack + (window << scale)).before(self.local.adv_edge) && available > window << scale {
            window += 1;
        }
        let window = window.min(0xffff);
        (window as u16, ack + (window << scale))
    }

    /// As far as there is memory for, beside what is held and acknowledged already, and not before what was offered. What a former
    /// owner has offered nobody here knows: as much as the log allows.
    fn afforded_edge(&self, env: &Env, ack: Seq) -> Seq {
        let share = env.memory.share();
        if share >= SHARE_BYTES_MOST || self.local.is_resumed {
            return ack + SHARE_BYTES_MOST as u32;
        }
        let buffer = env.services[self.group as usize].receive_buffer;
        let held = match self.passes_ahead() {
            true => 0,
            false => buffer.saturating_sub(self.contract.window()),
        };
        (ack + (share as u32).saturating_sub(held)).max(self.local.adv_edge)
    }

    /// Whether data was kicked, as much of it as may be, and the other side has not answered yet: the oldest segment, or on a leg that
    /// passes ahead, where it may be new to its receiver, [`KICK_SEGMENTS`].
    fn is_kick_out(&self, env: &Env) -> bool {
        let owed = &self.local.owed;
        if !owed.kick_unanswered || owed.kick {
            return false;
        }
        let most = if self.passes_ahead() { KICK_SEGMENTS } else { 1 };
        self.sender.segments(&env.senders) >= most
    }

    /// A promoted flow whose client has not answered yet: only what was kicked is sent again.
    fn transmit_resend_or_ack(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        if let Some(resend) = self.sender.poll_resend(&mut env.senders, false) {
            return self.transmit_again(now, ts_now, env, source_mac, resend, buffer);
        }
        self.transmit_ack(now, ts_now, env, source_mac, buffer)
    }

    fn transmit_reset(
        &mut self,
        ts_now: u32,
        env: &Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        if !self.local.owed.rst {
            return 0;
        }
        self.local.owed.rst = false;
        // RFC 9293 3.10.5: <SEQ=SND.NXT><CTL=RST>; with ACK, so that RFC 5961's check finds what it needs.
        let header = Header {
            source_port: self.key.local_port,
            destination_port: self.key.remote_port,
            seq: self.local.snd_nxt,
            ack: self.local.committed.rcv_nxt,
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
            options: self.segment_options(ts_now),
        };
        emit_tcp(buffer, &self.path(env, source_mac), &header, 0)
    }

    /// SYN or SYN-ACK if it is due, else the ACK that answers what lies outside the window (RFC 9293
    /// 3.10.7.4, first).
    fn transmit_opening(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        let bytes = self.transmit_syn(now, ts_now, env, source_mac, buffer);
        if bytes > 0 || !self.local.owed.ack || self.local.snd_nxt == self.contract.iss {
            return bytes;
        }
        let plan = Plan { seq: self.local.snd_nxt, payload_bytes: 0, flags: Flags::ACK };
        self.emit(now, ts_now, env, source_mac, plan, buffer)
    }

    fn transmit_syn(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        let iss = self.contract.iss;
        if self.local.snd_nxt == iss {
            if !self.track(now, env, iss, 1, false) {
                return 0;
            }
            self.local.snd_nxt = iss + 1;
        } else if let Some(resend) = self.sender.poll_resend(&mut env.senders, false) {
            self.sender.handle_resent(now, &mut env.senders, resend);
        } else if self.local.owed.syn_ack {
            self.sender.handle_repeated(&mut env.senders);
        } else {
            return 0;
        }
        self.local.owed.syn_ack = false;
        self.local.owed.kick = false;
        let service = &env.services[self.group as usize];
        let options = self.contract.options;
        let answers = self.contract.state == State::SynReceived;
        let ack = if answers { self.contract.irs + 1 } else { Seq(0) };
        // RFC 7323 2.2: the window of a SYN is never scaled; RFC 6691: the MSS does not count options.
        let header = Header {
            source_port: self.key.local_port,
            destination_port: self.key.remote_port,
            seq: iss,
            ack,
            flags: if answers { Flags::SYN.with(Flags::ACK) } else { Flags::SYN },
            window: service.first_window().min(0xffff) as u16,
            options: SegmentOptions {
                mss: Some(service.mss_for(&self.key.local)),
                window_scale: options.scaling.then_some(options.rcv_scale),
                sack_permitted: options.sack,
                sack: [None; 4],
                timestamps: options.timestamps.then_some((ts_now, self.local.ts_recent)),
            },
        };
        if answers {
            self.local.rcv_acked = ack;
            self.local.adv_edge = ack + header.window as u32;
        }
        emit_tcp(buffer, &self.path(env, source_mac), &header, 0)
    }

    /// Sends again what the client has not acknowledged.
    fn transmit_again(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        resend: Resend,
        buffer: &mut [u8],
    ) -> usize {
        let payload_bytes = (resend.len - resend.fin as u32) as usize;
        let fin = if resend.fin { Flags::FIN } else { Flags(0) };
        let plan = Plan { seq: resend.seq, payload_bytes, flags: Flags::ACK.with(fin) };
        self.sender.handle_resent(now, &mut env.senders, resend);
        self.emit(now, ts_now, env, source_mac, plan, buffer)
    }

    /// Bytes that the application has produced and that were never sent; `None` once the FIN was sent. An
    /// output may be longer than the sequence space: it is measured in stream offsets.
    #[inline]
    pub(super) fn unsent(&self) -> Option<u64> {
        let next = self.contract.offset_of(self.local.snd_nxt).unwrap_or(0);
        self.output.end().checked_sub(next)
    }

    /// Whether there are bytes, or a FIN, that were never sent.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.unsent().is_some_and(|bytes| bytes > 0 || self.closes())
    }

    /// Whether new data could go out as far as the client's window is concerned.
    fn has_new_data(&self) -> bool {
        let window_edge = self.local.snd_una + self.local.snd_wnd;
        self.unsent().is_some_and(|bytes| bytes > 0) && window_edge.after(self.local.snd_nxt)
    }

    /// Bytes of payload that fit into a segment with the options that it will carry.
    pub(super) fn payload_room(&self, now: Instant, env: &Env) -> u32 {
        let mut options = self.segment_options(0);
        if self.has_blocks() {
            options.sack = self.blocks(env, self.ack_value(now), 0).0;
        }
        (self.mss() as u32).saturating_sub(options.header_bytes() as u32).max(1)
    }

    /// The next segment of new data, if windows and silly-window avoidance allow one.
    fn plan_new(&mut self, now: Instant, env: &mut Env) -> Option<Plan> {
        if !self.has_unsent() {
            return None;
        }
        self.age_path(now, env);
        let snd_nxt = self.local.snd_nxt;
        let unsent = self.unsent().unwrap_or(0).min(u32::MAX as u64) as u32;
        let window_edge = self.local.snd_una + self.local.snd_wnd;
        let window = window_edge.distance(snd_nxt).max(0) as u32;
        let congestion = self.sender.window_left(now, &env.senders);
        let full = self.payload_room(now, env);
        let mut bytes = unsent.min(window).min(congestion).min(full);
        if self.local.owed.kick {
            // The first segment of a kick goes out whatever congestion control says of a flow that it has
            // just met; a closed window is probed with one byte.
            bytes = unsent.min(window.max(1)).min(full);
        }
        let carries_fin = self.closes() && bytes == unsent && self.may_finish();
        // RFC 9293 3.7.4, Nagle's algorithm: while anything is unacknowledged, only full segments go, what
        // nothing can follow, and the second segment of a kick.
        let is_alone = env.services[self.group as usize].nodelay
            || self.sender.is_idle(&env.senders)
            || self.local.owed.kick_unanswered;
        let goes_small = is_alone || carries_fin;
        // RFC 9293 3.8.6.2.1: a full segment, all there is, half of the largest window ever seen, or
        // whatever goes after waiting for that in vain or asks for an answer (RFC 8985 7.3).
        let is_worth = bytes == full
            || (bytes == unsent && goes_small)
            || (2 * bytes >= self.local.snd_wnd_max && goes_small)
            || self.local.owed.partial
            || self.sender.is_probe_due(&env.senders);
        if !is_worth || (bytes == 0 && !carries_fin) {
            self.watch_closed_window(now, env, unsent, window);
            return None;
        }
        let mut flags = Flags::ACK;
        if bytes == unsent && bytes > 0 {
            flags = flags.with(Flags::PSH);
        }
        if carries_fin {
            flags = flags.with(Flags::FIN);
        }
        Some(Plan { seq: snd_nxt, payload_bytes: bytes as usize, flags })
    }

    /// A FIN that answers the client's leaves together with the acknowledgement of that, so not before the peer
    /// holds it: else the client would take the two for a simultaneous close, and its retransmitted FIN would
    /// find a promoted peer that closes at once and has nothing left to acknowledge it with.
    fn may_finish(&self) -> bool {
        !self.contract.fin_received || self.local.committed.rcv_nxt == self.contract.rcv_nxt
    }

    /// RFC 9293 MUST-36: a closed window is probed for as long as the client answers.
    fn watch_closed_window(&mut self, now: Instant, env: &Env, unsent: u32, window: u32) {
        let stalled = unsent > window && self.sender.is_idle(&env.senders);
        if stalled && !self.local.deadlines.is_set(Wait::Persist) {
            let interval = self.persist_interval();
            self.local.deadlines.set(Wait::Persist, now + interval);
        }
    }

    fn transmit_new(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        plan: Plan,
        buffer: &mut [u8],
    ) -> usize {
        let fin = plan.flags.has(Flags::FIN);
        let len = plan.payload_bytes as u32 + fin as u32;
        if !self.track(now, env, plan.seq, len, fin) {
            return self.transmit_ack(now, ts_now, env, source_mac, buffer);
        }
        if fin {
            self.local.fin_answers = self.contract.fin_received && !self.in_grace(now, env);
        }
        let owed = &mut self.local.owed;
        owed.kick_unanswered |= owed.kick;
        (owed.kick, owed.partial) = (false, false);
        self.local.snd_nxt = plan.seq + len;
        self.emit(now, ts_now, env, source_mac, plan, buffer)
    }

    /// Notes what is about to be in flight. `false`: there is no room for it; it is tried again.
    pub(super) fn track(
        &mut self,
        now: Instant,
        env: &mut Env,
        seq: Seq,
        len: u32,
        fin: bool,
    ) -> bool {
        let config = &env.services[self.group as usize].sender;
        let sent = self.sender.handle_sent(now, &mut env.senders, config, (seq, len), fin);
        let is_waiting = self.local.deadlines.is_set(Wait::Room);
        if sent.is_err() && !is_waiting && self.sender.is_idle(&env.senders) {
            // No acknowledgement will come to try again after.
            self.local.deadlines.set(Wait::Room, now + SEND_AGAIN);
        }
        sent.is_ok()
    }

    /// A bare acknowledgement, if one is owed.
    fn transmit_ack(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        buffer: &mut [u8],
    ) -> usize {
        let Local { committed, owed, rcv_acked, adv_edge, .. } = &self.local;
        let has_news = committed.rcv_nxt != *rcv_acked || committed.rcv_edge.after(*adv_edge);
        if !has_news && !owed.ack && !owed.kick {
            return 0;
        }
        let ack = self.ack_value(now);
        let is_new = ack.after(self.local.rcv_acked);
        // A duplicate acknowledgement counts a loss: it waits until it can say which.
        let is_misleading = !is_new && self.is_hole_uncertain();
        // The end is acknowledged at once; a word before it with that, or after its delay.
        let is_end = self.contract.fin_received && ack == self.contract.rcv_nxt;
        let is_awaited = is_end || self.local.owed.ack_new;
        let is_due = (self.local.owed.ack && !is_misleading)
            || (is_new && (is_awaited || self.local.deadlines.is_due(now, Wait::Ack)))
            || self.opens_window(env, ack)
            || self.local.owed.kick;
        if !is_due {
            return 0;
        }
        self.local.owed.kick = false;
        let plan = Plan { seq: self.local.snd_nxt, payload_bytes: 0, flags: Flags::ACK };
        self.emit(now, ts_now, env, source_mac, plan, buffer)
    }

    /// Whether the window that goes with `ack` is worth a segment of its own. RFC 9293 MUST-39: half of the buffer is (of what is passed
    /// on [`WINDOW_STEP_BYTES`] at most), and a full segment to a client that has not got room for two.
    fn opens_window(&self, env: &Env, ack: Seq) -> bool {
        let (_, edge) = self.window_value(env, ack, self.contract.options.rcv_scale);
        let buffer_bytes = env.services[self.group as usize].receive_buffer;
        let offered = self.local.adv_edge.since(self.local.rcv_acked);
        let segment = self.local.rcv_mss.max(self.contract.options.mss) as u32;
        let most = if self.passes_ahead() { WINDOW_STEP_BYTES } else { u32::MAX };
        let half = (buffer_bytes / 2).min(most);
        let step = if offered < 2 * segment { segment.min(half) } else { half };
        edge.distance(self.local.adv_edge) >= step as i32
            || (edge.after(self.local.adv_edge) && (offered == 0 || self.may_lack_room(env)))
    }

    /// Whether its side may be waiting for room, though it has some left: it has nothing under way, and is offered less than
    /// would do for two segments of whatever size we take (RFC 9293 3.8.6.2.1: with room for one it does not wait).
    fn may_lack_room(&self, env: &Env) -> bool {
        let largest = env.services[self.group as usize].mss_for(&self.key.local);
        let usable = self.local.adv_edge.distance(self.rcv_taken());
        self.is_awaited() && usable < 2 * i32::from(largest)
    }

    /// Whether what the peer holds since a moment ago may let something be said or needs a timer. Of an open connection it
    /// seldom does: what is acknowledged goes with the next answer, or when its delay is over.
    pub(crate) fn is_stirred(&self, now: Instant, env: &Env) -> bool {
        self.contract.state != State::Established
            || self.closes()
            || self.ahead().fin
            || self.local.owed != Owed::default()
            || self.local.deadlines.has_changed()
            || self.opens_window(env, self.ack_value(now))
    }

    /// Writes a segment and notes what it acknowledged and offered.
    fn emit(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        plan: Plan,
        buffer: &mut [u8],
    ) -> usize {
        let (path, header) = self.fill(now, ts_now, env, source_mac, &plan, buffer);
        emit_tcp(buffer, &path, &header, plan.payload_bytes)
    }

    /// Writes the payload of what is planned where it belongs, and notes what its header acknowledges and offers.
    pub(super) fn fill(
        &mut self,
        now: Instant,
        ts_now: u32,
        env: &mut Env,
        source_mac: &Mac,
        plan: &Plan,
        buffer: &mut [u8],
    ) -> (Path, Header) {
        let ack = self.ack_value(now);
        let mut options = self.segment_options(ts_now);
        if self.has_blocks() {
            let (blocks, is_reported) = self.blocks(env, ack, plan.payload_bytes);
            options.sack = blocks;
            if is_reported {
                self.local.duplicate_bytes = 0;
            }
        }
        let path = self.path(env, source_mac);
        let at = payload_offset(&path.destination, &options);
        if plan.payload_bytes > 0 {
            let offset = self.contract.offset_of(plan.seq).expect("within the stream");
            let content = &env.services[self.group as usize].content;
            let room = &mut buffer[at..at + plan.payload_bytes];
            // Payload goes out only as a part of what is in flight.
            let cursor = &mut env.senders.active[self.sender.place()].cursor;
            let read = self.output.read_at(&env.memory, content, cursor, offset, room);
            assert_eq!(read, plan.payload_bytes, "what is in flight is held");
        }
        let (window, edge) = self.window_value(env, ack, self.contract.options.rcv_scale);
        let header = Header {
            source_port: self.key.local_port,
            destination_port: self.key.remote_port,
            seq: plan.seq,
            ack,
            flags: plan.flags,
            window,
            options,
        };
        self.note_acknowledgement_sent(now, ack, edge);
        if plan.payload_bytes > 0 {
            self.local.delayed_ack.note_said();
        }
        (path, header)
    }

    /// The options of an ordinary segment but for SACK blocks.
    #[inline]
    fn segment_options(&self, ts_now: u32) -> SegmentOptions {
        SegmentOptions {
            timestamps: self.contract.options.timestamps.then_some((ts_now, self.local.ts_recent)),
            ..SegmentOptions::default()
        }
    }

    #[inline]
    fn path(&self, env: &Env, source_mac: &Mac) -> Path {
        Path {
            hop_limit: env.services[self.group as usize].hop_limit,
            source_mac: *source_mac,
            destination_mac: self.next_hop,
            source: self.key.local,
            destination: self.key.remote,
        }
    }
}
