//! Metrics, health and traces: how operators see what a server does.
//!
//! # Metrics
//!
//! [`Hub::metrics`] is one table of everything that is counted and measured. `GET /metrics` shows it in the text format of
//! Prometheus, on every server that mounts [`Hub::api`](crate::api); `core/PROTOCOL.md` says what each metric means. It takes a token
//! with the scope `admin` that names no tenant, unless [`HubConfig::open_metrics`] opens it:
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: trunkline
//!     authorization: { credentials_file: /etc/prometheus/trunkline.token }
//!     static_configs: [{ targets: ["trunkline:8787"] }]
//! ```
//!
//! `core/grafana/trunkline.json` is a dashboard for Grafana on these metrics: import it, and pick the data source.
//!
//! No label names a user, a run, a topic or an address, so the number of series does not grow with those: it is below 200 for a server.
//! Counting costs a few additions under a lock that is held anyway. What is held is looked at in parts of 256 users, and at most
//! twice a second, however many ask.
//!
//! # Health
//!
//! `GET /healthz` and `GET /readyz` answer with [`Health`]: a status, and why. The first is for whoever restarts a process, and never
//! fails; the second is for whoever sends connections to it, and fails once the shutdown has begun.
//!
//! # The operators' page
//!
//! The program serves it at `/operators`, for tokens with the scope `admin`. It is fed by the frame `inspect`, over the same WebSocket as
//! everything else, so another page can be, too.
//!
//! # Traces
//!
//! Spans of the crate `tracing` under the target `trunkline`, all of the level `DEBUG`: with nobody listening to that level they cost
//! a comparison. Names and attributes are those of OpenTelemetry's semantic conventions, where there are some; the fields `otel.*` are
//! for a bridge such as `tracing-opentelemetry`, which makes them the span's name, kind and status.
//!
//! | span | `otel.kind` | from, to | attributes |
//! |---|---|---|---|
//! | `websocket` | server | a connection's welcome, its end | `user.id`, `session.id`, `trunkline.connection.id`, `trunkline.resume` (the mode of the user's own stream), `trunkline.producer`, `trunkline.close.code`, `error.type` (the name of the close code, or `broken`) |
//! | `user_message`, `command` | server | a request's arrival at the application, its answer | `user.id`, `gen_ai.conversation.id` (the thread), `trunkline.run.id`, `error.type` (the code of the refusal) |
//! | `invoke_agent {agent}` | internal | a run's start, its last event | `gen_ai.operation.name`, `gen_ai.agent.name`, `gen_ai.conversation.id`, `user.id`, `trunkline.run.id`, `trunkline.run.parent_id`, `trunkline.run.outcome`, `error.type` (the reason of the failure) |
//! | `execute_tool {tool}` | internal | a tool call, its end | `gen_ai.operation.name`, `gen_ai.tool.name`, `gen_ai.tool.call.id`, `error.type` |
//!
//! Each has `trunkline.tenant` where the user has one. A tool call is a part of its run, the run that answers a message is a part of the message's span, and a run that
//! an application starts by itself is a part of whatever span it is in. [`Run::span`], [`ToolCall::span`] and
//! [`UserMessage::span`] are there for the application's own work:
//!
//! ```
//! # use trunkline_core::hub::{Request, Run, UserMessage};
//! fn answer(message: UserMessage) -> Option<Run> {
//!     let span = message.span().clone();
//!     // What the model and the tools are asked in here is a part of the message's trace.
//!     span.in_scope(|| message.start("assistant").ok())
//! }
//! ```
//!
//! Of producers over the wire the runs and tool calls are traced where they arrive; what a back end does for them is in its own traces. No
//! span holds what was said, asked, answered or thought, and no token.
//!
//! [`Hub::metrics`]: crate::hub::Hub::metrics
//! [`HubConfig::open_metrics`]: crate::hub::HubConfig::open_metrics
//! [`Health`]: crate::hub::Health
//! [`Run::span`]: crate::hub::Run::span
//! [`ToolCall::span`]: crate::hub::ToolCall::span
//! [`UserMessage::span`]: crate::hub::UserMessage::span
