//! What runs wait for a person to decide: the first decision counts, from whatever device.

use std::collections::VecDeque;
use std::fmt;

use serde_json::value::RawValue;

use super::{Control, Manager};
use crate::error::ErrorCode;
use crate::id::{ApprovalId, RunId, UserId};
use crate::protocol::ReplyError;
use crate::stream::{DECIDED_KEPT, RunError, RunEvent};
use crate::time::Now;

/// A person's answer to what a run waits for.
#[derive(Clone)]
pub struct Decision {
    /// The application's word, such as `allow` or `deny`.
    pub decision: String,
    /// For the application, as the client sent it. It stands in no event.
    pub data: Option<Box<RawValue>>,
}

/// What a person decides is a payload.
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decision(..)")
    }
}

impl PartialEq for Decision {
    fn eq(&self, other: &Self) -> bool {
        let json = |decision: &Self| decision.data.as_ref().map(|data| data.get().to_owned());
        self.decision == other.decision && json(self) == json(other)
    }
}

impl Decision {
    pub(super) fn bytes(&self) -> usize {
        self.decision.len() + self.data.as_ref().map_or(0, |data| data.get().len())
    }
}

/// The latest approvals that ended runs had decided, so that a decision that comes too late is told so.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided(VecDeque<ApprovalId>);

impl Decided {
    pub(super) fn remember(&mut self, approvals: impl IntoIterator<Item = ApprovalId>) {
        self.0.extend(approvals);
        while self.0.len() > DECIDED_KEPT {
            self.0.pop_front();
        }
    }

    pub(super) fn contains(&self, approval: &ApprovalId) -> bool {
        self.0.contains(approval)
    }
}

impl<H: Clone> Manager<H> {
    /// Decides what a run of the user waits for: appends `agent_resumed` and tells the run's producer.
    ///
    /// # Errors
    /// `not_found` where no run of this user has asked, `already_decided` where somebody was first, `too_large` where the
    /// decision does not fit in an event. Nothing is appended then.
    pub fn approve(
        &mut self,
        now: Now,
        id: &UserId,
        approval: &ApprovalId,
        decision: Decision,
    ) -> Result<(), ReplyError> {
        self.assert_drained();
        let run = self.run_that_waits(id, approval)?;
        let event = RunEvent::Resumed { approval_id: approval.clone(), decision: Some(decision.decision.clone()) };
        self.run_event(now, id, run, event).map_err(|error| {
            let too_large = matches!(error, RunError::TooLarge { .. });
            ReplyError::new(if too_large { ErrorCode::TooLarge } else { ErrorCode::RunOrder }, error.to_string())
        })?;
        if let Some(open) = self.users.get_mut(id).and_then(|user| user.runs.get_mut(&run)) {
            let control = Control::Decided { run, approval_id: approval.clone(), decision };
            self.outputs.extend(open.tell(control));
        }
        Ok(())
    }

    fn run_that_waits(&self, id: &UserId, approval: &ApprovalId) -> Result<RunId, ReplyError> {
        let not_found = || ReplyError::new(ErrorCode::NotFound, "no such approval is open");
        let user = self.users.get(id).ok_or_else(not_found)?;
        let mut known = user.has_decided(approval);
        for (run, open) in &user.runs {
            if open.machine.waits_for() == Some(approval) {
                return Ok(*run);
            }
            known |= open.machine.knows(approval);
        }
        Err(if known { ReplyError::new(ErrorCode::AlreadyDecided, "another decision came first") } else { not_found() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_counts_in_a_mailbox_as_its_word_and_its_data() {
        let bytes = |data: Option<&str>| {
            let data = data.map(|data| RawValue::from_string(data.to_owned()).unwrap());
            let decision = Decision { decision: "allow".into(), data };
            Control::Decided { run: RunId::from_bits(1), approval_id: ApprovalId::new("a").unwrap(), decision }.bytes()
        };
        assert_eq!([bytes(Some("[1,2,3]")) - bytes(None), bytes(None) - 256], [7, 5]);
    }
}
