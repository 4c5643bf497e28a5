//! `http`: serves pinned and generated objects, hashes uploads.

use alloc::vec::Vec;

use super::{Context, Verdict};
use crate::codec::{ImportError, Put, Reader};
use crate::output::{Memory, OutOfMemory, Output};

/// What an HTTP service allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpConfig {
    /// Bytes of an uploaded body at most; a longer one is answered with 413.
    pub upload_bytes_max: u64,
}

/// The application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    config: HttpConfig,
}

impl Http {
    pub(super) fn new(config: HttpConfig) -> Http {
        Http { config }
    }

    pub(super) fn receive(
        &mut self,
        _context: &mut Context,
        input: &[u8],
    ) -> Result<usize, OutOfMemory> {
        Ok(input.len())
    }

    pub(super) fn blocked(&self, _output: &Output) -> bool {
        false
    }

    pub(super) fn finish(&mut self, context: &mut Context) -> Result<(), OutOfMemory> {
        context.output.close();
        Ok(())
    }

    pub(super) fn idle(&mut self, _context: &mut Context) -> Result<Verdict, OutOfMemory> {
        Ok(Verdict::Abort)
    }

    pub(super) fn release(&mut self, _memory: &mut Memory) {}

    pub(super) fn export(&self, _memory: &Memory, out: &mut Vec<u8>) {
        let Http { config: HttpConfig { upload_bytes_max } } = self;
        out.put_u64(*upload_bytes_max);
    }

    pub(super) fn import(_memory: &mut Memory, reader: &mut Reader) -> Result<Http, ImportError> {
        let upload_bytes_max = reader.u64()?;
        Ok(Http { config: HttpConfig { upload_bytes_max } })
    }
}
