//! What a back end of OpenTelemetry gets to see: spans under the names and attributes of its conventions, nested as the work is, and
//! nothing of what was said.

use std::collections::BTreeMap;

use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;
use trunkline_core::hub::RunOptions;
use trunkline_core::id::{ThreadId, UserId};
use trunkline_core::limits::Limits;
use trunkline_tests::producer::Producer;
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{Device, STEP, until};

fn attributes(span: &SpanData) -> BTreeMap<String, String> {
    span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect()
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let known: Vec<_> = spans.iter().map(|span| &span.name).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} among {known:?}"))
}

fn has(span: &SpanData, expected: &[(&str, &str)]) {
    let found = attributes(span);
    for (key, value) in expected {
        assert_eq!(found.get(*key).map(String::as_str), Some(*value), "{key} of {}: {found:?}", span.name);
    }
}

async fn exported(exporter: &InMemorySpanExporter, count: usize) -> Vec<SpanData> {
    until("the spans to end", STEP, || exporter.get_finished_spans().unwrap().len() >= count).await;
    exporter.get_finished_spans().unwrap()
}

/// The provider exports each span as it ends; it is the process' own, so that all is one test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_those_of_opentelemetrys_conventions_and_hold_nothing_of_what_was_said() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let bridge = tracing_opentelemetry::layer().with_tracer(provider.tracer("trunkline"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(bridge)).unwrap();
    let mut server = InProcess::start(Limits::default()).await;

    // A message, the run that answers it and the tool of that: one trace.
    let mut ann = Device::open(server.addr, &token("ann")).await;
    let events = ann.golden_path().await;
    let spans = exported(&exporter, 3).await;
    let (message, run, tool) =
        (named(&spans, "user_message"), named(&spans, "invoke_agent tester"), named(&spans, "execute_tool calculator"));
    assert_eq!((&message.span_kind, &run.span_kind), (&SpanKind::Server, &SpanKind::Internal));
    assert_eq!((message.status.clone(), run.status.clone(), tool.status.clone()), (Status::Ok, Status::Ok, Status::Ok));
    assert_eq!((run.parent_span_id, tool.parent_span_id), (message.span_context.span_id(), run.span_context.span_id()));
    let run_id = events.last().unwrap()["run_id"].as_str().unwrap();
    has(message, &[("user.id", "ann"), ("trunkline.run.id", run_id)]);
    let known = [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.agent.name", "tester"),
        ("user.id", "ann"),
        ("trunkline.run.id", run_id),
        ("trunkline.run.outcome", "completed"),
    ];
    has(run, &known);
    has(tool, &[("gen_ai.operation.name", "execute_tool"), ("gen_ai.tool.name", "calculator")]);

    // The connection ends with what it was closed for.
    ann.send(&json!({"type": "ping"})).await;
    drop(ann);
    exporter.reset();
    let bob = Device::open(server.addr, &token("bob")).await;
    let hub = server.hub.clone();
    let mut bob = bob;
    hub.disconnect(&UserId::new(None, "bob").unwrap(), None);
    assert_eq!(bob.closed().await, 4005);
    drop(bob);
    let of = |spans: &[SpanData], user: &str| {
        spans.iter().find(|span| span.name == "websocket" && attributes(span)["user.id"] == user).cloned()
    };
    until("both to end", STEP, || {
        let spans = exporter.get_finished_spans().unwrap();
        of(&spans, "bob").is_some()
    })
    .await;
    let connection = of(&exporter.get_finished_spans().unwrap(), "bob").unwrap();
    assert_eq!(connection.span_kind, SpanKind::Server);
    has(&connection, &[("trunkline.close.code", "4005"), ("error.type", "disconnected"), ("trunkline.resume", "live")]);

    // A back end over the wire has the same spans; a tool that fails says so.
    exporter.reset();
    let mut agent = Producer::come(server.addr, "agent", &["carol"]).await;
    let mut carol = Device::open(server.addr, &token("carol")).await;
    let started = json!({"type": "run_start", "user_id": "carol", "thread_id": "t1", "agent_name": "researcher"});
    let run_id = agent.ask(started).await["run_id"].as_str().unwrap().to_owned();
    let tool =
        json!({"type": "tool_executing", "tool_call_id": "c1", "tool_name": "search", "parameters": {"q": "s3cret"}});
    agent.receipt(&run_id, 1, tool).await;
    let ended =
        json!({"type": "tool_completed", "tool_call_id": "c1", "results": null, "success": false, "error": "s3cret"});
    agent.receipt(&run_id, 2, ended).await;
    let failed = json!({"type": "agent_failed", "reason": "timeout", "error": "s3cret"});
    agent.receipt(&run_id, 3, failed).await;
    carol.finish(&run_id).await;
    let spans = exported(&exporter, 2).await;
    let (run, tool) = (named(&spans, "invoke_agent researcher"), named(&spans, "execute_tool search"));
    assert_eq!(tool.parent_span_id, run.span_context.span_id());
    has(run, &[("trunkline.run.outcome", "failed"), ("error.type", "timeout"), ("gen_ai.conversation.id", "t1")]);
    has(tool, &[("error.type", "tool_failed"), ("gen_ai.tool.call.id", "c1")]);
    assert!(matches!(run.status, Status::Error { .. }) && matches!(tool.status, Status::Error { .. }));

    // A run that the application starts is a part of what it is in.
    exporter.reset();
    let outer = tracing::info_span!("nightly report");
    let run = outer.in_scope(|| {
        let thread = ThreadId::new("t").unwrap();
        server.hub.start_run(&UserId::new(None, "dave").unwrap(), thread, RunOptions::named("reporter")).unwrap()
    });
    run.thinking("of s3cret things").unwrap();
    drop(run);
    drop(outer);
    let spans = exported(&exporter, 2).await;
    let run = named(&spans, "invoke_agent reporter");
    assert_eq!(run.parent_span_id, named(&spans, "nightly report").span_context.span_id());
    has(run, &[("error.type", "producer_lost"), ("trunkline.run.outcome", "failed")]);

    server.stop();
    let shown = format!("{:?}", exporter.get_finished_spans().unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
}
