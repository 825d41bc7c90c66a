//! What operators see: the server as a whole, and one user. Nothing of what was said, and no secret.

use std::collections::BTreeMap;

use super::macros::record;
use super::over_http::written;
use super::position::Position;
use super::server::ServiceLevel;
use super::snapshot::RunStatus;
use super::wire::{Fault, Field, Object, Raw};
use super::writer::push_text;
use crate::id::{ConnectionId, RunId, SessionId, ThreadId};

record! {
    /// The server as it stands now.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ServerReport {
        /// The version that runs.
        version: String,
        /// When it was started, in seconds since 1970.
        started: f64,
        /// The moment of this report, in seconds since 1970.
        time: f64,
        /// Whether the shutdown has begun.
        draining: bool,
        /// The level of the service.
        level: ServiceLevel,
        /// Why it is so, for people.
        reason: String,
        /// What an operator ordered.
        ordered: Option<ServiceLevel>,
        /// Those that are reported not to be well.
        dependencies: Vec<DependencyReport>,
        /// What is counted and measured.
        metrics: Vec<MetricReport>,
    }
}

record! {
    /// A dependency that is not well.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DependencyReport {
        /// The application's name for it.
        name: String,
        /// The best level that can be given with it as it is.
        level: ServiceLevel,
        /// Why, for people.
        reason: String,
    }
}

record! {
    /// A metric under the name that it has over HTTP, too.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MetricReport {
        /// Which.
        name: String,
        /// Each of other labels.
        samples: Vec<SampleReport>,
    }
}

record! {
    /// One number of a metric.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SampleReport {
        /// Names and values; absent where there are none.
        labels: Option<Labels>,
        /// The number.
        value: f64,
    }
}

impl UserReport {
    /// As it stands in an answer over HTTP.
    pub(crate) fn encode(&self) -> String {
        written(self)
    }
}

/// The labels of a number.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels(pub BTreeMap<String, String>);

impl Field for Labels {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let object = Object::read(raw.get())?;
        let label = |(name, value): (&str, Raw<'_>)| Ok((name.to_owned(), String::read(value)?));
        object.iter().map(label).collect::<Result<_, _>>().map(Self)
    }
    fn write(&self, out: &mut String) {
        let mut before = '{';
        for (name, value) in &self.0 {
            out.push(before);
            push_text(out, name);
            out.push(':');
            push_text(out, value);
            before = ',';
        }
        if self.0.is_empty() {
            out.push(before);
        }
        out.push('}');
    }
}

record! {
    /// A user as it stands now.
    #[derive(Clone, Debug, PartialEq)]
    pub struct UserReport {
        /// Its subject.
        user_id: String,
        /// The end of its stream.
        head: Option<Position>,
        /// Who is connected.
        connections: Vec<ConnectionReport>,
        /// What runs.
        runs: Vec<RunReport>,
    }
}

record! {
    /// A connected device.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ConnectionReport {
        /// The socket.
        connection_id: ConnectionId,
        /// The device.
        session_id: SessionId,
        /// What it has acknowledged.
        acked: Option<Position>,
        /// How many events the stream's end is ahead of what it is known to have.
        behind: u64,
    }
}

record! {
    /// An open run.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RunReport {
        /// Which.
        run_id: RunId,
        /// Its conversation.
        thread_id: ThreadId,
        /// Who works.
        agent_name: String,
        /// Where it stands.
        status: RunStatus,
        /// The number of its last event.
        run_seq: u64,
        /// How long it lives without a word of its producer, in seconds; absent while a connection or the server holds it.
        lease_left: Option<f64>,
        /// Who asked for its end.
        cancel_requested_by: Option<String>,
    }
}
