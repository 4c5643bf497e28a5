//! Real `curl`: one download and one upload, long enough to outlast the kill, compared by SHA-256.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bed::{Bed, Place, SERVICE_ADDRESS};
use super::process::Process;
use super::servers::{NGINX, WWW};
use crate::load::pattern;
use crate::load::report::Outcome;

const DOWNLOAD_SEED: u64 = 0xD0;
const UPLOAD_SEED: u64 = 0x0B;

/// A transfer may take so much longer than planned.
const GRACE_SECONDS: u64 = 20;

/// The file to be uploaded; nginx gives the same one out.
const FILE: &str = "upload.bin";

/// With whom files are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// The service `web`: generated objects, and the answer to an upload is its checksum.
    Web,
    /// nginx: files.
    Nginx,
}

/// Both transfers while they run.
#[derive(Debug)]
pub struct Curls {
    with: With,
    size: u64,
    dir: PathBuf,
    download: Process,
    upload: Process,
}

/// What became of a transfer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CurlReport {
    /// Which, and with whom.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// In words.
    pub note: String,
}

/// Writes the file to be uploaded.
pub fn prepare(dir: &Path, size: u64) -> anyhow::Result<()> {
    let path = dir.join(FILE);
    let mut file =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut buf = vec![0u8; 1 << 20];
    let mut offset = 0;
    while offset < size {
        let take = (size - offset).min(buf.len() as u64) as usize;
        pattern::fill(UPLOAD_SEED, offset, &mut buf[..take]);
        file.write_all(&buf[..take])?;
        offset += take as u64;
    }
    Ok(())
}

impl Curls {
    /// Starts both, each to last about `seconds`.
    pub fn start(
        bed: &Bed,
        dir: &Path,
        size: u64,
        seconds: u64,
        with: With,
    ) -> anyhow::Result<Curls> {
        let rate = (size / seconds.max(1)).to_string();
        let limit = (seconds + GRACE_SECONDS).to_string();
        let common =
            ["--silent", "--show-error", "--fail", "--max-time", &limit, "--limit-rate", &rate];
        let start = |name: &str, args: &[&str]| {
            let mut command = bed.command(Place::Client, "curl");
            let errors = File::create(dir.join(format!("{name}.log")))?;
            command.args(common).args(args).current_dir(dir);
            command.stdout(Stdio::null()).stderr(errors);
            Process::start(name, command, Some(dir.join(format!("{name}.log"))))
        };
        let (from, to) = match with {
            With::Web => (
                format!("http://{SERVICE_ADDRESS}/generate/{size}?seed={DOWNLOAD_SEED}"),
                format!("http://{SERVICE_ADDRESS}/upload/curl"),
            ),
            With::Nginx => {
                fs::hard_link(dir.join(FILE), dir.join(WWW).join(FILE))?;
                let nginx = format!("http://{}", NGINX.address);
                (format!("{nginx}/{FILE}"), format!("{nginx}/stored.bin"))
            }
        };
        let download = start("curl-download", &["--output", "download.bin", &from])?;
        let upload = start("curl-upload", &["--upload-file", FILE, "--output", "answer.txt", &to])?;
        Ok(Curls { with, size, dir: dir.to_path_buf(), download, upload })
    }

    /// Per cent of the download on disk.
    pub fn percent(&self) -> u64 {
        let len = fs::metadata(self.dir.join("download.bin")).map_or(0, |file| file.len());
        len * 100 / self.size.max(1)
    }

    /// Whether both have ended.
    pub fn ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.download.ended()?.is_some() && self.upload.ended()?.is_some())
    }

    /// Compares what was transferred, and removes the big files.
    pub fn verify(mut self) -> anyhow::Result<Vec<CurlReport>> {
        let mut reports = Vec::new();
        let server = if self.with == With::Nginx { ", nginx" } else { "" };
        for (process, name) in [(&mut self.download, "download"), (&mut self.upload, "upload")] {
            let status = process.wait()?;
            let (outcome, note) = if !status.success() {
                (outcome_of(status.code()), process.log_tail())
            } else {
                let (found, expected) = match (name, self.with) {
                    ("download", With::Web) => downloaded(&self.dir, DOWNLOAD_SEED, self.size)?,
                    ("download", With::Nginx) => downloaded(&self.dir, UPLOAD_SEED, self.size)?,
                    (_, With::Web) => answered(&self.dir, self.size)?,
                    (_, With::Nginx) => stored(&self.dir, self.size)?,
                };
                match found == expected {
                    true => (Outcome::Survived, found),
                    false => (Outcome::WrongBytes, format!("{found}, expected {expected}")),
                }
            };
            reports.push(CurlReport { name: format!("curl {name}{server}"), outcome, note });
        }
        for file in ["download.bin", FILE] {
            // A transfer that failed early left none.
            let _ = fs::remove_file(self.dir.join(file));
        }
        // nginx has not always been there.
        let _ = fs::remove_dir_all(self.dir.join(WWW));
        Ok(reports)
    }
}

fn outcome_of(code: Option<i32>) -> Outcome {
    match code {
        Some(7) => Outcome::Refused,
        Some(28) => Outcome::Stalled,
        _ => Outcome::Reset,
    }
}

/// What came down, and what should have.
fn downloaded(dir: &Path, seed: u64, size: u64) -> anyhow::Result<(String, String)> {
    Ok((described(&dir.join("download.bin"))?, expected(seed, size)))
}

/// What the service says of what it was sent, and what it should say.
fn answered(dir: &Path, size: u64) -> anyhow::Result<(String, String)> {
    let answer = fs::read_to_string(dir.join("answer.txt"))?;
    Ok((answer.trim().to_string(), expected(UPLOAD_SEED, size)))
}

/// What nginx has written, and what it was sent.
fn stored(dir: &Path, size: u64) -> anyhow::Result<(String, String)> {
    Ok((described(&dir.join(WWW).join("stored.bin"))?, expected(UPLOAD_SEED, size)))
}

fn expected(seed: u64, size: u64) -> String {
    format!("length={size} sha256={}", pattern::sha256(seed, size))
}

fn described(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let len = std::io::copy(&mut file, &mut HashWriter(&mut hash))?;
    Ok(format!("length={len} sha256={}", pattern::hex(&hash.finalize())))
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
