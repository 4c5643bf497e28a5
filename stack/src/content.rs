//! What the `http` application serves: objects read, hashed and pinned in memory at start.
//!
//! Owner and peer must answer from the same bytes, and a retransmission must find what the first
//! transmission found; so a flow never looks at a file. Whoever loads files hands them in here, and
//! the digest over everything tells two nodes whether they hold the same content. An object's id is its
//! rank by path, the same on every node with the same digest.
//!
//! Bounds: `CONTENT_*_MAX` in `limits.rs`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::limits::{CONTENT_OBJECTS_MAX, CONTENT_PATH_BYTES_MAX, CONTENT_TYPE_BYTES_MAX};
use crate::sha256::Sha256;

/// The rank of an object by path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ObjectId(pub u32);

/// One pinned object, as it is handed in.
pub struct Source {
    /// Absolute path, percent-decoded: `/index.html`.
    pub path: String,
    /// Media type, as the header shows it.
    pub content_type: String,
    /// The representation.
    pub bytes: Vec<u8>,
}

/// One pinned object.
pub struct Object {
    /// Absolute path, percent-decoded.
    pub path: String,
    /// Media type, as the header shows it.
    pub content_type: String,
    /// The representation.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub sha256: [u8; 32],
    /// Strong validator, quotes included: the first half of the hash in hexadecimal.
    pub etag: String,
}

/// Why content was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContentError {
    /// More than `CONTENT_OBJECTS_MAX` objects.
    TooMany,
    /// The path is relative, too long or holds a control character.
    BadPath(String),
    /// The content type of this path is too long or not printable ASCII.
    BadType(String),
    /// Two objects have this path.
    Twice(String),
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::TooMany => {
                write!(f, "more than {CONTENT_OBJECTS_MAX} objects; serve fewer files")
            }
            ContentError::BadPath(path) => write!(
                f,
                "path {path:?} must begin with '/', have at most {CONTENT_PATH_BYTES_MAX} bytes \
                 and no control characters"
            ),
            ContentError::BadType(path) => write!(
                f,
                "content type of {path:?} must be printable ASCII of at most \
                 {CONTENT_TYPE_BYTES_MAX} bytes"
            ),
            ContentError::Twice(path) => write!(f, "two objects have the path {path:?}"),
        }
    }
}

impl core::error::Error for ContentError {}

/// All pinned objects, by path; a clone shares them.
#[derive(Clone, Default)]
pub struct Content {
    objects: Arc<[Object]>,
    /// Nothing is generated: only pinned objects are served.
    pinned_only: bool,
}

impl Content {
    /// The same objects, and nothing else: `/generate/...` is not found.
    pub fn without_generated(mut self) -> Content {
        self.pinned_only = true;
        self
    }

    /// Whether `/generate/...` is served.
    pub fn serves_generated(&self) -> bool {
        !self.pinned_only
    }

    /// Checks, sorts and hashes `sources`.
    pub fn new(mut sources: Vec<Source>) -> Result<Content, ContentError> {
        if sources.len() > CONTENT_OBJECTS_MAX {
            return Err(ContentError::TooMany);
        }
        sources.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        if let Some(pair) = sources.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ContentError::Twice(pair[0].path.clone()));
        }
        let objects = sources.into_iter().map(pin).collect::<Result<_, _>>()?;
        Ok(Content { objects, pinned_only: false })
    }

    /// The object at `path`; a path that ends in `/` names the `index.html` below it.
    pub fn find(&self, path: &[u8]) -> Option<ObjectId> {
        let index: &[u8] = if path.ends_with(b"/") { b"index.html" } else { b"" };
        let wanted = || path.iter().chain(index);
        let found =
            self.objects.binary_search_by(|object| object.path.bytes().cmp(wanted().copied()));
        found.ok().map(|rank| ObjectId(rank as u32))
    }

    /// The object with this id, if there is one.
    pub fn get(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(id.0 as usize)
    }

    /// All objects, by path.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Bytes pinned in all.
    pub fn bytes_total(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes.len() as u64).sum()
    }

    /// Equal on two nodes if and only if they serve the same bytes and types under the same paths.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for object in &*self.objects {
            let Object { path, content_type, bytes, sha256, etag: _ } = object;
            for text in [path, content_type] {
                hash.update(&(text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(sha256);
        }
        hash.update(&[self.pinned_only as u8]);
        hash.finish()
    }
}

fn pin(source: Source) -> Result<Object, ContentError> {
    let Source { path, content_type, bytes } = source;
    if !path.starts_with('/')
        || path.len() > CONTENT_PATH_BYTES_MAX
        || path.chars().any(char::is_control)
    {
        return Err(ContentError::BadPath(path));
    }
    let printable = content_type.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !printable || content_type.is_empty() || content_type.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(ContentError::BadType(path));
    }
    let sha256 = Sha256::digest(&bytes);
    let mut etag = String::from("\"");
    for byte in &sha256[..16] {
        etag.push(char::from(HEX[usize::from(byte >> 4)]));
        etag.push(char::from(HEX[usize::from(byte & 15)]));
    }
    etag.push('"');
    Ok(Object { path, content_type, bytes, sha256, etag })
}

/// Hexadecimal digits.
pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, content_type: &str, bytes: &[u8]) -> Source {
        let (path, content_type) = (path.into(), content_type.into());
        Source { path, content_type, bytes: bytes.into() }
    }

    #[test]
    fn objects_are_found_by_path_whatever_the_order_they_came_in() {
        let a = || source("/a", "text/plain", b"1");
        let index = || source("/d/index.html", "text/html", b"2");
        let one = Content::new(alloc::vec![a(), index()]).unwrap();
        let two = Content::new(alloc::vec![index(), a()]).unwrap();
        assert_eq!(one.digest(), two.digest());
        assert_eq!(one.find(b"/a"), Some(ObjectId(0)));
        assert_eq!(one.find(b"/d/"), Some(ObjectId(1)));
        assert_eq!((one.find(b"/"), one.find(b"/d"), one.find(b"")), (None, None, None));
        assert_eq!(one.bytes_total(), 2);
        let etag = &one.get(ObjectId(0)).unwrap().etag;
        assert_eq!(etag, "\"6b86b273ff34fce19d6b804eff5a3f57\"");
        assert!(one.get(ObjectId(2)).is_none());
        let other = Content::new(alloc::vec![index(), source("/a", "text/html", b"1")]).unwrap();
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn content_that_cannot_be_served_is_refused() {
        let refused = |path, content_type| {
            Content::new(alloc::vec![source(path, content_type, b"")]).err().unwrap()
        };
        assert_eq!(refused("a", "text/plain"), ContentError::BadPath("a".into()));
        assert_eq!(refused("/\n", "text/plain"), ContentError::BadPath("/\n".into()));
        assert_eq!(refused("/a", "x\r\ny: z"), ContentError::BadType("/a".into()));
        let twice = alloc::vec![source("/a", "x/y", b""), source("/a", "x/y", b"")];
        assert_eq!(Content::new(twice).err(), Some(ContentError::Twice("/a".into())));
    }
}
