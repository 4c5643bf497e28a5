//! The applications inside a flow: what becomes of the bytes that a client sends.
//!
//! An application is a plain value and a deterministic function: its output stream depends on input
//! bytes, decisions and recorded ticks, and on nothing else. Owner and peer run the same code on the
//! same facts and so hold the same output; acknowledgements and free memory may decide *when* bytes
//! are produced, never *which*. An enum, no trait object: a flow can be exported, imported and compared.
//!
//! ```text
//! open ─> receive* ─> finish        receive consumes a prefix; what it leaves is offered again, with
//!           │   ▲                   more behind it, or when `blocked` ends because `Output` was trimmed
//!           └───┘  tick
//! ```
//!
//! Before any of these calls the owner asks `Memory::has_room_for`; then none of them fails. On a node
//! that did not ask, `OutOfMemory` means that this copy of the flow is spoilt: release it.

pub mod discard;
pub mod echo;
pub mod generate;
pub mod http;
pub mod proxy;

use alloc::vec::Vec;

use crate::codec::{ImportError, Put, Reader};
use crate::content::Content;
use crate::output::{Memory, OutOfMemory, Output};
use crate::pool::NONE;

use generate::{Generate, GenerateConfig};
use http::{Http, HttpConfig};
use proxy::{Ack, Proxy};

/// What a service runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppConfig {
    /// Sends back what it gets.
    Echo,
    /// Reads and says nothing.
    Discard,
    /// Sends a generated stream as soon as the connection is open.
    Generate(GenerateConfig),
    /// Serves pinned and generated objects, hashes uploads.
    Http(HttpConfig),
    /// Passes everything on to a server and back.
    Proxy(Ack),
}

/// What an application may look at and change besides itself.
pub struct Context<'a> {
    /// What `http` serves: the same on every node that holds the flow, for as long as the flow lives.
    pub content: &'a Content,
    /// The pools of this core.
    pub memory: &'a mut Memory,
    /// Where bytes go: the output of this flow, or of the other leg of a proxied connection.
    pub output: &'a mut Output,
}

/// A recorded fact that no segment carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// Nothing came in for as long as the service allows.
    Idle,
}

/// What the flow does after a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Carries on with the output as it now is.
    Continue,
    /// Resets the connection.
    Abort,
}

/// The application of one flow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum App {
    /// See [`echo`].
    Echo,
    /// See [`discard`].
    #[default]
    Discard,
    /// See [`generate`].
    Generate(Generate),
    /// See [`http`].
    Http(Http),
    /// One leg: see [`proxy`].
    Proxy(Proxy),
}

const _: () = assert!(size_of::<App>() <= 64);

impl App {
    /// As it is before the connection is open. The flow keeps the configuration it was born with.
    pub fn new(config: &AppConfig) -> App {
        match config {
            AppConfig::Echo => App::Echo,
            AppConfig::Discard => App::Discard,
            AppConfig::Generate(config) => App::Generate(Generate::new(*config)),
            AppConfig::Http(config) => App::Http(Http::new(*config)),
            AppConfig::Proxy(ack) => App::Proxy(Proxy::client(*ack)),
        }
    }

    /// Where this node keeps the other leg of a proxied connection, if there is one.
    #[inline]
    pub fn other(&self) -> Option<u32> {
        self.leg().map(|leg| leg.other).filter(|&other| other != NONE)
    }

    /// The connection is established: whoever speaks first, speaks.
    pub fn open(&mut self, context: &mut Context) -> Result<(), OutOfMemory> {
        match self {
            App::Generate(generate) => generate.open(context),
            App::Echo | App::Discard | App::Http(_) | App::Proxy(_) => Ok(()),
        }
    }

    /// Takes input: all that has arrived and was not consumed before, in one slice. Answers how much of
    /// it is consumed. The rest is offered again when more has arrived or, if the application is
    /// [`blocked`](App::blocked), when the output was trimmed.
    pub fn receive(&mut self, context: &mut Context, input: &[u8]) -> Result<usize, OutOfMemory> {
        match self {
            App::Echo => echo::receive(context, input),
            App::Discard | App::Generate(_) => Ok(input.len()),
            App::Http(http) => http.receive(context, input),
            App::Proxy(leg) => leg.receive(context, input),
        }
    }

    /// Whether input is left because there is too much output or nowhere to put it, not because there is too little
    /// input.
    pub fn blocked(&self, output: &Output) -> bool {
        match self {
            App::Echo | App::Discard | App::Generate(_) => false,
            App::Http(http) => http.blocked(output),
            App::Proxy(leg) => leg.is_waiting(),
        }
    }

    /// The client's FIN: nothing follows the input offered so far. Not while `blocked`.
    pub fn finish(&mut self, context: &mut Context) -> Result<(), OutOfMemory> {
        match self {
            App::Echo => echo::finish(context),
            App::Discard => discard::finish(context),
            App::Generate(generate) => generate.finish(context),
            App::Http(http) => return http.finish(context),
            App::Proxy(_) => context.output.close(),
        }
        Ok(())
    }

    /// A tick, recorded by the owner. While the application is `blocked`, what it answers depends on
    /// how far the output is trimmed: the owner records its `snd_una` first.
    pub fn tick(&mut self, context: &mut Context, tick: Tick) -> Result<Verdict, OutOfMemory> {
        match (self, tick) {
            (App::Http(http), Tick::Idle) => http.idle(context),
            (_, Tick::Idle) => Ok(Verdict::Abort),
        }
    }

    /// How many bytes of input may be outstanding or unread, given the flow's receive buffer: what
    /// bounds the memory that a client can fill. `output` is where its bytes go.
    pub fn window_room(&self, output: &Output, receive_buffer: u32) -> u32 {
        match self {
            App::Echo => echo::window_room(output, receive_buffer),
            App::Proxy(leg) if leg.is_joined() => echo::window_room(output, receive_buffer),
            App::Discard | App::Generate(_) | App::Http(_) | App::Proxy(_) => receive_buffer,
        }
    }

    /// The leg, if this is one of a proxied connection.
    #[inline]
    pub fn leg(&self) -> Option<&Proxy> {
        if let App::Proxy(leg) = self { Some(leg) } else { None }
    }

    /// The same, to be changed.
    #[inline]
    pub fn leg_mut(&mut self) -> Option<&mut Proxy> {
        if let App::Proxy(leg) = self { Some(leg) } else { None }
    }

    /// Whether `input` may begin an upload, for which there must be a hash. Whoever holds one already does not
    /// ask for another.
    pub fn would_upload(&self, input: &[u8]) -> bool {
        match self {
            App::Echo | App::Discard | App::Generate(_) | App::Proxy(_) => false,
            App::Http(http) => http.would_upload(input),
        }
    }

    /// Gives back what the application holds in the pools. The output is the flow's to clear.
    pub fn release(&mut self, memory: &mut Memory) {
        if let App::Http(http) = self {
            http.release(memory);
        }
    }

    /// Writes the whole application behind `out`.
    pub fn export(&self, memory: &Memory, out: &mut Vec<u8>) {
        match self {
            App::Echo => out.put_u8(0),
            App::Discard => out.put_u8(1),
            App::Generate(generate) => {
                out.put_u8(2);
                generate.export(out);
            }
            App::Http(http) => {
                out.put_u8(3);
                http.export(memory, out);
            }
            App::Proxy(leg) => {
                out.put_u8(4);
                leg.export(out);
            }
        }
    }

    /// Reads what `export` wrote.
    pub fn import(memory: &mut Memory, reader: &mut Reader) -> Result<App, ImportError> {
        match reader.u8()? {
            0 => Ok(App::Echo),
            1 => Ok(App::Discard),
            2 => Ok(App::Generate(Generate::import(reader)?)),
            3 => Ok(App::Http(Http::import(memory, reader)?)),
            4 => Ok(App::Proxy(Proxy::import(reader)?)),
            _ => Err(ImportError::Invalid),
        }
    }
}

#[cfg(test)]
mod tests;
