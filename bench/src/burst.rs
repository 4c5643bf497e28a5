//! Frames of one burst in memory taken once, as a port would hold them.
//!
//! Bounds: [`BURST_FRAMES_MAX`] frames of [`FRAME_BYTES`] bytes.

/// Bytes of a frame's memory: a frame of AF_XDP.
pub const FRAME_BYTES: usize = 4096;

/// Frames of a burst at most: 64 segments whose payload takes two records each, and what timers add.
pub const BURST_FRAMES_MAX: usize = 512;

/// Some frames.
pub struct Burst {
    memory: Vec<u8>,
    lens: Vec<usize>,
}

impl Default for Burst {
    fn default() -> Burst {
        let memory = vec![0; BURST_FRAMES_MAX * FRAME_BYTES];
        Burst { memory, lens: Vec::with_capacity(BURST_FRAMES_MAX) }
    }
}

impl Burst {
    /// Forgets the frames.
    pub fn clear(&mut self) {
        self.lens.clear();
    }

    /// Frames held.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Where the next frame is to be written. Panics when the burst is full.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        let start = self.lens.len() * FRAME_BYTES;
        &mut self.memory[start..start + FRAME_BYTES]
    }

    /// Keeps the frame of `len` bytes that was written into [`Burst::room`].
    #[inline]
    pub fn push(&mut self, len: usize) {
        self.lens.push(len);
    }

    /// The frames in order, to be changed where they lie.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> + '_ {
        let frames = self.lens.iter().zip(self.memory.chunks_exact_mut(FRAME_BYTES));
        frames.map(|(&len, frame)| &mut frame[..len])
    }

    /// The frames in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.lens.iter().zip(self.memory.chunks_exact(FRAME_BYTES)).map(|(&len, f)| &f[..len])
    }
}
