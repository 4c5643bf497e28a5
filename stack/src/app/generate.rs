//! `generate`: sends a generated stream as soon as the connection is open, then closes.
//!
//! The server speaks first and the client can check every byte: what is needed to see that a takeover
//! loses nothing. Input is read and ignored.

use alloc::vec::Vec;

use super::Context;
use crate::codec::{ImportError, Put, Reader};
use crate::limits::GENERATED_BYTES_MAX;
use crate::output::OutOfMemory;

/// What to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenerateConfig {
    /// Names the stream ([`crate::generate`]).
    pub seed: u64,
    /// Bytes to send, at most `GENERATED_BYTES_MAX`; more counts as that.
    pub len: u64,
    /// Whether the connection stays open behind the stream until the client closes.
    pub stay_open: bool,
}

/// The application: a constant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generate {
    config: GenerateConfig,
}

impl Generate {
    pub(super) fn new(config: GenerateConfig) -> Generate {
        let len = config.len.min(GENERATED_BYTES_MAX);
        Generate { config: GenerateConfig { len, ..config } }
    }

    pub(super) fn open(&mut self, context: &mut Context) -> Result<(), OutOfMemory> {
        let GenerateConfig { seed, len, stay_open } = self.config;
        context.output.push_generated(context.memory, seed, 0, len)?;
        if !stay_open {
            context.output.close();
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, context: &mut Context) {
        context.output.close();
    }

    pub(super) fn export(&self, out: &mut Vec<u8>) {
        let Generate { config: GenerateConfig { seed, len, stay_open } } = self;
        out.put_u64(*seed);
        out.put_u64(*len);
        out.put_bool(*stay_open);
    }

    pub(super) fn import(reader: &mut Reader) -> Result<Generate, ImportError> {
        let (seed, len, stay_open) = (reader.u64()?, reader.u64()?, reader.bool()?);
        if len > GENERATED_BYTES_MAX {
            return Err(ImportError::Invalid);
        }
        Ok(Generate::new(GenerateConfig { seed, len, stay_open }))
    }
}
