//! Every bound of the cluster's data path that is not a run-time setting, with unit and reason.

use stack::time::Duration;

/// Datagrams that one log may have unacknowledged: at 1 400 bytes and a round trip of 0.2 ms this is
/// 28 Gbit/s; a power of two for the ring.
pub const LOG_DATAGRAMS_MAX: usize = 512;

/// Datagrams of that which only ticks and decisions may use.
pub const LOG_RESERVED: usize = 16;

/// Records that one log may have unacknowledged.
pub const LOG_RECORDS_MAX: usize = 16 * 1024;

/// Records of that which only ticks and decisions may use.
pub const LOG_RECORDS_RESERVED: usize = 64;

/// Records that nobody waits for leave after this long, together: a client's acknowledgements of a download would
/// otherwise cost a datagram and its answer each round. A peer that takes over sends again what was acknowledged in that time.
pub const LINGER: Duration = Duration::from_micros(250);

/// While a datagram is under way, records that somebody waits for leave so long after it, or with its acknowledgement, together: a
/// busy log would otherwise cost two system calls and an answer for each. Whoever is alone is not kept waiting.
pub const GATHER: Duration = Duration::from_micros(100);

/// Time without an acknowledgement after which the oldest datagram is sent again; doubled up to
/// [`RESEND_MAX`].
pub const RESEND_FIRST: Duration = Duration::from_millis(1);

/// Longest such time.
pub const RESEND_MAX: Duration = Duration::from_millis(16);

/// A peer that has acknowledged nothing for so long of what waits for it is none: what it cannot read or carry out must not
/// keep the gate shut. Its heartbeats would have stayed away if it was only slow.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);

/// For so long it is nobody's candidate as peer.
pub const SHUNNED_FOR: Duration = Duration::from_secs(30);

/// A node whose life the witness does not know is tried again as peer after this long, and another one meanwhile: it has
/// said hello within milliseconds, if the witness hears it at all.
pub const UNREGISTERED_FOR: Duration = Duration::from_millis(100);

/// Datagrams that are sent again in one go.
pub const RESEND_BURST_MAX: u64 = 64;

/// Datagrams that a peer keeps beyond a gap.
pub const STASH_DATAGRAMS_MAX: usize = 128;

/// Lost flows that one acknowledgement names.
pub const LOST_MAX: usize = 16;

/// Flows captured for a joining peer in one poll, so that serving never stalls.
pub const FILL_FLOWS_PER_POLL: usize = 16;

/// Between two polls that capture so many: 160 000 a second of a core and group. The peer takes them in about as fast as an
/// owner can capture them, and all of a processor that others may need.
pub const FILL_PACE: Duration = Duration::from_micros(100);

/// A copy that the peer has given up is captured anew after this long: what it lacked may lack still.
pub const CAPTURE_AGAIN: Duration = Duration::from_millis(100);

/// Bytes of a captured flow in one record.
pub const PART_BYTES: usize = 1200;

/// Bytes of a captured flow at most: two receive buffers of the largest size and what is around them.
pub const SNAPSHOT_BYTES_MAX: usize = 4 << 20;

/// Time between two contract digests.
pub const DIGEST_INTERVAL: Duration = Duration::from_millis(1);

/// How often groups that have nothing to do are looked after: several rounds of a busy core.
pub const TEND_EVERY: Duration = Duration::from_micros(100);

const _: () = assert!(TEND_EVERY.0 <= DIGEST_INTERVAL.0);

/// No digest is sent while more records than this wait for the peer: it would only take room from them.
pub const DIGEST_LAG_MAX: u64 = 64;

/// Flows with more than this many bytes of stored output are not digested: it would cost too much.
pub const DIGEST_BYTES_MAX: u64 = 16 << 10;

/// Slots looked at for a joining peer in one poll.
pub const FILL_SLOTS_PER_POLL: u32 = 4096;

/// Parts of one captured flow at most: what an empty log takes beside its reserve.
pub const PARTS_MAX: usize = LOG_DATAGRAMS_MAX - 2 * LOG_RESERVED;

/// Bytes of one captured flow as it crosses the link.
pub const CAPTURE_BYTES_MAX: usize = PARTS_MAX * PART_BYTES;

/// Frames of clients that a core keeps because it does not serve them: what a few hundred of them can have on the wire
/// while a group changes hands.
pub const SHELF_FRAMES_MAX: usize = 256;

/// No frame is kept longer: no client's TCP waits longer before it says it again (RFC 6298 says a second, Linux 200 ms).
pub const SHELF_TIME_MAX: Duration = Duration::from_millis(200);

/// Overheard frames that a core keeps: what clients can have said while the log is on its way, or their owner is
/// silent and they wait for an answer. Three quarters are for segments: those of two full windows of a proxy at an MTU of 1500.
pub const HEARD_FRAMES_MAX: usize = 2048;

/// Requests for connections among them.
pub const HEARD_SYNS_MAX: usize = HEARD_FRAMES_MAX / 4;

/// Of those looked at for being of no use any more, each time that groups are looked after.
pub const FORGOTTEN_PER_POLL: usize = 8;

/// No overheard frame is used later: no client's TCP waits longer before it says it again (RFC 6298).
pub const HEARD_TIME_MAX: Duration = Duration::from_secs(1);

/// Frames of other nodes that a core puts together at the same time; one more takes the place of the oldest.
pub const ASSEMBLIES_MAX: usize = 8;

/// Poll cores of a node at most: so that every core has at least four shards and none has more than a fifth above its
/// even share, and the cores that have reported fit into a word.
pub const CORES_MAX: u8 = 16;

/// A session's keys are renewed after this long: what was said longer ago stays unread even by whoever takes a node
/// over with all that it has in memory.
pub const SESSION_RENEW: Duration = Duration::from_secs(120);

/// A session that was replaced is kept for what is still on its way, this long after.
pub const SESSION_KEPT: Duration = Duration::from_secs(5);

/// Datagrams of one direction of a session (of one pair of cores, on the mirror link): two minutes at 800 million a
/// second, and far from where AES-GCM wears out. Nothing is sealed beyond; half of them renew the session.
pub const SESSION_DATAGRAMS_MAX: u64 = 1 << 40;

/// A node that holds a new session may take it that the other one holds it as well after this long.
pub const SESSION_SETTLED: Duration = Duration::from_millis(100);

/// Nothing heard in a session for this long after something was said: the other side may have lost it.
pub const SESSION_SILENT: Duration = Duration::from_secs(1);

/// Pause between two beginnings of a handshake at first; doubled up to [`HANDSHAKE_PAUSE_MAX`].
pub const HANDSHAKE_PAUSE: Duration = Duration::from_millis(5);

/// Longest such pause: a node that returns waits no longer for a session.
pub const HANDSHAKE_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Beginnings whose answers may still come: at the longest pause, a round trip of 0.2 s.
pub const HANDSHAKES_PENDING_MAX: usize = 4;

/// Answers to messages of unknown sessions, in a second: each is no longer than what it answers, but costs a call.
pub const HINTS_PER_SECOND: u64 = 200;

const _: () =
    assert!(stack::shard::SHARDS >= 4 * CORES_MAX as usize && CORES_MAX as u32 <= u32::BITS);
