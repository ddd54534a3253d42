//! Join tokens: each lets one node get one certificate, once, within a quarter of an hour. What is stored is a hash;
//! the token itself also names the authority, so that whoever joins knows whom to trust.

use super::authority::{Authority, Subject, hex, unhex};
use super::files;
use super::identity::Role;
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How long a token can be used.
pub const LIFE: Duration = Duration::from_secs(15 * 60);
/// Tokens that wait to be used.
const MAX_WAITING: usize = 256;
/// Where they are kept, below the authority.
const FOLDER: &str = "tokens";
/// What a token begins with.
const PREFIX: &str = "hustings-join";
const ID: usize = 8;
const SECRET: usize = 32;
/// What is said of every token that is not taken: who guesses learns nothing from it.
pub const REFUSED: &str = "the token is wrong, was used, or has expired (each works once, for \
     15 minutes); make another with: hustings certs token";

/// A token; what it prints as tells nothing.
#[derive(Clone)]
pub struct Token {
    /// Which one.
    pub id: [u8; ID],
    secret: [u8; SECRET],
    /// The authority's.
    pub fingerprint: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(<secret>)")
    }
}

impl Token {
    /// Reads what [`Token::reveal`] wrote; the error does not repeat it.
    pub fn parse(text: &str) -> Result<Token> {
        let malformed = || {
            let problem = format!(
                "this is no join token ({PREFIX}-...); make one with: hustings certs token"
            );
            Error::config("token", problem)
        };
        let rest = text.trim().strip_prefix(PREFIX).ok_or_else(malformed)?;
        let parts: Vec<Vec<u8>> =
            rest.split('-').skip(1).map(unhex).collect::<Option<_>>().ok_or_else(malformed)?;
        let [id, secret, fingerprint] = parts.as_slice() else { return Err(malformed()) };
        Ok(Token {
            id: id.as_slice().try_into().map_err(|_| malformed())?,
            secret: secret.as_slice().try_into().map_err(|_| malformed())?,
            fingerprint: fingerprint.as_slice().try_into().map_err(|_| malformed())?,
        })
    }

    /// The token itself, for whoever shall join.
    pub fn reveal(&self) -> String {
        let (id, secret) = (hex(&self.id), hex(&self.secret));
        format!("{PREFIX}-{id}-{secret}-{}", hex(&self.fingerprint))
    }

    /// What proves that one has it.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// Makes a token for a node of that name and addresses.
pub fn create(authority: &Authority, subject: &Subject, life: Duration) -> Result<Token> {
    let folder = authority.folder().join(FOLDER);
    files::make_folder(&folder)?;
    if forget_old(&folder)? >= MAX_WAITING {
        let what =
            format!("{MAX_WAITING} tokens wait to be used, the limit; wait until some expire");
        return Err(files::problem(&folder, what));
    }
    let (mut id, mut secret) = ([0; ID], [0; SECRET]);
    let drawn = SysRng.try_fill_bytes(&mut id).and_then(|()| SysRng.try_fill_bytes(&mut secret));
    drawn.map_err(|e| files::problem(&folder, e))?;
    let expires = (Duration::from_micros(Clock::wall_us()) + life).as_secs();
    let days = subject.lasts.as_secs() / 86_400;
    let mut record = format!(
        "hash {}\nexpires {expires}\nname {}\ndays {days}\n",
        hex(&hash(&secret)),
        subject.name
    );
    for host in &subject.hosts {
        record.push_str(&format!("host {host}\n"));
    }
    files::write(&folder.join(hex(&id)), record.as_bytes())?;
    Ok(Token { id, secret, fingerprint: authority.fingerprint() })
}

/// Takes a token in, once; the error is the same whatever is wrong with it.
pub fn redeem(authority: &Authority, id: &[u8], secret: &[u8]) -> Result<Subject> {
    let refused = || Error::Auth { problem: REFUSED.to_owned() };
    if id.len() != ID {
        return Err(refused());
    }
    let at = authority.folder().join(FOLDER).join(hex(id));
    let record = files::read(&at, "").ok().and_then(|bytes| Record::parse(&bytes));
    // A token that is not there is compared as well: it must not be faster.
    let stored = record.as_ref().map_or([0; 32], |record| record.hash);
    let same: bool = hash(secret).ct_eq(&stored).into();
    let now_s = Duration::from_micros(Clock::wall_us()).as_secs();
    let record = record.filter(|record| same && now_s < record.expires_s).ok_or_else(refused)?;
    // Of two that come at once, one finds the file gone.
    fs::rename(&at, used(&at)).map_err(|_| refused())?;
    let _ = fs::remove_file(used(&at));
    Subject::new(Role::Peer, &record.name, &record.hosts, record.days.max(1))
}

fn used(at: &Path) -> PathBuf {
    at.with_extension("used")
}

fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// What is stored of a token.
struct Record {
    hash: [u8; 32],
    expires_s: u64,
    name: String,
    days: u64,
    hosts: Vec<String>,
}

impl Record {
    fn parse(bytes: &[u8]) -> Option<Record> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = text.lines().filter_map(|line| line.split_once(' '));
        let one =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let hosts = fields.by_ref().filter(|(key, _)| *key == "host");
        Some(Record {
            hosts: hosts.map(|(_, host)| host.to_owned()).collect(),
            hash: unhex(one("hash")?)?.try_into().ok()?,
            expires_s: one("expires")?.parse().ok()?,
            name: one("name")?.to_owned(),
            days: one("days")?.parse().ok()?,
        })
    }
}

/// Whether `bytes` are what is stored of a token.
pub fn is_stored(bytes: &[u8]) -> bool {
    Record::parse(bytes).is_some()
}

/// Removes those that have expired; returns how many are left.
fn forget_old(folder: &Path) -> Result<usize> {
    let now_s = Duration::from_micros(Clock::wall_us()).as_secs();
    let mut left = 0;
    let entries = fs::read_dir(folder).map_err(|e| files::problem(folder, e))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let record = files::read(&path, "").ok().and_then(|bytes| Record::parse(&bytes));
        match record {
            Some(record) if record.expires_s > now_s => left += 1,
            _ => drop(fs::remove_file(&path)),
        }
    }
    Ok(left)
}
