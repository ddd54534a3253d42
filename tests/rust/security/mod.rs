//! TLS between real nodes and clients: who is let in, what each role may call, what the others hear, and how
//! certificates come and are renewed.

mod admission;
mod calls;
mod doorway;
mod entrances;
mod joining;
mod renewal;

use crate::cluster::{PATIENCE, options};
use hustings::node::security::Role;
use hustings::node::security::authority::{Authority, Subject};
use hustings::node::{Entry, Node, NodeOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A folder of its own, removed with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hustings-tls-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Place(path)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority in a folder `ca` of that place.
pub fn authority(place: &Place) -> Authority {
    Authority::create(&place.at("ca")).unwrap()
}

/// A certificate for an hour, in a folder of its name.
pub fn issue(ca: &Authority, place: &Place, role: Role, name: &str) -> PathBuf {
    issue_for(ca, &place.at(name), role, name, Duration::from_secs(3_600))
}

pub fn issue_for(
    ca: &Authority,
    folder: &Path,
    role: Role,
    name: &str,
    lasts: Duration,
) -> PathBuf {
    let hosts = if role == Role::Peer { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
    let subject = Subject { role, name: name.to_owned(), hosts, lasts };
    ca.issue(&subject, folder).unwrap();
    folder.to_owned()
}

/// A node with a certificate; alone in its cluster once it has entered.
pub async fn alone(folder: &Path, name: &str) -> Arc<Node> {
    let node = Node::bind(secret(folder, name)).await.unwrap();
    node.enter(Entry { founders: vec![node.address().to_owned()], ..Entry::default() }).unwrap();
    node.wait_ready(PATIENCE).await.unwrap();
    node
}

pub fn secret(folder: &Path, name: &str) -> NodeOptions {
    NodeOptions { tls: Some(folder.to_owned()), ..options(name, 0.5) }
}
