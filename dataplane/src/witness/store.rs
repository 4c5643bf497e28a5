//! The witness's file: two slots, written in turn, so that one is always whole.
//!
//! A change is one write into the older slot and one flush of data: no new file, no directory, no
//! journal of the file system in the way of a takeover. Whoever reads takes the newest slot whose sum
//! is right; a loss of power in the middle of a write leaves the other one. Only the first write makes a
//! file, beside the path and renamed onto it once it is whole.
//!
//! ```text
//! slot: magic(4) sequence(8) length(4) sum(8) snapshot; at 0 and at SLOT_BYTES, little-endian
//! ```
//!
//! Bounds: a snapshot fits a slot ([`SLOT_BYTES`]), as the witness's own bounds assure.

use stack::sha256::Sha256;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of a slot: twice what 256 groups and 64 nodes with all their former lives need.
const SLOT_BYTES: usize = 64 << 10;

const MAGIC: [u8; 4] = *b"USTF";
const HEADER_BYTES: usize = 24;

/// The file of a witness.
pub struct Store {
    path: PathBuf,
    /// Open once it has the shape described above.
    file: Option<File>,
    /// Of the newest whole slot.
    sequence: u64,
}

impl Store {
    /// Opens the store at `path` and returns its snapshot; `None` if there is no file.
    ///
    /// A file of another shape is returned as it is: the witness judges it, and it stays untouched
    /// until something is written.
    pub fn open(path: &Path) -> io::Result<(Store, Option<Vec<u8>>)> {
        let mut store = Store { path: path.into(), file: None, sequence: 0 };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((store, None)),
            Err(error) => return Err(error),
        };
        let slots = bytes.chunks_exact(SLOT_BYTES).take(2).enumerate();
        let whole = slots.filter_map(|(index, slot)| read_slot(index as u64, slot));
        let Some((sequence, snapshot)) = whole.max_by_key(|(sequence, _)| *sequence) else {
            return Ok((store, Some(bytes)));
        };
        let snapshot = snapshot.to_vec();
        store.file = Some(File::options().write(true).open(path)?);
        store.sequence = sequence;
        Ok((store, Some(snapshot)))
    }

    /// Makes `snapshot` durable. After an error the one before still is.
    pub fn write(&mut self, snapshot: &[u8]) -> io::Result<()> {
        self.write_slot(snapshot).map_err(|error| super::named(&self.path, error))
    }

    fn write_slot(&mut self, snapshot: &[u8]) -> io::Result<()> {
        assert!(snapshot.len() <= SLOT_BYTES - HEADER_BYTES, "the witness's bounds fit a slot");
        let sequence = self.sequence + 1;
        let slot = slot(sequence, snapshot);
        match &self.file {
            // A file that somebody has removed takes nothing any more.
            Some(file) if file.metadata()?.nlink() > 0 => {
                file.write_all_at(&slot, offset(sequence))?;
                file.sync_data()?;
            }
            _ => self.file = Some(create(&self.path, offset(sequence), &slot)?),
        }
        self.sequence = sequence;
        Ok(())
    }
}

/// Where the slot with this number lies.
fn offset(sequence: u64) -> u64 {
    sequence % 2 * SLOT_BYTES as u64
}

fn slot(sequence: u64, snapshot: &[u8]) -> Vec<u8> {
    let mut slot = MAGIC.to_vec();
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&(snapshot.len() as u32).to_le_bytes());
    slot.extend_from_slice(&sum(sequence, snapshot));
    slot.extend_from_slice(snapshot);
    slot
}

fn read_slot(index: u64, slot: &[u8]) -> Option<(u64, &[u8])> {
    let rest = slot.strip_prefix(&MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (found, rest) = rest.split_first_chunk::<8>()?;
    let sequence = u64::from_le_bytes(*sequence);
    let snapshot = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let is_whole = *found == sum(sequence, snapshot) && sequence % 2 == index;
    is_whole.then_some((sequence, snapshot))
}

/// Finds a write that was not finished, not malice.
fn sum(sequence: u64, snapshot: &[u8]) -> [u8; 8] {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend_from_slice(snapshot);
    let digest = Sha256::digest(&bytes);
    std::array::from_fn(|i| digest[i])
}

/// Makes the file with this slot in it: under another name until it is whole and flushed.
fn create(path: &Path, offset: u64, slot: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    // Written, not left as a hole: later writes then change no metadata.
    file.write_all(&vec![0; 2 * SLOT_BYTES])?;
    file.write_all_at(slot, offset)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of its own for each test; removed at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let name = format!("understudy-store-{name}-{}", std::process::id());
            Place(std::env::temp_dir().join(name))
        }

        fn read(&self) -> Option<Vec<u8>> {
            Store::open(&self.0).expect("readable").1
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_newest_snapshot_is_read_also_by_the_next_process() {
        let place = Place::new("newest");
        assert_eq!(place.read(), None);
        for round in 0..3 {
            let mut store = Store::open(&place.0).unwrap().0;
            for text in ["first", "second, and longer", "third"] {
                let text = format!("{text} {round}").into_bytes();
                store.write(&text).unwrap();
                assert_eq!(place.read(), Some(text));
            }
        }
    }

    #[test]
    fn a_write_that_was_torn_anywhere_leaves_the_one_before() {
        let place = Place::new("torn");
        let mut store = Store::open(&place.0).unwrap().0;
        store.write(b"older").unwrap();
        store.write(b"old").unwrap();
        let before = fs::read(&place.0).unwrap();
        store.write(b"newest").unwrap();
        let after = fs::read(&place.0).unwrap();
        let from = offset(store.sequence) as usize;
        for cut in 0..slot(3, b"newest").len() {
            let mut torn = before.clone();
            torn[from..from + cut].copy_from_slice(&after[from..from + cut]);
            fs::write(&place.0, &torn).unwrap();
            assert_eq!(place.read().as_deref(), Some(&b"old"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn what_has_another_shape_is_shown_and_replaced_only_when_something_is_written() {
        let place = Place::new("other");
        fs::write(&place.0, b"something else").unwrap();
        let (mut store, found) = Store::open(&place.0).unwrap();
        assert_eq!(found.as_deref(), Some(&b"something else"[..]));
        assert_eq!(fs::read(&place.0).unwrap(), b"something else");
        store.write(b"snapshot").unwrap();
        assert_eq!(place.read().as_deref(), Some(&b"snapshot"[..]));
    }

    #[test]
    fn a_store_that_was_removed_is_made_again() {
        let place = Place::new("removed");
        let mut store = Store::open(&place.0).unwrap().0;
        store.write(b"one").unwrap();
        fs::remove_file(&place.0).unwrap();
        store.write(b"two").unwrap();
        assert_eq!(place.read().as_deref(), Some(&b"two"[..]));
    }
}
