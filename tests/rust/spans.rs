//! Spans of tasks on real nodes, as a real collector receives them over gRPC.

use crate::cluster::{Cluster, PATIENCE, options, request};
use crate::execution::own_argv;
use hustings::core::cluster::command::{FunctionSource, Outcome};
use hustings::core::trace::TraceContext;
use hustings::node::client::{Client, Handle, Settled, TaskRequest};
use hustings::node::{Node, NodeOptions};
use opentelemetry_proto::tonic::collector::trace::v1 as service;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use service::trace_service_server::{TraceService, TraceServiceServer};
use service::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Who submits.
const CALLER: TraceContext =
    TraceContext { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0xf067, flags: 1 };

struct Told(UnboundedSender<(Resource, Span)>);

#[tonic::async_trait]
impl TraceService for Told {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let _ = self.0.send((resource.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector: where it listens, and what it hears.
struct Collector {
    endpoint: String,
    heard: UnboundedReceiver<(Resource, Span)>,
}

impl Collector {
    async fn start() -> Self {
        let (told, heard) = unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Told(told)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Collector { endpoint, heard }
    }

    /// Everything up to the span of a task.
    async fn tree(&mut self) -> Vec<(Resource, Span)> {
        let mut spans = Vec::new();
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            spans.push(heard.expect("a span in time").expect("the collector lives"));
            if spans.last().is_some_and(|(_, span)| span.name == "hustings.task") {
                return spans;
            }
        }
    }
}

fn traced(name: &str, cpu: f64, endpoint: &str) -> NodeOptions {
    NodeOptions {
        otlp: Some(endpoint.to_owned()),
        runner_argv: own_argv(),
        runner_env: vec![("HUSTINGS_TEST_CHILD".to_owned(), "plain".to_owned())],
        ..options(name, cpu)
    }
}

fn submit(client: &Client, payload: &'static str, trace: Option<TraceContext>) -> Arc<Handle> {
    let source = FunctionSource::Reference("app:echo".to_owned());
    let hash = client.function("app:echo", source).unwrap();
    let plain = request("app:echo", Some(hash));
    let payload = payload.as_bytes().into();
    let task = TaskRequest { payload, trace: trace.map(Box::new), ..plain };
    client.submit(task, None).unwrap()
}

async fn outcome(handle: Arc<Handle>) -> Outcome {
    let waiting = handle.clone();
    assert!(tokio::task::spawn_blocking(move || waiting.wait(PATIENCE)).await.unwrap());
    match handle.settled() {
        Some(Settled::Outcome { outcome, .. }) => outcome.clone(),
        other => panic!("no outcome: {other:?}"),
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|known| known.key == key);
    match found.and_then(|known| known.value.as_ref()).and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

fn ids(span: &Span) -> (u128, u64) {
    let trace = span.trace_id.as_slice().try_into().unwrap();
    (u128::from_be_bytes(trace), u64::from_be_bytes(span.span_id.as_slice().try_into().unwrap()))
}

fn parent(span: &Span) -> u64 {
    u64::from_be_bytes(span.parent_span_id.as_slice().try_into().unwrap())
}

fn named<'a>(spans: &'a [(Resource, Span)], name: &str) -> Vec<&'a Span> {
    spans.iter().map(|(_, span)| span).filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_a_tree_from_its_caller_to_its_callback() {
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint.clone();
    let cluster = Cluster::found(3, |name, cpu| traced(name, cpu, &endpoint)).await;
    let leader = cluster.leader().await;
    let client = cluster.client().await;
    // Untraced, and of a trace that nobody records: nothing is told of them.
    outcome(submit(&client, "1", None)).await;
    outcome(submit(&client, "1", Some(TraceContext { flags: 0, ..CALLER }))).await;
    let Outcome::Value(answer) = outcome(submit(&client, "trace", Some(CALLER))).await else {
        panic!("no value")
    };
    let spans = collector.tree().await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let [whole] = named(&spans, "hustings.task")[..] else { panic!("{spans:#?}") };
    assert_eq!((ids(whole).0, parent(whole)), (CALLER.trace, CALLER.span));
    assert_eq!(text(&whole.attributes, "hustings.outcome"), "succeeded");
    assert_eq!(text(&whole.attributes, "messaging.system"), "hustings");
    assert_eq!(text(&whole.attributes, "messaging.destination.name"), "app:echo");
    for (resource, span) in &spans {
        assert_eq!(text(&resource.attributes, "service.name"), "hustings");
        assert_eq!(text(&resource.attributes, "service.instance.id"), leader.name());
        assert_eq!(ids(span).0, CALLER.trace);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= whole.end_time_unix_nano);
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code), StatusCode::Unset as i32);
        if span.name != "hustings.task" {
            assert_eq!(parent(span), ids(whole).1, "{span:#?}");
        }
    }
    let [run] = named(&spans, "hustings.run")[..] else { panic!("{spans:#?}") };
    assert_eq!(run.kind, SpanKind::Consumer as i32);
    assert!(["n1", "n2", "n3"].contains(&text(&run.attributes, "hustings.node")));
    // The callback's own spans are children of its attempt.
    let inside = TraceContext { span: ids(run).1, ..CALLER };
    assert_eq!(std::str::from_utf8(&answer.body).unwrap(), inside.to_string());
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_of_a_task_that_kills_its_runners_is_told() {
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint.clone();
    let cluster = Cluster::found(1, |name, cpu| traced(name, cpu, &endpoint)).await;
    let client = cluster.client().await;
    let Outcome::Lost(_) = outcome(submit(&client, "exit 7", Some(CALLER))).await else {
        panic!("it has no outcome")
    };
    let spans = collector.tree().await;
    let [whole] = named(&spans, "hustings.task")[..] else { panic!("{spans:#?}") };
    let runs = named(&spans, "hustings.run");
    assert_eq!((runs.len(), named(&spans, "hustings.assign").len()), (3, 3), "{spans:#?}");
    for run in &runs {
        assert_eq!(text(&run.attributes, "hustings.outcome"), "crashed");
        assert_eq!(parent(run), ids(whole).1);
    }
    let status = whole.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "lost"));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_sends_its_last_spans_and_one_without_collector_works_on() {
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint.clone();
    let cluster = Cluster::found(1, |name, cpu| traced(name, cpu, &endpoint)).await;
    let client = cluster.client().await;
    let handles: Vec<_> = (0..100).map(|_| submit(&client, "1", Some(CALLER))).collect();
    for handle in handles {
        outcome(handle).await;
    }
    client.close().await;
    assert!(cluster.nodes[0].stop(PATIENCE).await);
    let mut whole = 0;
    while let Ok((_, span)) = collector.heard.try_recv() {
        whole += usize::from(span.name == "hustings.task");
    }
    assert_eq!(whole, 100);

    // Nobody listens there.
    let deaf = Cluster::found(1, |name, cpu| traced(name, cpu, "http://127.0.0.1:9")).await;
    let client = deaf.client().await;
    assert!(matches!(outcome(submit(&client, "1", Some(CALLER))).await, Outcome::Value(_)));
    client.close().await;
    let bad = traced("bad", 0.5, "127.0.0.1:4317");
    let refused = Node::bind(bad).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.starts_with("otlp: \"127.0.0.1:4317\" is no collector's address"), "{refused}");
}
