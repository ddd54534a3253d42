//! The site for machines: `/metrics`, and whether the node lives and is a member with a leader.

use super::answer::{self, Answer};
use super::server::{Line, Site};
use crate::node::metrics::{CONTENT_TYPE, Metrics};
use crate::node::shared::Shared;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::StatusCode;
use hyper::http::request::Parts;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the task loop may take to answer a probe.
const PROBE_TTL: Duration = Duration::from_secs(5);

/// Answers scrapes and probes.
pub struct Scrape {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Scrape {
    /// For that node.
    pub fn new(shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        Scrape { shared, metrics }
    }
}

impl Site for Scrape {
    fn answer(&self, request: Parts, _: Arc<Line>) -> BoxFuture<'static, Answer> {
        let (shared, metrics) = (self.shared.clone(), self.metrics.clone());
        async move {
            match request.uri.path() {
                "/metrics" => match metrics.scrape().await {
                    Ok(text) => answer::whole(CONTENT_TYPE, text),
                    Err(error) => unwell(error.to_string()),
                },
                "/healthz" => alive(&shared).await,
                "/readyz" => ready(&shared),
                _ => answer::not_found("/metrics, /healthz and /readyz"),
            }
        }
        .boxed()
    }
}

fn unwell(why: impl Into<String>) -> Answer {
    answer::sentence(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// Its task loop takes steps.
async fn alive(shared: &Shared) -> Answer {
    match tokio::time::timeout(PROBE_TTL, shared.ask(|_| ())).await {
        Ok(Ok(())) => answer::whole(answer::TEXT, "alive\n"),
        Ok(Err(error)) => unwell(error.to_string()),
        Err(_) => unwell(format!("the task loop took no step in {PROBE_TTL:?}")),
    }
}

/// It is a member, and a leader speaks to it.
fn ready(shared: &Shared) -> Answer {
    if let Some(error) = &shared.standing().fatal {
        return unwell(error.to_string());
    }
    if shared.draining.load(Ordering::Acquire) || shared.stopping.load(Ordering::Acquire) {
        return unwell("this node is leaving");
    }
    if shared.connected.load(Ordering::Acquire) {
        return answer::whole(answer::TEXT, "ready\n");
    }
    let quorum = shared.consensus.as_ref().map(|consensus| consensus.quorum_text());
    unwell(format!("no leader speaks to this node: {}", quorum.unwrap_or("it is no voter".into())))
}
