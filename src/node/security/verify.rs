//! Whom each end of a connection takes for whom it should be: signed by the cluster's authority, of the same cluster,
//! and, seen from whoever calls, a node that is at home at that address.

use super::identity::{Identity, Role};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error,
    PeerMisbehaved, SignatureScheme,
};
use std::sync::Arc;

fn refuse() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

/// What a node asks of whoever calls it.
#[derive(Debug)]
pub struct Callers {
    pub(super) signed: Arc<dyn ClientCertVerifier>,
    pub(super) cluster: String,
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.signed.verify_client_cert(end_entity, intermediates, now)?;
        match Identity::of(end_entity) {
            Some(them) if them.cluster == self.cluster => Ok(verified),
            _ => Err(refuse()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(below_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Only TLS 1.3 is offered, so whoever signs as in 1.2 does not heed that.
pub(super) fn below_tls13() -> Error {
    Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
}

/// What a caller asks of the node it has reached; no cluster: any that the authority signed for.
#[derive(Debug)]
pub struct Nodes {
    pub(super) signed: Arc<WebPkiServerVerifier>,
    pub(super) cluster: Option<String>,
}

impl ServerCertVerifier for Nodes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.signed.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let ours = |them: &Identity| self.cluster.as_ref().is_none_or(|c| *c == them.cluster);
        match Identity::of(end_entity) {
            Some(them) if them.role == Role::Peer && ours(&them) => Ok(verified),
            _ => Err(refuse()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(below_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Which end of a handshake speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who has called.
    Caller,
    /// Who was called.
    Called,
}

/// What a failed handshake means for people, and what to do.
pub fn explain(error: &Error, end: End) -> String {
    let (they, them) = match end {
        End::Caller => ("the node", "the node's certificate"),
        End::Called => ("the caller", "the caller's certificate"),
    };
    match error {
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                format!(
                    "{them} was issued by another authority than the ca.pem here: {they} belongs to another cluster"
                )
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("{them} expired on {}; renew it with: hustings certs", date(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("{them} is not valid before {}; compare the clocks", date(*not_before))
            }
            CertificateError::NotValidForNameContext { expected, .. } => format!(
                "{them} is not made for {}; make it with: hustings certs node NAME {0}",
                expected.to_str()
            ),
            CertificateError::ApplicationVerificationFailure => {
                let role = if end == End::Caller { ", or not of a node" } else { "" };
                format!("{them} is of another cluster{role}")
            }
            other => format!("{them} is refused: {other}"),
        },
        Error::NoCertificatesPresented => {
            format!(
                "{they} showed no certificate; every caller needs one (tls=DIR, --tls DIR, HUSTINGS_TLS)"
            )
        }
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                format!(
                    "{they} asks for a certificate and none was shown; give tls=DIR (--tls DIR, HUSTINGS_TLS)"
                )
            }
            AlertDescription::UnknownCA => format!(
                "{they} does not know the authority that issued this certificate: it belongs to another cluster"
            ),
            AlertDescription::CertificateExpired => format!(
                "for {they} this certificate has expired, or is not valid yet; renew it with: hustings certs, and \
                 compare the clocks"
            ),
            AlertDescription::AccessDenied => {
                format!("for {they} this certificate is of another cluster, or not of a node")
            }
            other => format!("{they} ended the TLS handshake: {other:?}"),
        },
        Error::InvalidMessage(_) => format!("{they} does not speak TLS"),
        other => format!("the TLS handshake failed: {other}"),
    }
}

/// A moment for people, in UTC.
pub fn date(at: UnixTime) -> String {
    let (days, second) = (at.as_secs() / 86_400, at.as_secs() % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years: leap days then come last in each year.
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_709_164_800, "2024-02-29 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (4_102_444_800, "2100-01-01 00:00 UTC"),
        ] {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(second));
            assert_eq!(date(at), text);
        }
    }
}
