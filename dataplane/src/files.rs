//! Static files, read whole at start: what `http` serves is pinned in memory.

use stack::content::{Content, Source};
use std::fs;
use std::io;
use std::path::Path;

/// Reads every regular file below `root`, at most `bytes_max` bytes in all.
///
/// Links are followed to files, not to directories. Errors name the file.
pub fn load(root: &Path, bytes_max: u64) -> io::Result<Content> {
    let mut sources = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    let mut total = 0;
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(|error| named(&directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| named(&directory, error))?.path();
            let kind = fs::symlink_metadata(&path).map_err(|error| named(&path, error))?;
            if kind.is_dir() {
                directories.push(path);
                continue;
            }
            let meta = fs::metadata(&path).map_err(|error| named(&path, error))?;
            if !meta.is_file() {
                continue;
            }
            total += meta.len();
            if total > bytes_max {
                let message = format!("more than {bytes_max} bytes (`limits.content_bytes`)");
                return Err(named(&path, io::Error::new(io::ErrorKind::FileTooLarge, message)));
            }
            let bytes = fs::read(&path).map_err(|error| named(&path, error))?;
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = format!("/{}", below.to_string_lossy());
            let content_type = content_type(&path).to_string();
            sources.push(Source { path: name, bytes, content_type });
        }
    }
    Content::new(sources)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}")))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The media type by the ending of the name.
fn content_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}
