//! What the hub tells of itself: the table of its metrics.

use std::time::Duration;

use super::admission::Rejected;
use super::{Hub, Mail};
use crate::connection::Connection;
use crate::error::CloseReason;
use crate::id::UserId;
use crate::level::ServiceLevel;
use crate::manager::{Manager, Survey};
use crate::metrics::{Aside, Family, Kind, RequestKind, ShardTally};
use crate::protocol::EventKind;
use crate::sync::Tally;
use crate::time::{Clock, Timestamp};

/// How many users are looked at under one lock.
const SURVEY_BATCH: usize = 256;
/// How long one look at everybody serves all who ask.
const SURVEY_LASTS: Duration = Duration::from_millis(500);

/// How sockets are admitted or not.
const ADMISSIONS: [&str; 5] = ["admitted", "full", "unauthenticated", "address_full", "address_rate"];
/// The statuses of refused upgrades.
const REFUSALS: [(u16, &str); 8] =
    [(400, "400"), (401, "401"), (403, "403"), (404, "404"), (405, "405"), (426, "426"), (431, "431"), (503, "503")];
/// What a connection that was accepted ended with: a reason, or none where the line broke.
const ENDS: usize = CloseReason::ALL.len() + 1;

/// What happens outside of the shards.
#[derive(Default)]
pub(super) struct Tallies {
    sockets: Tally<{ ADMISSIONS.len() }>,
    refusals: Tally<{ REFUSALS.len() }>,
    ends: Tally<ENDS>,
}

impl Hub {
    /// What the hub counts and measures, as one table; `core/PROTOCOL.md` says what each metric means. Its labels name no user,
    /// run, topic or address.
    ///
    /// Numbers that rise were all counted by the moment in which they are read, and not all of one moment. What is held is looked
    /// at a part at a time and at most twice a second, so it may be half a second old.
    pub fn metrics(&self) -> Vec<Family> {
        let mut table = Table::default();
        let mut tally = ShardTally::default();
        for shard in 0..self.inner.shards.len() {
            tally += self.shard(shard).tally();
        }
        self.put_service(&mut table);
        self.put_sockets(&mut table);
        self.put_held(&mut table, &self.survey());
        put_counted(&mut table, &tally);
        table.0
    }

    pub(crate) fn opens_metrics(&self) -> bool {
        self.inner.open_metrics
    }

    /// What the hub holds, looked at a part at a time: at most half a second old.
    pub fn survey(&self) -> Survey {
        let now = self.now().at;
        let last = *self.inner.surveyed.lock();
        if let Some((at, Aside(survey))) = last
            && now.saturating_since(at) < SURVEY_LASTS
        {
            return survey;
        }
        let survey = self.look_at_all();
        *self.inner.surveyed.lock() = Some((now, Aside(survey)));
        survey
    }

    fn look_at_all(&self) -> Survey {
        let mut survey = Survey::default();
        for shard in 0..self.inner.shards.len() {
            self.shard(shard).survey_whole(&mut survey);
            let mut last = None;
            loop {
                last = self.survey_some(shard, last.as_ref(), &mut survey);
                if last.is_none() {
                    break;
                }
            }
        }
        let producers = self.inner.producers.lock().handles();
        producers.iter().for_each(|mail| survey.count_queue(mail.bytes() as u64));
        survey
    }

    fn survey_some(&self, shard: usize, last: Option<&UserId>, survey: &mut Survey) -> Option<UserId> {
        let manager: &Manager<Mail> = &self.shard(shard);
        manager.survey_some(last, SURVEY_BATCH, survey, |mail| mail.bytes())
    }

    /// Counts the end of a socket, where it asked for a WebSocket.
    pub(super) fn count_end(&self, connection: &Connection) {
        let tallies = &self.inner.tallies;
        match connection.answered() {
            None => {}
            Some(101) => {
                let reason = connection.close_reason();
                let at = reason.and_then(|reason| CloseReason::ALL.iter().position(|one| *one == reason));
                tallies.ends.count(at.unwrap_or(CloseReason::ALL.len()));
            }
            Some(status) => {
                REFUSALS
                    .iter()
                    .position(|(one, _)| *one == status)
                    .into_iter()
                    .for_each(|at| tallies.refusals.count(at));
            }
        }
    }

    /// Counts a socket, let in or not, and passes on what became of it.
    pub(super) fn count_admission<T>(&self, outcome: Result<T, Rejected>) -> Result<T, Rejected> {
        self.inner.tallies.sockets.count(match &outcome {
            Ok(_) => 0,
            Err(Rejected::Full) => 1,
            Err(Rejected::Unauthenticated) => 2,
            Err(Rejected::AddressFull) => 3,
            Err(Rejected::AddressRate) => 4,
        });
        outcome
    }

    fn put_service(&self, table: &mut Table) {
        let status = self.level_status();
        table.gauge("trunkline_build_info", "The version that runs.", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let started = self.inner.started.as_secs_f64();
        table.gauge("trunkline_start_time_seconds", "When the hub was made, since 1970.", &[], started);
        table.gauge("trunkline_draining", "Whether the shutdown has begun.", &[], f64::from(self.is_draining()));
        let level = table.family("trunkline_service_level", "1 for the level in force.", Kind::Gauge);
        for one in [ServiceLevel::Normal, ServiceLevel::Degraded, ServiceLevel::Emergency] {
            level.add(&[("level", one.as_str())], f64::from(one == status.notice.level));
        }
        let unwell = status.dependencies.len() as f64;
        table.gauge("trunkline_dependencies_unwell", "Dependencies that are reported not to be well.", &[], unwell);
    }

    fn put_sockets(&self, table: &mut Table) {
        let (open, strangers) = (self.sockets(), self.unauthenticated());
        let sockets = table.family("trunkline_sockets", "Open sockets.", Kind::Gauge);
        sockets.add(&[("state", "unauthenticated")], strangers as f64);
        sockets.add(&[("state", "authenticated")], open.saturating_sub(strangers) as f64);
        let limits = self.limits();
        let bounds = table.family("trunkline_sockets_limit", "How many sockets may be open.", Kind::Gauge);
        bounds.add(&[("state", "unauthenticated")], limits.unauthenticated as f64);
        bounds.add(&[("state", "all")], limits.connections as f64);
        let tallies = &self.inner.tallies;
        let came = table.family("trunkline_sockets_total", "Sockets that came, let in or not.", Kind::Counter);
        for (outcome, count) in ADMISSIONS.into_iter().zip(tallies.sockets.get()) {
            came.add(&[("outcome", outcome)], count as f64);
        }
        let help = "Requests for a WebSocket that were refused, by HTTP status.";
        let refused = table.family("trunkline_upgrades_refused_total", help, Kind::Counter);
        for ((_, status), count) in REFUSALS.into_iter().zip(tallies.refusals.get()) {
            refused.add(&[("status", status)], count as f64);
        }
        let help = "Connections that have ended, by close code; none where the line broke.";
        let closes = table.family("trunkline_closes_total", help, Kind::Counter);
        let counts = tallies.ends.get();
        for (reason, count) in CloseReason::ALL.iter().zip(counts) {
            closes.add_owned([("code", reason.code().to_string()), ("reason", reason.name().to_owned())], count as f64);
        }
        closes.add(&[("code", "none"), ("reason", "broken")], counts[CloseReason::ALL.len()] as f64);
    }

    fn put_held(&self, table: &mut Table, survey: &Survey) {
        let connections = table.family("trunkline_connections", "Who is connected.", Kind::Gauge);
        connections.add(&[("kind", "device")], survey.devices as f64);
        connections.add(&[("kind", "producer")], self.inner.producers.lock().len() as f64);
        let help = "Users with a device, and others whose log or run is held.";
        let users = table.family("trunkline_users", help, Kind::Gauge);
        users.add(&[("state", "connected")], survey.connected_users as f64);
        users.add(&[("state", "kept")], survey.kept_users as f64);
        table.gauge("trunkline_topics", "Topics that are held.", &[], survey.topics as f64);
        table.gauge("trunkline_runs_open", "Runs without a last event.", &[], survey.runs as f64);
        table.gauge("trunkline_requests_open", "Requests that wait for an answer.", &[], survey.requests as f64);
        let lagging = self.inner.lagging.used() as f64;
        let help = "Streams of connections that lag, whose texts are merged.";
        table.gauge("trunkline_lagging_streams", help, &[], lagging);
        table.gauge("trunkline_queue_bytes", "Bytes in all control queues.", &[], survey.queued as f64);
        table.gauge("trunkline_queue_bytes_max", "Bytes in the fullest of them.", &[], survey.most_queued as f64);
        let (limits, inner) = (self.limits(), &self.inner);
        let memory = [
            ("logs", survey.log_bytes as f64, limits.total_log_bytes),
            ("snapshots", inner.snapshots.used() as f64, limits.total_snapshot_bytes),
            ("keys", survey.key_bytes as f64, limits.total_dedup_bytes),
            ("inbound", inner.inbound.used() as f64, limits.total_inbound_bytes),
        ];
        let used = table.family("trunkline_memory_bytes", "Bytes in use, by what for.", Kind::Gauge);
        memory.iter().for_each(|(kind, bytes, _)| used.add(&[("kind", kind)], *bytes));
        let budget = table.family("trunkline_memory_limit_bytes", "How many there may be.", Kind::Gauge);
        memory.iter().for_each(|(kind, _, limit)| budget.add(&[("kind", kind)], *limit as f64));
    }
}

fn put_counted(table: &mut Table, tally: &ShardTally) {
    let help = "How streams were continued.";
    let resumes = table.family("trunkline_resumes_total", help, Kind::Counter);
    for (stream, is_topic) in [("user", false), ("topic", true)] {
        for (outcome, count) in tally.resumes.iter(is_topic) {
            resumes.add(&[("stream", stream), ("outcome", outcome.as_str())], count as f64);
        }
    }
    let events = table.family("trunkline_events_total", "Events that entered a log.", Kind::Counter);
    tally.events.iter().for_each(|(kind, count)| events.add(&[("type", kind.as_str())], count as f64));
    let ended = table.family("trunkline_runs_ended_total", "Runs that have ended.", Kind::Counter);
    for (kind, count) in tally.events.iter() {
        let outcome = match kind {
            EventKind::AgentCompleted => "completed",
            EventKind::AgentFailed => "failed",
            EventKind::AgentCancelled => "cancelled",
            EventKind::UserMessage
            | EventKind::AgentStarted
            | EventKind::AgentThinking
            | EventKind::ToolExecuting
            | EventKind::ToolCompleted
            | EventKind::AgentDelta
            | EventKind::AgentSuspended
            | EventKind::AgentResumed
            | EventKind::Custom => continue,
        };
        ended.add(&[("outcome", outcome)], count as f64);
    }
    let requests = table.family("trunkline_requests_total", "What users have asked for.", Kind::Counter);
    for (kind, count) in RequestKind::ALL.into_iter().zip(tally.requests) {
        requests.add(&[("kind", kind.as_str())], count as f64);
    }
    let help = "Events that connections have taken from logs.";
    table.family("trunkline_deliveries_total", help, Kind::Counter).add(&[], tally.deliveries as f64);
    let help = "Events that made room for others before their time.";
    table.family("trunkline_shed_total", help, Kind::Counter).add(&[], tally.shed as f64);
    let help = "From an event's entering a log to a connection's taking it, where that was the newest.";
    table.family("trunkline_delivery_seconds", help, Kind::Histogram).add_histogram(&tally.delivery, 1e6);
    let help = "How far behind the end of a stream a connection was when it took events.";
    table.family("trunkline_behind_events", help, Kind::Histogram).add_histogram(&tally.behind, 1.0);
}

/// Families in the order in which they are shown.
#[derive(Default)]
struct Table(Vec<Family>);

impl Table {
    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        self.0.push(Family::new(name, help, kind));
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &'static str)], value: f64) {
        self.family(name, help, Kind::Gauge).add(labels, value);
    }
}

/// When everybody was last looked at, and what there was.
pub(super) type Surveyed = Option<(Timestamp, Aside<Survey>)>;
