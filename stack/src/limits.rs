//! Every bound of the stack that is not a run-time setting, with unit and reason.

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
