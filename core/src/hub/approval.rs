//! The producer's face of what a run waits for.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::run::Inner;
use crate::id::ApprovalId;
use crate::manager::Decision;
use crate::protocol::Receipt;
use crate::stream::{RunError, RunEvent};
use crate::sync::Arc;

/// What a run waits for, from [`Run::suspend`](super::Run::suspend). Dropped, it leaves the run suspended.
///
/// A cancellation is asked of a suspended run as of any other: wait for both, and end the run with whichever comes.
pub struct Approval {
    run: Arc<Inner>,
    id: ApprovalId,
}

impl Approval {
    pub(super) const fn new(run: Arc<Inner>, id: ApprovalId) -> Self {
        Self { run, id }
    }

    /// Its id, unique among the user's runs.
    pub const fn id(&self) -> &ApprovalId {
        &self.id
    }

    /// Waits for the decision, with which the run has been resumed already.
    ///
    /// # Errors
    /// When the run has ended.
    pub async fn decision(&self) -> Result<Decision, RunError> {
        poll_fn(|cx| self.poll_decision(cx)).await
    }

    /// As [`Approval::decision`], for callers that poll. One task may wait for anything of a run.
    pub fn poll_decision(&self, cx: &mut Context<'_>) -> Poll<Result<Decision, RunError>> {
        self.run.poll_signals(cx, |signals| match &signals.decision {
            Some((id, decision)) if *id == self.id => Some(Ok(decision.clone())),
            Some(_) | None => signals.ended.then_some(Err(RunError::Ended)),
        })
    }

    /// Goes on without a person, such as after a deadline of the application's own. A decision that comes later is
    /// answered with `already_decided`.
    ///
    /// # Errors
    /// When the run has ended, or somebody has decided: see [`Approval::decision`].
    pub fn resume(&self, decision: Option<String>) -> Result<Receipt, RunError> {
        self.run.event(RunEvent::Resumed { approval_id: self.id.clone(), decision })
    }
}

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Approval({:?})", self.id)
    }
}
