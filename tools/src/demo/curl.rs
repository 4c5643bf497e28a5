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
use crate::load::pattern;
use crate::load::report::Outcome;

const DOWNLOAD_SEED: u64 = 0xD0;
const UPLOAD_SEED: u64 = 0x0B;

/// A transfer may take so much longer than planned.
const GRACE_SECONDS: u64 = 20;

/// Both transfers while they run.
#[derive(Debug)]
pub struct Curls {
    size: u64,
    dir: PathBuf,
    download: Process,
    upload: Process,
}

/// What became of a transfer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CurlReport {
    /// "curl download" or "curl upload".
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// In words.
    pub note: String,
}

/// Writes the file to be uploaded.
pub fn prepare(dir: &Path, size: u64) -> anyhow::Result<()> {
    let path = dir.join("upload.bin");
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
    pub fn start(bed: &Bed, dir: &Path, size: u64, seconds: u64) -> anyhow::Result<Curls> {
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
        let from = format!("http://{SERVICE_ADDRESS}/generate/{size}?seed={DOWNLOAD_SEED}");
        let to = format!("http://{SERVICE_ADDRESS}/upload/curl");
        let download = start("curl-download", &["--output", "download.bin", &from])?;
        let upload =
            start("curl-upload", &["--upload-file", "upload.bin", "--output", "answer.txt", &to])?;
        Ok(Curls { size, dir: dir.to_path_buf(), download, upload })
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
        for (process, name) in
            [(&mut self.download, "curl download"), (&mut self.upload, "curl upload")]
        {
            let status = process.wait()?;
            let report = |outcome, note| CurlReport { name: name.into(), outcome, note };
            reports.push(if !status.success() {
                report(outcome_of(status.code()), process.log_tail())
            } else {
                let upload = name == "curl upload";
                let (outcome, note) = compare(&self.dir, upload, self.size)?;
                report(outcome, note)
            });
        }
        for file in ["download.bin", "upload.bin"] {
            // A transfer that failed early left none.
            let _ = fs::remove_file(self.dir.join(file));
        }
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

fn compare(dir: &Path, upload: bool, size: u64) -> anyhow::Result<(Outcome, String)> {
    let (found, expected) = if upload {
        let answer = fs::read_to_string(dir.join("answer.txt"))?;
        let sha256 = pattern::sha256(UPLOAD_SEED, size);
        (answer.trim().to_string(), format!("length={size} sha256={sha256}"))
    } else {
        let mut file = File::open(dir.join("download.bin"))?;
        let mut hash = Sha256::new();
        let len = std::io::copy(&mut file, &mut HashWriter(&mut hash))?;
        let expected = format!("length={size} sha256={}", pattern::sha256(DOWNLOAD_SEED, size));
        (format!("length={len} sha256={}", pattern::hex(&hash.finalize())), expected)
    };
    if found == expected {
        Ok((Outcome::Survived, found))
    } else {
        Ok((Outcome::WrongBytes, format!("{found}, expected {expected}")))
    }
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
