//! What operators see and do: the server as a whole, one user, and the end of connections.

use std::collections::BTreeMap;

use super::publisher::{Outcome, Publisher, not_found};
use super::{Hub, UserStatus};
use crate::auth::is_operator;
use crate::error::ErrorCode;
use crate::id::{ConnectionId, UserId};
use crate::metrics::{Family, Sample};
use crate::protocol::{
    ConnectionReport, DependencyReport, Labels, MetricReport, ReplyError, ReplyOk, RunReport, SampleReport,
    ServerReport, UserReport,
};
use crate::time::Clock;

impl Hub {
    /// Ends one connection of a user's devices, or all of them, with 4005: they come back with back-off and resume. Answers how
    /// many that were; producers are none.
    ///
    /// Whoever shall not come back is revoked: [`Hub::revoke`].
    pub fn disconnect(&self, user: &UserId, connection: Option<ConnectionId>) -> u32 {
        self.act(user, |shard, now| shard.disconnect(now, user, connection))
    }

    /// The server as operators see it: nothing of what was said, no user and no secret.
    pub fn server_report(&self) -> ServerReport {
        let status = self.level_status();
        let dependencies = status.dependencies.into_iter().map(|(name, report)| DependencyReport {
            name: name.as_str().to_owned(),
            level: report.level,
            reason: report.reason.into(),
        });
        ServerReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.inner.started.as_secs_f64(),
            time: self.now().unix.as_secs_f64(),
            draining: self.is_draining(),
            level: status.notice.level,
            reason: status.notice.reason.to_string(),
            ordered: status.order,
            dependencies: dependencies.collect(),
            metrics: self.metrics().into_iter().flat_map(reports).collect(),
        }
    }

    /// A user as operators and back ends see it: who is connected, and what runs.
    pub fn user_report(&self, user: &UserId) -> UserReport {
        let UserStatus { head, devices, runs } = self.user_status(user);
        let connections = devices.into_iter().map(|device| ConnectionReport {
            connection_id: device.connection,
            session_id: device.session,
            acked: device.acked,
            behind: device.behind,
        });
        let runs = runs.into_iter().map(|run| RunReport {
            run_id: run.run,
            thread_id: run.thread,
            agent_name: run.agent_name.into_string(),
            status: run.status,
            run_seq: run.run_seq,
            lease_left: run.lease_left.map(|left| left.as_secs_f64()),
            cancel_requested_by: run.cancel_requested_by.map(str::into_string),
        });
        UserReport { user_id: user.sub().to_owned(), head, connections: connections.collect(), runs: runs.collect() }
    }
}

impl Publisher<'_> {
    /// The server, or one user of the token's tenant.
    pub(super) fn inspect(&self, sub: Option<&str>) -> Outcome {
        let Some(sub) = sub else {
            self.operator()?;
            return Ok(ReplyOk::Server(Box::new(self.hub.server_report())));
        };
        let user = self.administered(sub)?;
        Ok(ReplyOk::User(Box::new(self.hub.user_report(&user))))
    }

    /// Ends connections of a user of the token's tenant.
    pub(super) fn disconnect(&self, sub: &str, connection: Option<ConnectionId>) -> Outcome {
        let user = self.administered(sub)?;
        Ok(ReplyOk::Closed { closed: self.hub.disconnect(&user, connection) })
    }

    /// Begins the shutdown.
    pub(super) fn drain(&self) -> Outcome {
        self.operator()?;
        self.hub.begin_shutdown();
        Ok(ReplyOk::Done)
    }

    fn operator(&self) -> Result<(), ReplyError> {
        if is_operator(self.scopes, self.owner) {
            return Ok(());
        }
        Err(ReplyError::new(ErrorCode::NotFound, "this needs a token with the scope `admin` that names no tenant"))
    }

    fn administered(&self, sub: &str) -> Result<UserId, ReplyError> {
        if self.scopes.is_admin() { self.named(sub) } else { Err(not_found()) }
    }
}

/// A family's samples, each suffix as a metric of its own.
fn reports(family: Family) -> Vec<MetricReport> {
    let mut reports: Vec<MetricReport> = Vec::new();
    for Sample { suffix, labels, value } in family.samples {
        let name = format!("{}{suffix}", family.name);
        let labels: BTreeMap<_, _> = labels.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let sample = SampleReport { labels: (!labels.is_empty()).then_some(Labels(labels)), value };
        match reports.last_mut().filter(|last| last.name == name) {
            Some(last) => last.samples.push(sample),
            None => reports.push(MetricReport { name, samples: vec![sample] }),
        }
    }
    reports
}
