//! TLS for a node that has a token and no certificate yet: it shows none, and knows the authority by its fingerprint.

use super::authority;
use super::files;
use super::material::{Tls, now, provider};
use super::tokens::Token;
use super::verify::{Nodes, below_tls13};
use crate::error::{Error, Result};
use rcgen::{KeyPair, PublicKeyData};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;

/// A key that was made here and never leaves, and the certificate for it, once it comes.
pub struct Applicant {
    key: KeyPair,
}

impl Applicant {
    /// A new key.
    pub fn new() -> Result<Applicant> {
        let key = KeyPair::generate();
        let key = key.map_err(|e| Error::TlsConfig { problem: format!("no key: {e}") })?;
        Ok(Applicant { key })
    }

    /// What the authority is told of it.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.der_bytes().to_vec()
    }

    /// Keeps what came in `out`, if the authority is the token's and the certificate is for this key.
    pub fn accept(
        &self,
        token: &Token,
        certificate: &str,
        authority: &str,
        out: &Path,
    ) -> Result<()> {
        use rustls::pki_types::pem::PemObject;
        let refuse = |problem: &str| Error::Auth {
            problem: format!("the answer to the token is refused: {problem}"),
        };
        let ca = CertificateDer::from_pem_slice(authority.as_bytes())
            .map_err(|_| refuse("it holds no authority's certificate"))?;
        if authority::fingerprint(&ca) != token.fingerprint {
            return Err(refuse("its authority is not the one the token names"));
        }
        files::make_folder(out)?;
        authority::write_all(out, &self.key.serialize_pem(), certificate, authority)?;
        Tls::open(out).map(drop)
    }
}

/// What a node with a token calls with.
pub fn client_config(token: &Token) -> Result<ClientConfig> {
    let unusable = |e: TlsError| Error::TlsConfig { problem: e.to_string() };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByFingerprint(token.fingerprint)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Trusts a node's certificate if the authority that the token names is sent along and has signed it.
#[derive(Debug)]
struct ByFingerprint([u8; 32]);

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let unknown = || TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let named = intermediates.iter().find(|ca| authority::fingerprint(ca) == self.0);
        let mut roots = RootCertStore::empty();
        roots.add(named.ok_or_else(unknown)?.clone().into_owned()).map_err(|_| unknown())?;
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| unknown())?;
        let nodes = Nodes { signed, cluster: None };
        nodes.verify_server_cert(end_entity, &[], server_name, ocsp_response, now())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(below_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
