//! `http`: serves pinned and generated objects, and hashes what is uploaded.
//!
//! GET and HEAD answer from [`Content`](crate::content::Content) or from a generated stream, with ranges and validators;
//! POST and PUT to any path take a body and answer `length=<n> sha256=<hex>`. Requests may be
//! pipelined and come in any cuts; heads are parsed when they are whole, bodies are taken as they
//! come. After any error in framing the answer is the last one: the output is closed and all further
//! input is read and dropped, so that the answer is not destroyed by a reset (RFC 9112 9.6).
//!
//! ```text
//!           ┌───────────── answered ──────────────┐
//!           ▼                                     │
//!         Head ── POST, PUT with a body ──▶ Upload┤
//!           │  ── GET, HEAD with a body ──▶ Drain─┘      (already answered)
//!           └── error, Connection: close, end ──▶ Closed
//! ```
//!
//! Spec: RFC 9110, RFC 9112. Left out: trailers, upgrades, content codings, several ranges in one
//! answer, If-Match and dates as conditions, `Date` (see [`respond`]).
//! Bounds: `HTTP_*_MAX`; a client that pipelines more than `OUTPUT_PIECES_MAX` waits ([`Http::blocked`]).

mod body;
mod head;
mod range;
mod resource;
mod respond;

use alloc::vec::Vec;

use super::{Context, Verdict};
use crate::codec::{ImportError, Put, Reader};
use crate::limits::{
    HTTP_HEAD_BYTES_MAX, HTTP_OUTPUT_BYTES_MAX, HTTP_RESPONSE_PIECES_MAX, OUTPUT_PIECES_MAX,
    STREAM_BYTES_MAX,
};
use crate::output::{Memory, OutOfMemory, Output};
use crate::sha256::Sha256;

use body::{Body, Progress};
use head::{Framing, Method, Request, Reuse, Scan};
use range::Selection;
use respond::{Response, Status};

/// What an HTTP service allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpConfig {
    /// Bytes of a request's body at most; a longer one is answered with 413.
    pub upload_bytes_max: u64,
}

/// What the next byte of input belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A head, of which so many bytes have arrived and are not consumed.
    Head { seen: u16 },
    /// A body that is hashed and then answered; the hash is in `Memory::hashes`.
    Upload { body: Body, hash: u32, reuse: Reuse },
    /// A body of a request that is already answered.
    Drain { body: Body },
    /// Nothing: the last answer is given.
    Closed,
}

/// The application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    config: HttpConfig,
    phase: Phase,
}

impl Http {
    pub(super) fn new(config: HttpConfig) -> Http {
        let upload_bytes_max = config.upload_bytes_max.min(STREAM_BYTES_MAX);
        Http { config: HttpConfig { upload_bytes_max }, phase: Phase::Head { seen: 0 } }
    }

    pub(super) fn receive(
        &mut self,
        context: &mut Context,
        input: &[u8],
    ) -> Result<usize, OutOfMemory> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let taken = match self.phase {
                Phase::Head { seen } => self.take_head(context, rest, seen.into())?,
                Phase::Upload { body, hash, reuse } => {
                    self.take_upload(context, rest, body, hash, reuse)?
                }
                Phase::Drain { body } => self.take_drained(context, rest, body),
                Phase::Closed => return Ok(input.len()),
            };
            if taken == 0 {
                return Ok(consumed);
            }
            consumed += taken;
        }
    }

    /// Whether the next request waits until earlier answers have been acknowledged.
    pub(super) fn blocked(&self, output: &Output) -> bool {
        matches!(self.phase, Phase::Head { .. })
            && (output.pieces() + HTTP_RESPONSE_PIECES_MAX > OUTPUT_PIECES_MAX
                || output.stored() >= HTTP_OUTPUT_BYTES_MAX as u64)
    }

    /// Whether `input` may begin an upload. Behind a body that is not an upload's, anything may.
    pub(super) fn would_upload(&self, mut input: &[u8]) -> bool {
        match self.phase {
            Phase::Upload { .. } | Phase::Closed => return false,
            Phase::Drain { .. } => return true,
            Phase::Head { .. } => {}
        }
        loop {
            while let Some(rest) = input.strip_prefix(b"\r\n") {
                input = rest;
            }
            let Scan::Complete(len) = head::scan(input, 0) else { return false };
            match head::parse(&input[..len]) {
                Ok(request) if request.framing == Framing::Length(0) => input = &input[len..],
                // With a body. Whether it is taken is not asked here.
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The client's FIN: between requests it is a goodbye, within one it makes the request malformed.
    pub(super) fn finish(&mut self, context: &mut Context) -> Result<(), OutOfMemory> {
        match self.phase {
            Phase::Head { seen: 0 } | Phase::Drain { .. } | Phase::Closed => {
                self.close(context);
                Ok(())
            }
            Phase::Head { .. } | Phase::Upload { .. } => self.refuse(context, Status::BadRequest),
        }
    }

    /// Nothing came for too long (RFC 9110 15.5.9).
    pub(super) fn idle(&mut self, context: &mut Context) -> Result<Verdict, OutOfMemory> {
        if self.phase == Phase::Closed || self.blocked(context.output) {
            return Ok(Verdict::Abort);
        }
        match self.phase {
            Phase::Head { seen: 0 } | Phase::Drain { .. } | Phase::Closed => self.close(context),
            Phase::Head { .. } | Phase::Upload { .. } => {
                self.refuse(context, Status::RequestTimeout)?;
            }
        }
        Ok(Verdict::Continue)
    }

    pub(super) fn release(&mut self, memory: &mut Memory) {
        if let Phase::Upload { hash, .. } = self.phase {
            memory.hashes.give(hash);
        }
        self.phase = Phase::Closed;
    }

    /// Consumes one request head, or an empty line in front of one (RFC 9112 2.2).
    fn take_head(
        &mut self,
        context: &mut Context,
        input: &[u8],
        seen: usize,
    ) -> Result<usize, OutOfMemory> {
        if self.blocked(context.output) {
            return Ok(0);
        }
        if input.starts_with(b"\r\n") {
            self.phase = Phase::Head { seen: 0 };
            return Ok(2);
        }
        let refused = match head::scan(input, seen) {
            Scan::Incomplete => {
                self.phase = Phase::Head { seen: input.len() as u16 };
                return Ok(0);
            }
            Scan::Complete(len) => {
                self.phase = Phase::Head { seen: 0 };
                match head::parse(&input[..len]) {
                    Ok(request) => {
                        self.begin(context, &request)?;
                        return Ok(len);
                    }
                    Err(status) => status,
                }
            }
            Scan::Refused(status) => status,
        };
        self.refuse(context, refused)?;
        Ok(input.len())
    }

    /// Answers a request, or begins to take its body.
    fn begin(&mut self, context: &mut Context, request: &Request) -> Result<(), OutOfMemory> {
        let uploads = matches!(request.method, Method::Post | Method::Put);
        let body = match request.framing {
            Framing::Length(0) => None,
            Framing::Length(len) if len > self.config.upload_bytes_max => {
                return self.refuse(context, Status::ContentTooLarge);
            }
            Framing::Length(len) => Some(Body::with_length(len)),
            Framing::Chunked => Some(Body::chunked()),
        };
        let Some(body) = body else {
            if uploads {
                let receipt = respond::receipt(0, &Sha256::new().finish(), request.reuse);
                return self.answer(context, &receipt, request.reuse);
            }
            return self.serve(context, request, request.reuse);
        };
        if uploads {
            if request.expects_continue {
                context.output.push_bytes(context.memory, respond::CONTINUE)?;
            }
            let hash = context.memory.hashes.take(Sha256::new()).ok_or(OutOfMemory)?;
            self.phase = Phase::Upload { body, hash, reuse: request.reuse };
            return Ok(());
        }
        // RFC 9110 10.1.1: after a final status the client may or may not send the body it announced,
        // so nobody could say where the next request begins.
        let reuse = if request.expects_continue { Reuse::Close } else { request.reuse };
        self.serve(context, request, reuse)?;
        if self.phase != Phase::Closed {
            self.phase = Phase::Drain { body };
        }
        Ok(())
    }

    /// Answers GET or HEAD.
    fn serve(
        &mut self,
        context: &mut Context,
        request: &Request,
        reuse: Reuse,
    ) -> Result<(), OutOfMemory> {
        let head_only = request.method == Method::Head;
        let resource = match resource::find(context.content, request.path, request.query) {
            Ok(resource) => resource,
            Err(status) => {
                return self.answer(context, &respond::plain(status, reuse, head_only), reuse);
            }
        };
        if request.if_none_match.is_some_and(|list| resource.matches_any(list)) {
            return self.answer(context, &respond::not_modified(&resource, reuse), reuse);
        }
        let current = request.if_range.is_none_or(|tag| resource.matches(tag));
        let selection = match request.range {
            Some(range) if current && !head_only => range::select(range, resource.len),
            _ => Selection::Whole,
        };
        let (response, start, len) = match selection {
            Selection::Whole => (respond::whole(&resource, reuse), 0, resource.len),
            Selection::Part { first, last } => {
                (respond::part(&resource, first, last, reuse), first, last - first + 1)
            }
            Selection::Unsatisfiable => (respond::unsatisfiable(&resource, reuse), 0, 0),
        };
        context.output.push_bytes(context.memory, response.as_bytes())?;
        if !head_only {
            resource.push(context.memory, context.output, start, len)?;
        }
        self.conclude(context, reuse);
        Ok(())
    }

    fn take_upload(
        &mut self,
        context: &mut Context,
        input: &[u8],
        mut body: Body,
        hash: u32,
        reuse: Reuse,
    ) -> Result<usize, OutOfMemory> {
        let sha256 = &mut context.memory.hashes[hash];
        let limit = self.config.upload_bytes_max;
        let (taken, progress) = body.take(input, limit, |bytes| sha256.update(bytes));
        match progress {
            Progress::More => self.phase = Phase::Upload { body, hash, reuse },
            Progress::Done => {
                let sha256 = sha256.finish();
                self.answer(context, &respond::receipt(body.received(), &sha256, reuse), reuse)?;
            }
            Progress::Malformed => self.refuse(context, Status::BadRequest)?,
            Progress::TooLarge => self.refuse(context, Status::ContentTooLarge)?,
        }
        Ok(taken)
    }

    fn take_drained(&mut self, context: &mut Context, input: &[u8], mut body: Body) -> usize {
        let (taken, progress) = body.take(input, self.config.upload_bytes_max, |_| ());
        match progress {
            Progress::More => self.phase = Phase::Drain { body },
            Progress::Done => self.phase = Phase::Head { seen: 0 },
            Progress::Malformed | Progress::TooLarge => self.close(context),
        }
        taken
    }

    /// Answers with `status` and closes.
    fn refuse(&mut self, context: &mut Context, status: Status) -> Result<(), OutOfMemory> {
        self.answer(context, &respond::plain(status, Reuse::Close, false), Reuse::Close)
    }

    /// Gives a whole answer.
    fn answer(
        &mut self,
        context: &mut Context,
        response: &Response,
        reuse: Reuse,
    ) -> Result<(), OutOfMemory> {
        context.output.push_bytes(context.memory, response.as_bytes())?;
        self.conclude(context, reuse);
        Ok(())
    }

    /// An answer is given: on to the next request, or to the end.
    fn conclude(&mut self, context: &mut Context, reuse: Reuse) {
        self.release(context.memory);
        if reuse == Reuse::Close {
            context.output.close();
        } else {
            self.phase = Phase::Head { seen: 0 };
        }
    }

    /// Ends without an answer.
    fn close(&mut self, context: &mut Context) {
        self.conclude(context, Reuse::Close);
    }
}

/// Replication.
impl Http {
    pub(super) fn export(&self, memory: &Memory, out: &mut Vec<u8>) {
        let Http { config: HttpConfig { upload_bytes_max }, phase } = self;
        out.put_u64(*upload_bytes_max);
        match phase {
            Phase::Head { seen } => {
                out.put_u8(0);
                out.put_u16(*seen);
            }
            Phase::Upload { body, hash, reuse } => {
                out.put_u8(1);
                body.export(out);
                memory.hashes[*hash].export(out);
                out.put_u8(*reuse as u8);
            }
            Phase::Drain { body } => {
                out.put_u8(2);
                body.export(out);
            }
            Phase::Closed => out.put_u8(3),
        }
    }

    pub(super) fn import(memory: &mut Memory, reader: &mut Reader) -> Result<Http, ImportError> {
        let upload_bytes_max = reader.u64()?;
        if upload_bytes_max > STREAM_BYTES_MAX {
            return Err(ImportError::Invalid);
        }
        let phase = match reader.u8()? {
            0 => {
                let seen = reader.u16()?;
                if usize::from(seen) > HTTP_HEAD_BYTES_MAX {
                    return Err(ImportError::Invalid);
                }
                Phase::Head { seen }
            }
            1 => {
                let body = Body::import(reader, upload_bytes_max)?;
                let sha256 = Sha256::import(reader)?;
                let reuse = match reader.u8()? {
                    0 => Reuse::Implied,
                    1 => Reuse::Told,
                    2 => Reuse::Close,
                    _ => return Err(ImportError::Invalid),
                };
                if sha256.len() != body.received() {
                    return Err(ImportError::Invalid);
                }
                let hash = memory.hashes.take(sha256).ok_or(ImportError::OutOfMemory)?;
                Phase::Upload { body, hash, reuse }
            }
            2 => Phase::Drain { body: Body::import(reader, upload_bytes_max)? },
            3 => Phase::Closed,
            _ => return Err(ImportError::Invalid),
        };
        Ok(Http { config: HttpConfig { upload_bytes_max }, phase })
    }
}
