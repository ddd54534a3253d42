//! The two small HTTP servers of a node, for reading only: metrics for Prometheus, a live page for people.
//!
//! ```text
//!   socket ──▶ server (bounds, times) ──▶ guard (method, host, origin) ──▶ a site: scrape · page ──▶ answer
//!                                                                            page ──▶ feed ──▶ a client of the cluster
//! ```
//! Each has a listener of its own, on loopback unless it is said otherwise, and neither takes anything but GET.

mod answer;
mod feed;
mod guard;
mod json;
mod page;
mod scrape;
mod server;

pub use page::{MODULE, STYLE};

use super::client;
use super::metrics::Metrics;
use super::shared::Shared;
use super::transport::server::resolve;
use crate::error::{Error, Result};
use server::Site;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where one of the two listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Also beyond loopback: in plain text, to whoever reaches it.
    pub open: bool,
}

impl From<(String, bool)> for Endpoint {
    fn from((listen, open): (String, bool)) -> Self {
        Endpoint { listen, open }
    }
}

/// Which of the two a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For Prometheus.
    pub metrics: Option<Endpoint>,
    /// For people.
    pub page: Option<Endpoint>,
    /// The folder of a client's certificate: inside TLS the page asks its cluster with it.
    pub page_tls: Option<PathBuf>,
}

/// The listeners, before anything is served.
pub struct Listeners {
    metrics: Option<(TcpListener, bool)>,
    page: Option<(TcpListener, bool)>,
    page_tls: Option<PathBuf>,
}

/// Where they listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// For Prometheus.
    pub metrics: Option<String>,
    /// For people.
    pub page: Option<String>,
}

impl Listeners {
    /// Binds what was asked for.
    pub async fn bind(endpoints: &Endpoints, secret: bool) -> Result<Self> {
        check_page_tls(endpoints, secret)?;
        Ok(Listeners {
            page_tls: endpoints.page_tls.clone(),
            metrics: bind("metrics", endpoints.metrics.as_ref()).await?,
            page: bind("http", endpoints.page.as_ref()).await?,
        })
    }

    /// Whether somebody wants metrics.
    pub fn wants_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// Where they listen.
    pub fn served(&self) -> Served {
        let address = |bound: &Option<(TcpListener, bool)>| {
            bound.as_ref().and_then(|(listener, _)| Some(listener.local_addr().ok()?.to_string()))
        };
        Served { metrics: address(&self.metrics), page: address(&self.page) }
    }

    /// Serves for as long as the node runs.
    pub fn serve(self, shared: &Arc<Shared>) {
        if let Some((listener, open)) = self.metrics {
            let metrics = Metrics::new(shared.clone());
            tokio::spawn(metrics.clone().keep_up());
            // Prometheus asks for hosts by name, and metrics that are open are open to pages of any name as well.
            let names = if open { guard::Names::Any } else { guard::Names::Loopback };
            let site: Arc<dyn Site> = Arc::new(scrape::Scrape::new(shared.clone(), metrics));
            tokio::spawn(server::serve(listener, site, names));
        }
        if let Some((listener, _)) = self.page {
            let site: Arc<dyn Site> = Arc::new(page::Page::start(shared.clone(), self.page_tls));
            tokio::spawn(server::serve(listener, site, guard::Names::Loopback));
        }
    }
}

/// The page is a client like any other: inside TLS it needs a certificate, and a node's may not read.
fn check_page_tls(endpoints: &Endpoints, secret: bool) -> Result<()> {
    let problem = match (&endpoints.page, &endpoints.page_tls, secret) {
        (Some(_), None, true) => {
            "inside TLS the page needs a client's certificate of its own: \
             hustings certs client page --ca CA --out DIR, and http_tls=DIR (--http-tls DIR)"
        }
        (None, Some(_), _) => "there is no page; give http='HOST:PORT' (--http HOST:PORT) too",
        (_, Some(_), false) => "the node speaks without TLS; leave it out, or give tls=DIR too",
        (Some(_), Some(folder), true) => return client::check_folder(folder),
        (_, None, _) => return Ok(()),
    };
    Err(Error::config("http_tls", problem))
}

async fn bind(field: &str, wanted: Option<&Endpoint>) -> Result<Option<(TcpListener, bool)>> {
    let Some(Endpoint { listen, open }) = wanted else { return Ok(None) };
    let address = resolve(listen)?;
    if !open && !address.ip().is_loopback() {
        let problem = format!(
            "{listen} is reachable from other machines, and whoever reaches it reads along, in plain text and without \
             a password; use 127.0.0.1:PORT, or say {field}_open=True (--{field}-open)"
        );
        return Err(Error::config(field, problem));
    }
    let bound = TcpListener::bind(address).await;
    let listener =
        bound.map_err(|e| Error::Bind { address: listen.clone(), reason: e.to_string() })?;
    Ok(Some((listener, *open)))
}
