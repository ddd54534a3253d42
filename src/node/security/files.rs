//! Certificates and keys as files: read with a bound, keys only if nobody else can read them; written for their owner
//! alone, and whole or not at all.

use crate::error::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The authority's certificate.
pub const CA: &str = "ca.pem";
/// The authority's key: only where certificates are issued.
pub const CA_KEY: &str = "ca.key";
/// The holder's certificate.
pub const CERT: &str = "cert.pem";
/// The holder's key.
pub const KEY: &str = "key.pem";

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Mode bits by which others could read or write.
const OTHERS: u32 = 0o077;
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A problem with `path`, and what to do.
pub fn problem(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::TlsConfig { problem: format!("{}: {what}", path.display()) }
}

/// The file's bytes; `remedy` is said where it is missing.
pub fn read(path: &Path, remedy: &str) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => problem(path, format!("there is no such file; {remedy}")),
        _ => problem(path, e),
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| problem(path, e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(problem(path, format!("larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// The certificates in a file, at least one.
pub fn read_certificates(path: &Path, remedy: &str) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path, remedy)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(problem(path, "there is no certificate in it; give one in PEM form")),
        Err(_) => Err(problem(path, "its PEM is broken; make it again with: hustings certs")),
    }
}

/// A key that only its owner can read.
pub fn read_key(path: &Path, remedy: &str) -> Result<PrivateKeyDer<'static>> {
    let bytes = read(path, remedy)?;
    let mode = fs::metadata(path).map_err(|e| problem(path, e))?.permissions().mode();
    if mode & OTHERS != 0 {
        let what = format!(
            "mode {:04o}: others can read this key; chmod 600 {1}",
            mode & 0o7777,
            path.display()
        );
        return Err(problem(path, what));
    }
    if bytes.windows(9).any(|word| word == b"ENCRYPTED") {
        let what = "the key is protected by a password, which nobody could type; \
                    give it in the clear, mode 0600";
        return Err(problem(path, what));
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| problem(path, "there is no private key in PEM form in it"))
}

/// Makes a folder that only its owner can enter; one that is there stays as it is, as each file in it is its owner's
/// alone.
pub fn make_folder(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(FOLDER_MODE).create(path).map_err(|e| problem(path, e))
}

/// Writes a file with mode 0600 in one step: whoever reads it sees the old or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension(format!("new{}", std::process::id()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&beside);
        problem(path, e)
    })
}

/// What tells one state of a file from the next.
pub type Stamp = Option<(i64, i64, u64, u64)>;

/// The present one; `None` where there is no file.
pub fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}
