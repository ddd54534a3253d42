//! TLS as it is configured now: made from the files of one folder, and made again when they change, so that
//! certificates are renewed without a restart. Connections that are open keep what they were opened with.

use super::files::{self, CA, CERT, KEY, Stamp};
use super::identity::{Identity, Role};
use super::verify::{Callers, Nodes, date};
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WantsServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The files are looked at no more often than this.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The one protocol that is spoken inside.
const ALPN: &[u8] = b"h2";
/// Where its parts come from, for people.
const REMEDY: &str = "make it with: hustings certs node|client|admin NAME --ca DIR --out DIR";

/// A folder with `ca.pem`, `cert.pem` and `key.pem`.
pub struct Tls {
    folder: PathBuf,
    loaded: Mutex<Loaded>,
}

/// What the files said.
pub struct Material {
    /// Who this process is.
    pub me: Identity,
    /// Its certificate.
    pub shown: CertificateDer<'static>,
    /// For connections that come in.
    pub server: Arc<ServerConfig>,
    /// For connections that go out.
    pub client: Arc<ClientConfig>,
    /// For nodes that come in with a token and no certificate yet; the authority's certificate is sent along.
    pub enrolling: Arc<ServerConfig>,
}

struct Loaded {
    material: Arc<Material>,
    stamps: [Stamp; 3],
    looked_us: u64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the folder; an error says which file is wrong and why.
    pub fn open(folder: &Path) -> Result<Arc<Tls>> {
        let stamps = stamps(folder);
        let material = Arc::new(load(folder)?);
        let loaded = Loaded { material, stamps, looked_us: Clock::wall_us() };
        Ok(Arc::new(Tls { folder: folder.to_owned(), loaded: Mutex::new(loaded) }))
    }

    /// The same, for a node: its certificate must be a node's, of that name.
    pub fn open_for_node(folder: &Path, name: &str) -> Result<Arc<Tls>> {
        let tls = Tls::open(folder)?;
        let me = tls.current().me.clone();
        if me.role != Role::Peer {
            let what =
                format!("it is the certificate of {me}; a node needs one of: hustings certs node");
            return Err(files::problem(&folder.join(CERT), what));
        }
        if me.name != name {
            let problem = format!(
                "{name:?} is not the name in {}, {:?}; start the node under that name",
                folder.join(CERT).display(),
                me.name
            );
            return Err(Error::config("name", problem));
        }
        Ok(tls)
    }

    /// Refuses an address under which nobody would trust this node.
    pub fn check_host(&self, host: &str) -> Result<()> {
        let shown = self.current().shown.clone();
        let trusted = ServerName::try_from(host).is_ok_and(|name| {
            webpki::EndEntityCert::try_from(&shown)
                .is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(&name).is_ok())
        });
        trusted.then_some(()).ok_or_else(|| {
            let at = self.folder.join(CERT);
            let what = format!(
                "it is not made for {host}, where this node is reached; make it with: \
                 hustings certs node NAME {host}"
            );
            files::problem(&at, what)
        })
    }

    /// What is valid now. Files that changed and cannot be used change nothing; that is said once for each change.
    pub fn current(&self) -> Arc<Material> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Clock::wall_us();
        // A wall clock that was set back must not put the next look off for long.
        if now.abs_diff(loaded.looked_us) < LOOK_EVERY.as_micros() as u64 {
            return loaded.material.clone();
        }
        loaded.looked_us = now;
        let stamps = stamps(&self.folder);
        if stamps != loaded.stamps {
            loaded.stamps = stamps;
            match load(&self.folder) {
                Ok(material) if material.me == loaded.material.me => {
                    tracing::info!(folder = %self.folder.display(), "the certificate was renewed");
                    loaded.material = Arc::new(material);
                }
                Ok(material) => {
                    let (theirs, ours) = (&material.me, &loaded.material.me);
                    tracing::error!(
                        "the new certificate is of {theirs}, this is {ours}: it is not used"
                    );
                }
                Err(error) => tracing::error!("the new certificate is not used: {error}"),
            }
        }
        loaded.material.clone()
    }
}

fn stamps(folder: &Path) -> [Stamp; 3] {
    [CA, CERT, KEY].map(|name| files::stamp(&folder.join(name)))
}

/// The one cryptography that is linked in.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Now, as certificates count it.
pub(super) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(Clock::wall_us()))
}

fn load(folder: &Path) -> Result<Material> {
    let authorities = files::read_certificates(&folder.join(CA), REMEDY)?;
    let chain = files::read_certificates(&folder.join(CERT), REMEDY)?;
    let key = files::read_key(&folder.join(KEY), REMEDY)?;
    let me = check(folder, &authorities, &chain)?;
    let shown = chain[0].clone();
    let whole = chain.iter().chain(&authorities).cloned().collect();
    let sent_whole = certified(folder, whole, key.clone_key())?;
    let sent = certified(folder, chain, key)?;
    let roots = roots(folder, &authorities)?;
    let unusable = |e: &dyn fmt::Display| files::problem(&folder.join(CA), e);
    let client = client_config(roots.clone(), sent.clone(), &me).map_err(|e| unusable(&e))?;
    let signed = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| unusable(&e))?;
    let callers = Arc::new(Callers { signed, cluster: me.cluster.clone() });
    let server = serving(|builder| builder.with_client_cert_verifier(callers), sent);
    let enrolling = serving(|builder| builder.with_no_client_auth(), sent_whole);
    Ok(Material {
        me,
        shown,
        server: Arc::new(server.map_err(|e| unusable(&e))?),
        client: Arc::new(client),
        enrolling: Arc::new(enrolling.map_err(|e| unusable(&e))?),
    })
}

/// Whose certificate it is, if it is one of ours and valid today.
fn check(
    folder: &Path,
    authorities: &[CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
) -> Result<Identity> {
    let at = folder.join(CERT);
    let broken = |e: webpki::Error| files::problem(&at, format!("it is no certificate: {e}"));
    let parsed = webpki::EndEntityCert::try_from(&chain[0]).map_err(broken)?;
    let anchors: Vec<_> = authorities
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<_, _>>()
        .map_err(|e| {
            files::problem(&folder.join(CA), format!("no authority's certificate: {e}"))
        })?;
    let (algorithms, usage) =
        (provider().signature_verification_algorithms.all, webpki::KeyUsage::client_auth());
    let verified =
        parsed.verify_for_usage(algorithms, &anchors, &chain[1..], now(), usage, None, None);
    let renew = "renew it with: hustings certs";
    match verified {
        Ok(_) => {}
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            let problem =
                format!("the certificate {} expired on {}; {renew}", at.display(), date(not_after));
            return Err(Error::Auth { problem });
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            let problem = format!(
                "the certificate {} is not valid before {}; compare the clocks, or {renew}",
                at.display(),
                date(not_before)
            );
            return Err(Error::Auth { problem });
        }
        Err(webpki::Error::UnknownIssuer) => {
            let what = format!(
                "it was not issued by the authority in {}; take both from one cluster",
                folder.join(CA).display()
            );
            return Err(files::problem(&at, what));
        }
        Err(other) => return Err(broken(other)),
    }
    Identity::of(&chain[0]).ok_or_else(|| {
        let what = format!("it does not say which cluster, role and name it is for; {REMEDY}");
        files::problem(&at, what)
    })
}

fn roots(folder: &Path, authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|e| files::problem(&folder.join(CA), e))?;
    }
    Ok(Arc::new(roots))
}

fn certified(
    folder: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<SingleCertAndKey>> {
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            let what = format!(
                "it is not the key of {}; take both from one call of hustings certs",
                folder.join(CERT).display()
            );
            files::problem(&folder.join(KEY), what)
        }
        other => files::problem(&folder.join(KEY), other),
    })?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// No session is resumed: each connection is checked anew.
fn serving(
    callers: impl FnOnce(
        ConfigBuilder<ServerConfig, WantsVerifier>,
    ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    sent: Arc<SingleCertAndKey>,
) -> std::result::Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = callers(builder).with_cert_resolver(sent);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    roots: Arc<RootCertStore>,
    sent: Arc<SingleCertAndKey>,
    me: &Identity,
) -> std::result::Result<ClientConfig, rustls::Error> {
    let signed = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let nodes = Arc::new(Nodes { signed, cluster: Some(me.cluster.clone()) });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(nodes)
        .with_client_cert_resolver(sent);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
