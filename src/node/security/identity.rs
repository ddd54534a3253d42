//! Who a certificate says its holder is: cluster, role and name, in one URI among its alternative names.

use rustls::pki_types::CertificateDer;
use std::fmt;

/// What such a URI begins with.
const SCHEME: &str = "hustings://";
/// Longest name in a certificate.
pub const MAX_NAME: usize = 64;

/// What a holder may do; `transport/access.rs` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A node: elections, the log, assignments.
    Peer,
    /// A script: tasks and their outcomes.
    Client,
    /// An operator: members, handover, drain, and all that a client may.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Peer, Role::Client, Role::Admin];

    /// As it stands in the certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Peer => "peer",
            Role::Client => "client",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the authority was made.
    pub cluster: String,
    /// What it may do.
    pub role: Role,
    /// A node's name in the cluster; for others, a word for people.
    pub name: String,
}

impl Identity {
    /// As it stands in the certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role.as_str(), self.name)
    }

    /// The identity in `uri`; nothing if it is none of ours.
    pub fn parse(uri: &str) -> Option<Identity> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && is_cluster(cluster) && check_name(name).is_ok();
        whole.then_some(())?;
        let (cluster, name) = (cluster.to_owned(), name.to_owned());
        Some(Identity { cluster, role: Role::parse(role)?, name })
    }

    /// The identity in a certificate, if there is exactly one.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Identity> {
        let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
        let mut found = parsed.valid_uri_names().filter_map(Identity::parse);
        let identity = found.next()?;
        found.next().is_none().then_some(identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} of cluster {}", self.role.as_str(), self.name, self.cluster)
    }
}

/// 32 hexadecimal digits.
pub fn is_cluster(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A name that can stand in a URI and in a path; else what is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let fits = (1..=MAX_NAME).contains(&name.len());
    if fits && name.bytes().all(allowed) && !name.starts_with('.') {
        return Ok(());
    }
    let shown: String = name.escape_default().take(MAX_NAME).collect();
    let rule = format!("1 to {MAX_NAME} letters, digits, '.', '_' or '-', the first not a dot");
    Err(format!("\"{shown}\" cannot stand in a certificate; give {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_identity_survives_its_uri() {
        for role in Role::ALL {
            let identity = Identity { cluster: CLUSTER.into(), role, name: "node-1.a_b".into() };
            assert_eq!(Identity::parse(&identity.uri()), Some(identity));
        }
    }

    #[test]
    fn what_is_no_identity_of_ours_is_nobody() {
        for uri in [
            "",
            "https://example.org/peer/a",
            "hustings://short/peer/a",
            &format!("hustings://{CLUSTER}/boss/a"),
            &format!("hustings://{CLUSTER}/peer/"),
            &format!("hustings://{CLUSTER}/peer/a/b"),
            &format!("hustings://{CLUSTER}/peer/../a"),
            &format!("hustings://{CLUSTER}/peer/a\nb"),
            &format!("hustings://{}/peer/a", CLUSTER.to_uppercase()),
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused_with_the_rule() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä", "a\r\nb", &"x".repeat(65)] {
            let problem = check_name(bad).unwrap_err();
            assert!(problem.contains("1 to 64 letters") && !problem.contains('\n'), "{problem}");
        }
        assert!(check_name(&"x".repeat(64)).is_ok());
    }
}
