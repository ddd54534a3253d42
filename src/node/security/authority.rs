//! The cluster's certificate authority: makes itself, and issues certificates for nodes, clients and operators. Its key
//! is needed for that only, and by no node that does not admit others.

use super::files::{self, CA, CA_KEY, CERT, KEY};
use super::identity::{self, Identity, Role};
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use rand::TryRng;
use rand::rngs::SysRng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an authority lasts.
const AUTHORITY_DAYS: u64 = 3_650;
/// How long a certificate lasts unless told otherwise, and at most.
pub const DEFAULT_DAYS: u64 = 365;
const MAX_DAYS: u64 = 3_650;
/// Clocks of machines that are this far behind still take a new certificate for valid.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// Hosts in one certificate.
const MAX_HOSTS: usize = 32;
/// Bytes of a public key as it travels: one byte for its form, and a point of the curve P-256.
pub const PUBLIC_KEY: usize = 65;

/// An authority whose key is at hand.
pub struct Authority {
    folder: PathBuf,
    cluster: String,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What its holder may do.
    pub role: Role,
    /// The holder's name.
    pub name: String,
    /// A node's addresses: IP addresses or DNS names, without a port.
    pub hosts: Vec<String>,
    /// How long it is valid; 0 is of use to tests only.
    pub lasts: Duration,
}

impl Subject {
    /// One for `days`, checked.
    pub fn new(role: Role, name: &str, hosts: &[String], days: u64) -> Result<Subject> {
        identity::check_name(name).map_err(|problem| Error::config("name", problem))?;
        if !(1..=MAX_DAYS).contains(&days) {
            let problem = format!("{days} is outside 1 to {MAX_DAYS}");
            return Err(Error::config("days", problem));
        }
        if role == Role::Peer && hosts.is_empty() {
            let problem =
                "none given; name the addresses under which others reach the node, e.g. 10.0.0.1";
            return Err(Error::config("hosts", problem));
        }
        if hosts.len() > MAX_HOSTS {
            let problem =
                format!("{} given, at most {MAX_HOSTS} stand in one certificate", hosts.len());
            return Err(Error::config("hosts", problem));
        }
        hosts.iter().try_for_each(|host| host_name(host).map(drop))?;
        let (name, hosts) = (name.to_owned(), hosts.to_vec());
        Ok(Subject { role, name, hosts, lasts: DAY * u32::try_from(days).unwrap_or(1) })
    }
}

/// A public key that came over the network.
struct ForeignKey(Vec<u8>);

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// Makes a new one in `folder`, which must not hold one yet.
    pub fn create(folder: &Path) -> Result<Authority> {
        for name in [CA, CA_KEY] {
            let at = folder.join(name);
            if at.exists() {
                return Err(files::problem(
                    &at,
                    "there is an authority already; a new one would lock its cluster out",
                ));
            }
        }
        files::make_folder(folder)?;
        let mut drawn = [0; 16];
        SysRng.try_fill_bytes(&mut drawn).map_err(|e| files::problem(folder, e))?;
        let cluster = hex(&drawn);
        let key = KeyPair::generate().map_err(|e| files::problem(folder, e))?;
        let certificate =
            authority_params(&cluster)?.self_signed(&key).map_err(|e| files::problem(folder, e))?;
        files::write(&folder.join(CA_KEY), key.serialize_pem().as_bytes())?;
        files::write(&folder.join(CA), certificate.pem().as_bytes())?;
        Authority::open(folder)
    }

    /// The one in `folder`.
    pub fn open(folder: &Path) -> Result<Authority> {
        let remedy = "make an authority with: hustings certs init DIR";
        let (at, key_at) = (folder.join(CA), folder.join(CA_KEY));
        let certificate_pem = String::from_utf8(files::read(&at, remedy)?)
            .map_err(|_| files::problem(&at, "it is not text"))?;
        let certificate = files::read_certificates(&at, remedy)?.swap_remove(0);
        let key = files::read_key(&key_at, "certificates are issued where the authority's key is")?;
        let key = KeyPair::try_from(&key).map_err(|e| files::problem(&key_at, e))?;
        let cluster = cluster_of(&certificate).ok_or_else(|| {
            files::problem(
                &at,
                "it is no authority of hustings; make one with: hustings certs init DIR",
            )
        })?;
        let issuer = Issuer::new(authority_params(&cluster)?, key);
        let folder = folder.to_owned();
        Ok(Authority { folder, cluster, certificate, certificate_pem, issuer })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cluster it is the authority of.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its certificate, for those who shall trust it.
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What a token binds its joiner to.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// A new key and its certificate, both in `out` with this authority's.
    pub fn issue(&self, subject: &Subject, out: &Path) -> Result<Identity> {
        files::make_folder(out)?;
        let key = KeyPair::generate().map_err(|e| files::problem(out, e))?;
        let certificate = self.sign(subject, &key)?;
        write_all(out, &key.serialize_pem(), &certificate, &self.certificate_pem)?;
        Ok(self.identity(subject))
    }

    /// A certificate for the holder of a key that stays where it is.
    pub fn issue_for(&self, subject: &Subject, public_key: &[u8]) -> Result<String> {
        check_public_key(public_key)?;
        self.sign(subject, &ForeignKey(public_key.to_vec()))
    }

    fn identity(&self, subject: &Subject) -> Identity {
        let (cluster, role, name) = (self.cluster.clone(), subject.role, subject.name.clone());
        Identity { cluster, role, name }
    }

    fn sign(&self, subject: &Subject, key: &impl PublicKeyData) -> Result<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject.name);
        let uri = self.identity(subject).uri();
        params.subject_alt_names.push(SanType::URI(ia5(&uri)?));
        for host in &subject.hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        let wall = Duration::from_micros(Clock::wall_us());
        params.not_before = date_time_ymd(1970, 1, 1) + wall.saturating_sub(CLOCK_SKEW);
        params.not_after = date_time_ymd(1970, 1, 1) + (wall + subject.lasts);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if subject.role == Role::Peer {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let signed = params.signed_by(key, &self.issuer);
        Ok(signed.map_err(|e| files::problem(&self.folder, e))?.pem())
    }
}

/// A holder's three files; the certificate last, which is what says that they are complete.
pub fn write_all(out: &Path, key: &str, certificate: &str, authority: &str) -> Result<()> {
    files::write(&out.join(KEY), key.as_bytes())?;
    files::write(&out.join(CA), authority.as_bytes())?;
    files::write(&out.join(CERT), certificate.as_bytes())
}

/// The same for the same cluster, so that an authority can be put together again from its key.
fn authority_params(cluster: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("hustings {cluster}"));
    params.subject_alt_names = vec![SanType::URI(ia5(&format!("{AUTHORITY}{cluster}"))?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let wall = Duration::from_micros(Clock::wall_us());
    params.not_before = date_time_ymd(1970, 1, 1) + wall.saturating_sub(CLOCK_SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + (wall + DAY * AUTHORITY_DAYS as u32);
    params.serial_number = Some(serial()?);
    Ok(params)
}

const AUTHORITY: &str = "hustings-authority://";

fn cluster_of(authority: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(authority).ok()?;
    let mut names = parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(AUTHORITY));
    names.find(|cluster| identity::is_cluster(cluster)).map(str::to_owned)
}

/// Refuses what has not the form of an uncompressed point.
pub fn check_public_key(public_key: &[u8]) -> Result<()> {
    if public_key.len() == PUBLIC_KEY && public_key[0] == 4 {
        return Ok(());
    }
    let problem = format!("{} bytes; it must be an uncompressed point of P-256", public_key.len());
    Err(Error::config("public_key", problem))
}

/// What tells one authority from every other.
pub fn fingerprint(authority: &CertificateDer<'_>) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(authority.as_ref()).into()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn serial() -> Result<SerialNumber> {
    let mut bytes = [0; 16];
    let drawn = SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|e| Error::TlsConfig { problem: format!("no random bytes: {e}") })?;
    // Positive, whatever was drawn.
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn ia5(text: &str) -> Result<rcgen::string::Ia5String> {
    text.try_into().map_err(|_| Error::config("name", format!("{text:?} is not ASCII")))
}

/// An IP address, or a DNS name.
fn host_name(host: &str) -> Result<SanType> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        if ip.is_unspecified() {
            let problem =
                format!("{host} is every address; give those under which others reach the node");
            return Err(Error::config("hosts", problem));
        }
        return Ok(SanType::IpAddress(ip));
    }
    let named = rustls::pki_types::DnsName::try_from(host).is_ok() && !host.contains('*');
    if !named {
        let shown = host.escape_default();
        let problem = format!(
            "\"{shown}\" is no IP address and no DNS name; give it without a port, e.g. 10.0.0.1"
        );
        return Err(Error::config("hosts", problem));
    }
    Ok(SanType::DnsName(ia5(host)?))
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let plain = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>()).flatten()
}
