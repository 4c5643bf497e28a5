//! Every bound of the stack that is not a run-time setting, with unit and reason.

use crate::time::Duration;

/// Bytes of an HTTP request head at most: what nginx and HAProxy accept by default, rounded.
pub const HTTP_HEAD_BYTES_MAX: usize = 8192;

/// Responses that one HTTP flow may have queued, in pieces (a head and a body are two): a pipelining
/// client waits beyond that.
pub const OUTPUT_PIECES_MAX: usize = 16;

/// Bytes of a chunk: an Ethernet frame's payload fits, and little is wasted on a short answer.
pub const CHUNK_BYTES: usize = 2048;

/// Bytes of response heads and small bodies that one HTTP flow may have queued before it reads no
/// further request: pipelined requests answered without a body share one piece, so pieces alone do
/// not bound them.
pub const HTTP_OUTPUT_BYTES_MAX: usize = 4096;

/// Pieces that handling one HTTP request adds at most: `100 Continue`, a head, a body.
pub const HTTP_RESPONSE_PIECES_MAX: usize = 3;

/// Bytes of one response head at most, small body included: the fixed texts, a content type, an ETag.
pub const HTTP_RESPONSE_BYTES_MAX: usize = 768;

/// Header fields of a request at most: what Apache httpd accepts by default, less what nobody sends.
pub const HTTP_FIELDS_MAX: usize = 64;

/// Bytes of a request target at most; longer ones are answered with 414.
pub const HTTP_TARGET_BYTES_MAX: usize = 2048;

/// Bytes of one chunk's size line at most, extensions included (RFC 9112 7.1.1 asks for a limit).
pub const HTTP_CHUNK_LINE_BYTES_MAX: u16 = 256;

/// Bytes of a chunked body's trailer section at most: like a head.
pub const HTTP_TRAILER_BYTES_MAX: u16 = 8192;

/// Chunks that the output of one HTTP flow can hold at most: every second piece can hold bytes, and
/// each begins and ends within a chunk of its own.
pub const HTTP_OUTPUT_CHUNKS_MAX: usize =
    OUTPUT_PIECES_MAX + (HTTP_OUTPUT_BYTES_MAX + HTTP_RESPONSE_BYTES_MAX).div_ceil(CHUNK_BYTES);

/// Bytes of a generated object at most (1 TiB): stream offsets stay far from the end of a `u64`.
pub const GENERATED_BYTES_MAX: u64 = 1 << 40;

/// Bytes of output that a flow can ever produce or be told of (4 EiB), far from the end of a `u64`.
pub const STREAM_BYTES_MAX: u64 = 1 << 62;

/// Bytes of the path of a pinned object at most.
pub const CONTENT_PATH_BYTES_MAX: usize = 1024;

/// Bytes of the content type of a pinned object at most.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;

/// Pinned objects at most.
pub const CONTENT_OBJECTS_MAX: usize = 1 << 20;

const _: () = assert!(HTTP_RESPONSE_PIECES_MAX < OUTPUT_PIECES_MAX);
const _: () = assert!(HTTP_RESPONSE_BYTES_MAX <= CHUNK_BYTES);
const _: () = assert!(HTTP_TARGET_BYTES_MAX < HTTP_HEAD_BYTES_MAX);

/// How far beyond `snd_nxt` an acknowledgement is believed after a takeover (DESIGN 5): more than any
/// window that TCP can offer, less than half of the sequence space.
pub const ACK_AHEAD_MAX: u32 = 1 << 30;

/// For how long after a takeover (DESIGN 5): the dead owner's last segments are gone long before.
pub const GRACE: Duration = Duration::from_secs(60);

/// Delay of an acknowledgement (RFC 9293 MUST-40 allows 500 ms; Linux waits 40): well below any client's
/// retransmission timer.
pub const ACK_DELAY: Duration = Duration::from_millis(25);

/// Delay of the acknowledgement of a full segment that was pushed right behind another: a stream's next is there by then.
pub const ACK_DELAY_STEP: Duration = Duration::from_millis(2);

/// Servers of which something is decided, and that have no place here, for each service: nodes that differ do so by a few, and for
/// as long as it takes to reload them.
pub const HEARSAY_MAX: usize = 256;

/// What an answer could not acknowledge, because the peer did not hold it yet, waits so much longer for the next one: hosts say
/// their next word within that where many come, and delay acknowledgements of their own for longer (Linux for 40 ms).
pub const ACK_DELAY_REST: Duration = Duration::from_millis(8);

/// After a delayed acknowledgement that had to go by itself, and that its receiver answered at once by the next word, so many
/// words are acknowledged without delay; then it is tried again whether something takes it along. It costs whoever waits for it
/// one such delay in so many words.
pub const QUICK_ACKS: u8 = 64;

/// After a takeover nobody knows who has spoken last: so many words are acknowledged without delay, whether they are answers or steps.
pub const QUICK_ACKS_RESUMED: u8 = 4;

/// Shorter segments are no stream's, whatever its path takes (RFC 9293 MUST-15).
pub const FULL_SEGMENT_BYTES: u32 = 536;

/// For how long the newest full segment of an upload stays unacknowledged (DESIGN 9).
pub const HOLD_BACK: Duration = Duration::from_millis(2);

/// How long `snd_una` may go unrecorded (DESIGN 5).
pub const UNA_FLUSH: Duration = Duration::from_millis(10);

/// By how many bytes the recorded `snd_una` may lag (DESIGN 5): half of the window that a proxy offers where its configuration names
/// none, so that an acknowledgement that waits for the peer leaves the sender the other half.
pub const UNA_FLUSH_BYTES: u32 = 512 << 10;

/// What either side of a proxied connection may send before the other one's window is known: hosts begin with more.
pub const FIRST_WINDOW_BYTES: u32 = 32 << 10;

/// A window that has opened by so much is recorded at once: a record alone in its datagram, and the answer, are less than
/// a hundredth of what it lets through.
pub const OPENED_BYTES: u32 = 48 << 10;

/// A window of what is passed on that has opened by so much is told by a segment of its own, however large the buffer is: whoever has
/// filled a small one waits for that.
pub const WINDOW_STEP_BYTES: u32 = 128 << 10;

/// Segments that a sender is offered when the other side of a proxied connection opens its window by less than one: one that is
/// cut to what fits there, and one to go on with.
pub const STOCK_SEGMENTS: u64 = 2;

/// Records of what has passed through a proxied connection that may be early, one after another: a sender's congestion window
/// doubles with each.
pub const EARLY_RECORDS_MAX: u8 = 8;

/// TIME-WAIT: twice a maximum segment lifetime of 30 s, as Linux has it.
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// How long a client that we have closed may take to close its side (as Linux's `tcp_fin_timeout`).
pub const FIN_WAIT_2: Duration = Duration::from_secs(60);

/// How long a SYN of ours goes unanswered (RFC 9293 MUST-23 asks for three minutes at least).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(180);

/// First interval between probes of a closed window; doubled after each (RFC 9293 SHLD-29, SHLD-30).
pub const PERSIST_FIRST: Duration = Duration::from_millis(200);

/// Longest interval between probes of a closed window.
pub const PERSIST_MAX: Duration = Duration::from_secs(60);

/// Probes of a closed window after which silence counts: three minutes have passed by then, and the
/// last three were a minute apart.
pub const PERSIST_COUNT_LEAST: u8 = 10;

/// For how long TS.Recent can tell old segments from new ones (RFC 7323 5.5: the clock of a client
/// may take 24.8 days to half of its range).
pub const TS_RECENT_VALID: Duration = Duration::from_secs(24 * 24 * 3600);

/// Least time between two answers to segments that prove nothing (RFC 5961 7): two ends that find each
/// other's acknowledgements unacceptable must not answer each other for ever.
pub const CHALLENGE_INTERVAL: Duration = Duration::from_millis(50);

/// Least path MTU that is believed over IPv4, as Linux has it: every link in use takes more, and smaller
/// segments would be a gift to whoever forges an ICMP error.
pub const PATH_MTU_LEAST: u32 = 552;

/// Least MTU of an IPv6 link (RFC 8200 5).
pub const PATH_MTU_LEAST_6: u32 = 1280;

/// After so many seconds a flow tries again what its own link takes (RFC 1191 6.3, RFC 8201 4).
pub const PATH_MTU_AGE_SECS: u16 = 600;

/// Times that the path MTU of a flow may shrink until it is tried anew: each link of a path may take less than
/// the one before, and there are few kinds of links; a forger gets no further.
pub const PATH_CHANGES_MAX: u8 = 8;

/// Small answers (ARP, ICMP echo, RST, cookies) that may wait for a frame: a burst's worth.
pub const REPLIES_MAX: usize = 64;

/// Small answers that leave before the flows have their turn, in one round; the others leave after them. A
/// quarter of a burst: a flood that wants answers cannot silence the established.
pub const REPLIES_FIRST: u8 = 16;

/// SYNs answered with cookies in a second at most. A frame costs its sender up to 2.5 us where the kernel
/// copies it, and its answer is made within another: so this is less than a quarter of a core.
pub const COOKIES_PER_SECOND: u32 = 64_000;

/// Segments of no flow answered with RST in a second at most. Nobody needs it but to learn sooner.
pub const RESETS_PER_SECOND: u32 = 10_000;

/// ICMP echo requests answered in a second at most.
pub const ECHOES_PER_SECOND: u32 = 10_000;

/// Questions about our addresses answered in a second at most: a link has fewer neighbours.
pub const ADDRESSES_PER_SECOND: u32 = 10_000;

/// Questions of our own about next hops in a second at most: a thousand servers have been asked for after a quarter of one.
pub const QUESTIONS_PER_SECOND: u32 = 4_000;

/// How much of a second's answers may leave at once, as its part: 10 ms' worth.
pub const REPLY_BURSTS_PER_SECOND: u32 = 100;

/// Bits of each half of the memory of SYNs without an answer: with 200 000 SYNs a second three in a hundred
/// are taken for repeated ones, which costs them nothing. One MiB in all.
pub const RECENT_BITS: usize = 1 << 22;

/// For how long a SYN without an answer is remembered at least; at most twice as long. Clients repeat theirs
/// after a second (RFC 6298 2.1), and after two more.
pub const RECENT_SYN: Duration = Duration::from_secs(2);

/// Bytes of an ICMP echo that are returned at most.
pub const ECHO_BYTES_MAX: usize = 1472;

/// Connections in SYN-RECEIVED at most; beyond that, SYNs are answered with cookies.
pub const BACKLOG_FLOWS_MAX: u32 = 4096;

/// When an address is announced after it was taken over, and how often (RFC 5227 2.3 asks for two). The same again
/// when somebody else claims it, if the last time is longer ago than [`DEFEND_INTERVAL`].
pub const ANNOUNCE_AFTER_MS: [u64; 7] = [0, 5, 25, 100, 400, 1000, 3000];

/// For so long after a cookie a segment that shows none is dropped, not reset: data may overtake what does, also when all of it
/// was lost and is said again, a second later or three (RFC 6298 2.1 and 5.7). Whoever has a lost connection learns of that when
/// it repeats itself.
pub const COOKIE_GRACE: Duration = Duration::from_secs(4);

/// Announcements that find the queue of small answers full, or its budget spent, are tried again after this time.
pub const ANNOUNCE_PAUSE: Duration = Duration::from_millis(1);

/// An address that somebody else claims is announced anew, at most once in this time: whoever defends it too must not
/// make a storm of it (RFC 5227 2.4 (c) is content with ten seconds, in which clients would be gone).
pub const DEFEND_INTERVAL: Duration = Duration::from_millis(100);

/// How often a hardware address that belongs to a service is said where it is when all else is said: switches forget
/// (after 300 s by default), and a late frame of a former owner may have misled them.
pub const ANNOUNCE_AGAIN: Duration = Duration::from_secs(10);

/// Promoted flows are probed behind the kicks, which may have answered the question by then.
pub const PROBE_AFTER: Duration = Duration::from_millis(100);

/// Between two probes of promoted flows: 2 000 a second are no burden to anybody.
pub const PROBE_INTERVAL: Duration = Duration::from_micros(500);

/// When a time-out that found the log full is tried again.
pub const TICK_AGAIN: Duration = Duration::from_millis(1);

/// When what found no room among what is in flight, or more than its share of the chunks, is tried again.
pub const SEND_AGAIN: Duration = Duration::from_millis(100);

/// One part in this many of the chunks is not for out-of-order payload: a hole can always be filled.
pub const CHUNKS_IN_ORDER: usize = 4;

/// When less than half of a core's chunks are free, one flow holds at most one part in this many of all of them, times the square of
/// the part that is free: at first a sixteenth. With the defaults of one core that is a full window of a proxy until five sixths are in
/// use.
pub const SHARE_PARTS: usize = 4;

/// What any flow may hold, however little is free: a request's head, or a few segments.
pub const SHARE_BYTES_LEAST: usize = 8 * CHUNK_BYTES;

const _: () = assert!(SHARE_BYTES_LEAST >= HTTP_HEAD_BYTES_MAX + 4 * 1460);

/// While half is free: more than any window that TCP can offer.
pub const SHARE_BYTES_MOST: usize = 1 << 30;

/// Chunks are scarce when less than one part in this many of them is free.
pub const SCARCE_PARTS: usize = 8;

/// Retransmission time-outs in a row after which a flow is given up where chunks are scarce, some six seconds: whoever has vanished
/// would hold what it was sent for three minutes.
pub const SCARCE_TIMEOUTS_MAX: u8 = 5;

/// Timers that one poll moves or fires at most: half a millisecond's work. The rest is due in the next.
pub const TIMER_STEPS_MAX: u32 = 1024;

/// Flows with nothing to say that are passed over for one frame at most. The rest is asked in the next poll.
pub const SILENT_FLOWS_MAX: u32 = 512;

/// Frames that one flow may send before the others have their turn.
pub const TURN_FRAMES: u8 = 16;

/// Bytes of a superframe, Ethernet header included: a packet's length has 16 bits, and so long a frame the kernel hands to a
/// NIC uncut.
pub const SUPERFRAME_BYTES_MAX: usize = 65_535;

/// Round-trip time assumed after a takeover where the owner had not recorded any: a lost kick is repeated
/// after a quarter of a second, not after RFC 6298's initial second.
pub const RESUME_SRTT_US: u32 = 50_000;

/// Groups of a stack at most: a word has a bit for each.
pub const GROUPS_MAX: usize = 64;

/// Flows that one poll brings up after a change of role, beside those that are touched: a tenth of a millisecond's work.
pub const SWEEP_FLOWS_MAX: u32 = 256;

/// Slots that one poll looks at for them.
pub const SWEEP_SLOTS_MAX: u32 = 4096;

/// Words about clients and their servers that may wait to be told to the node's other cores.
pub const STICKS_TOLD_MAX: usize = 256;

/// Clients in a queue that are looked at in one poll.
pub const QUEUE_STEPS_MAX: u32 = 64;

/// Flows that were heard within this time are kicked after a takeover (DESIGN 9).
pub const KICK_RECENT: Duration = Duration::from_secs(2);

/// Segments of data that are kicked at most on a leg that passes ahead; elsewhere one is, which is most often there already. A receiver
/// may delay the acknowledgement of one, for 40 ms (Linux) or half a second (RFC 9293 MUST-40), and should not that of more (SHLD-19).
pub const KICK_SEGMENTS: u16 = 2;

/// Copies that are put into order at a takeover, busiest first: more do not notice who came first.
pub const KICKS_MAX: usize = 16 << 10;

/// Copies that are woken in one poll: a quarter of a burst. Serving has the rest.
pub const KICKS_PER_POLL: u32 = 16;

/// Notes of copies that are read in one poll to put them into order: half a MiB.
pub const KICK_SLOTS_MAX: usize = 64 << 10;

/// Kicks take at most one part in this many of the link's rate (DESIGN 9).
pub const KICK_LINK_PARTS: u64 = 4;

/// Probes of promoted flows that one poll sends at most.
pub const PROBES_PER_POLL: u32 = 16;

/// Between two questions about a server's next hop while nobody answers: a link's round trip many times over.
pub const NEIGHBOR_AGAIN: Duration = Duration::from_millis(250);

/// A question that found no room among the small answers is put again after this long.
pub const NEIGHBOR_REFUSED_AGAIN: Duration = Duration::from_millis(1);

/// Questions about the next hops of one service in one poll: for each, the servers are looked at twice.
pub const NEIGHBOR_QUERIES_PER_POLL: u32 = 8;

/// Steps of dealing a Maglev table in one poll: a twentieth of a millisecond, and some hundred polls for all of it.
pub const DEAL_STEPS_MAX: u32 = 8192;

/// Questions without an answer after which a next hop counts as gone (RFC 4861 10: three).
pub const NEIGHBOR_ASKS_MAX: u8 = 4;

/// Between two questions about a next hop that is gone.
pub const NEIGHBOR_LOST_AGAIN: Duration = Duration::from_secs(1);

/// For how long an answer is believed (RFC 4861 10, REACHABLE_TIME).
pub const NEIGHBOR_FRESH: Duration = Duration::from_secs(30);

/// When a connection to a server that could not be begun is tried again: a next hop has not answered, the log is
/// full.
pub const CONNECT_AGAIN: Duration = Duration::from_millis(2);

/// When a SYN that met a connection of before is said again: the reset that ends that goes first.
pub const SYN_AGAIN: Duration = Duration::from_millis(2);

/// Local ports that are looked at for one connection to a server. One of 64 is of the client's shard: so there are
/// 64 chances to find one that is free.
pub const SOURCE_PORTS_TRIED: u32 = 64 * 64;

/// Local ports of connections to servers begin here.
pub const SOURCE_PORT_FIRST: u16 = 1024;

/// Slots that a core looks at in one go for whoever lists connections: a fraction of what a sweep may take, for nobody
/// waits for it.
pub const LIST_SLOTS_MAX: u32 = 1024;
