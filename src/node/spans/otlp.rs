//! Spans to a collector, by OTLP over gRPC: what one call carries waits while the last one is under way.

use super::{MAX_QUEUED, Span, SpanKind, SpanQueue, Value};
use crate::error::{Error, Result};
use opentelemetry::trace as api;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Spans in one call.
const BATCH: usize = 512;
/// Where OpenTelemetry's programs look for their collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Begins to send to the collector at `otlp`, or to the one that the environment names, if it does.
pub(super) fn open(otlp: Option<&str>, node: &str) -> Result<Option<Arc<SpanQueue>>> {
    if otlp.is_none() && !is_asked_for(|name| std::env::var(name).unwrap_or_default()) {
        return Ok(None);
    }
    let mut builder = SpanExporter::builder().with_tonic();
    if let Some(endpoint) = otlp {
        check(endpoint)?;
        builder = builder.with_endpoint(endpoint);
    }
    let mut exporter = builder.build().map_err(|error| Error::config("otlp", error.to_string()))?;
    exporter.set_resource(&resource(node));
    let (queue, queued) = SpanQueue::new(MAX_QUEUED);
    tokio::spawn(send(exporter, queued, queue.clone()));
    Ok(Some(queue))
}

/// Whether the environment names a collector, and does not switch tracing off.
fn is_asked_for(variable: impl Fn(&str) -> String) -> bool {
    let is_off = variable("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true")
        || variable("OTEL_TRACES_EXPORTER") == "none";
    !is_off && ENDPOINTS.iter().any(|name| !variable(name).is_empty())
}

fn check(endpoint: &str) -> Result<()> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
    if rest.is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    let shown: String = endpoint.escape_default().take(64).collect();
    let problem = format!(
        "\"{shown}\" is no collector's address; give http://HOST:PORT or https://HOST:PORT, \
         http://127.0.0.1:4317 for instance"
    );
    Err(Error::config("otlp", problem))
}

/// Who tells; the environment may say more, and other names (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES).
fn resource(node: &str) -> Resource {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let is_named = !variable("OTEL_SERVICE_NAME").is_empty()
        || variable("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    let mut builder = Resource::builder()
        .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !is_named {
        builder = builder.with_service_name("hustings");
    }
    builder.build()
}

/// Sends until the node ends.
async fn send(exporter: SpanExporter, mut queued: mpsc::Receiver<Span>, queue: Arc<SpanQueue>) {
    let scope =
        InstrumentationScope::builder("hustings").with_version(env!("CARGO_PKG_VERSION")).build();
    let (mut batch, mut is_well) = (Vec::with_capacity(BATCH), true);
    loop {
        let count = queued.recv_many(&mut batch, BATCH).await as u64;
        if count == 0 {
            return;
        }
        let spans = batch.drain(..).map(|span| data(span, &scope)).collect();
        match exporter.export(spans).await {
            Ok(()) => {
                queue.sent.fetch_add(count, Ordering::Relaxed);
                is_well = true;
            }
            Err(error) => {
                queue.failed.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut is_well) {
                    tracing::warn!("no collector takes spans: {error}");
                }
            }
        }
        queue.waiting.fetch_sub(count, Ordering::AcqRel);
    }
}

fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let flags = api::TraceFlags::new(span.at.flags);
    let (trace, id) = (api::TraceId::from(span.at.trace), api::SpanId::from(span.at.span));
    SpanData {
        span_context: api::SpanContext::new(trace, id, flags, false, Default::default()),
        parent_span_id: api::SpanId::from(span.parent),
        // Only the task's own parent was made elsewhere.
        parent_span_is_remote: span.kind == SpanKind::Task,
        span_kind: match span.kind {
            SpanKind::Submit => api::SpanKind::Producer,
            SpanKind::Run => api::SpanKind::Consumer,
            SpanKind::Task | SpanKind::Assign => api::SpanKind::Internal,
        },
        name: span.kind.name().into(),
        start_time: moment(span.start_us),
        end_time: moment(span.end_us),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: match span.error {
            Some(words) => api::Status::error(words),
            None => api::Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

fn attribute((key, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, i64::try_from(number).unwrap_or(i64::MAX)),
    }
}

fn moment(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_asks_for_spans_as_it_does_elsewhere() {
        let asked = |set: &[(&str, &str)]| {
            is_asked_for(|name| {
                set.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value).into()
            })
        };
        assert!(!asked(&[]));
        let here = "http://127.0.0.1:4317";
        for name in ENDPOINTS {
            assert!(asked(&[(name, here)]));
            assert!(!asked(&[(name, "")]));
            assert!(!asked(&[(name, here), ("OTEL_SDK_DISABLED", "true")]));
            assert!(!asked(&[(name, here), ("OTEL_TRACES_EXPORTER", "none")]));
        }
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        for bad in ["", "127.0.0.1:4317", "http://", "ftp://a:1", "http://a b:1", "http://[::1"] {
            let refused = open(Some(bad), "n1").unwrap_err().to_string();
            assert!(refused.starts_with("otlp: "), "{bad}: {refused}");
        }
    }
}
