//! What becomes of an event that breaks the order of its run: refused, repaired or flagged.
//!
//! Under every policy `agent_started` comes first, a terminal event last and once, and a call that never began does not
//! end. A repair adds only what the server knows to be so: that a call got no result, that nobody decided.

use super::{RunError, RunMachine};
use crate::id::{ApprovalId, PartId, ToolCallId};
use crate::limits::Limits;
use crate::protocol::{EventBody, OrderPolicy, RunEvent};
use crate::time::Timestamp;

/// What enters a run for one event of its producer.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What makes up for what was missing.
    pub before: Vec<EventBody>,
    /// The event; `None` where everything it says is there already.
    pub body: Option<EventBody>,
    /// Why it should not have come now, where it enters all the same.
    pub flaw: Option<String>,
}

/// Why an event may not come now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Disorder {
    ToolNotOpen { tool_call_id: ToolCallId },
    ToolOpen { tool_call_id: ToolCallId },
    Offset { part_id: PartId, end: u64 },
    Suspended { approval_id: ApprovalId },
    NotSuspended { approval_id: ApprovalId },
}

impl From<Disorder> for RunError {
    fn from(disorder: Disorder) -> Self {
        match disorder {
            Disorder::ToolNotOpen { tool_call_id } => Self::ToolNotOpen { tool_call_id },
            Disorder::ToolOpen { tool_call_id } => Self::ToolOpen { tool_call_id },
            Disorder::Offset { part_id, end } => Self::Offset { part_id, end },
            Disorder::Suspended { approval_id } => Self::Suspended { approval_id },
            Disorder::NotSuspended { approval_id } => Self::NotSuspended { approval_id },
        }
    }
}

/// How an event that may not come now is put right.
enum Amendment {
    /// By these before it.
    First(Vec<RunEvent>),
    /// By what of it is new.
    Instead(RunEvent),
}

/// An event has at most this many at once: a text that is partly known, a suspension, open calls.
const MAX_DISORDERS: usize = 3;

impl RunMachine {
    /// What enters for `event` under a policy. The run is as before; [`RunMachine::commit`] each of it in order.
    ///
    /// # Errors
    /// When the event may not come now and the policy does not help.
    pub fn plan(
        &self,
        now: Timestamp,
        event: RunEvent,
        policy: OrderPolicy,
        limits: &Limits,
    ) -> Result<Planned, RunError> {
        let Err(disorder) = self.check_order(&event) else {
            return Ok(Planned::only(self.build(now, event, limits)?));
        };
        match policy {
            OrderPolicy::Reject => Err(disorder.into()),
            OrderPolicy::Repair => self.repair(now, event, limits),
            OrderPolicy::Flag if self.is_readable(&event, &disorder) => {
                let flaw = Some(RunError::from(disorder).to_string());
                Ok(Planned { flaw, ..Planned::only(self.build(now, event, limits)?) })
            }
            OrderPolicy::Flag => Err(disorder.into()),
        }
    }

    fn repair(&self, now: Timestamp, mut event: RunEvent, limits: &Limits) -> Result<Planned, RunError> {
        if self.is_known(&event) {
            return Ok(Planned { before: Vec::new(), body: None, flaw: None });
        }
        let mut run = self.clone();
        let mut before = Vec::new();
        for _ in 0..MAX_DISORDERS {
            let Err(disorder) = run.check_order(&event) else { break };
            match run.amend(&event, &disorder).ok_or(disorder)? {
                Amendment::Instead(less) => event = less,
                Amendment::First(missing) => {
                    for missing in missing {
                        let body = run.prepare(now, missing, limits)?;
                        run.commit(now, &body);
                        before.push(body);
                    }
                }
            }
        }
        let body = Some(run.prepare(now, event, limits)?);
        Ok(Planned { before, body, flaw: None })
    }

    /// Whether everything that the event says is there already. Also while the run is suspended it then changes nothing:
    /// nobody's question is taken back for it.
    fn is_known(&self, event: &RunEvent) -> bool {
        match event {
            RunEvent::ToolCompleted { tool_call_id, .. } => self.has_call(tool_call_id) && !self.is_open(tool_call_id),
            RunEvent::Delta { part_id, .. } => {
                without_known(event, self.end_of(part_id)).is_some_and(|(_, text)| text.is_empty())
            }
            RunEvent::Thinking { .. }
            | RunEvent::ToolExecuting { .. }
            | RunEvent::Suspended { .. }
            | RunEvent::Resumed { .. }
            | RunEvent::Completed { .. }
            | RunEvent::Failed { .. }
            | RunEvent::Cancelled { .. } => false,
        }
    }

    fn amend(&self, event: &RunEvent, disorder: &Disorder) -> Option<Amendment> {
        match disorder {
            Disorder::Suspended { approval_id } => {
                Some(Amendment::First(vec![RunEvent::Resumed { approval_id: approval_id.clone(), decision: None }]))
            }
            Disorder::ToolOpen { .. } => {
                let without_result = |id: &ToolCallId| RunEvent::ToolCompleted {
                    tool_call_id: id.clone(),
                    results: None,
                    success: Some(false),
                    error: Some("the run ended before the call did".into()),
                };
                Some(Amendment::First(self.open_calls().map(without_result).collect()))
            }
            Disorder::Offset { end, .. } => {
                let (part_id, text) = without_known(event, *end)?;
                Some(Amendment::Instead(RunEvent::Delta { part_id: part_id.clone(), offset: None, text }))
            }
            Disorder::ToolNotOpen { .. } | Disorder::NotSuspended { .. } => None,
        }
    }

    /// Whether every reader can make sense of an event that enters all the same.
    fn is_readable(&self, event: &RunEvent, disorder: &Disorder) -> bool {
        match disorder {
            Disorder::ToolOpen { .. } => true,
            Disorder::ToolNotOpen { tool_call_id } => self.has_call(tool_call_id),
            Disorder::Suspended { .. } => match event {
                RunEvent::Thinking { .. } | RunEvent::ToolExecuting { .. } | RunEvent::Completed { .. } => true,
                RunEvent::ToolCompleted { tool_call_id, .. } => self.has_call(tool_call_id),
                RunEvent::Delta { offset, .. } => offset.is_none(),
                RunEvent::Suspended { .. }
                | RunEvent::Resumed { .. }
                | RunEvent::Failed { .. }
                | RunEvent::Cancelled { .. } => false,
            },
            Disorder::Offset { .. } | Disorder::NotSuspended { .. } => false,
        }
    }
}

/// What of a text goes beyond `end`, where it says that it begins there or before.
fn without_known(event: &RunEvent, end: u64) -> Option<(&PartId, String)> {
    let RunEvent::Delta { part_id, offset: Some(offset), text } = event else { return None };
    let known = usize::try_from(end.checked_sub(*offset)?).unwrap_or(usize::MAX);
    Some((part_id, text.chars().skip(known).collect()))
}

impl Planned {
    const fn only(body: EventBody) -> Self {
        Self { before: Vec::new(), body: Some(body), flaw: None }
    }

    /// Everything that enters, in its order, each with its flaw.
    pub fn bodies(&self) -> impl Iterator<Item = (&EventBody, Option<&str>)> {
        let event = self.body.iter().map(|body| (body, self.flaw.as_deref()));
        self.before.iter().map(|body| (body, None)).chain(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::id::RunId;
    use crate::protocol::EventKind;

    const NOW: Timestamp = Timestamp::from_micros(5_000);

    fn call(id: &str) -> ToolCallId {
        ToolCallId::new(id).unwrap()
    }

    fn tool(id: &str) -> RunEvent {
        RunEvent::ToolExecuting { tool_call_id: Some(call(id)), tool_name: "calculator".into(), parameters: None }
    }

    fn done(id: &str, result: &str) -> RunEvent {
        let results = Some(RawValue::from_string(result.into()).unwrap());
        RunEvent::ToolCompleted { tool_call_id: call(id), results, success: None, error: None }
    }

    fn delta(offset: Option<u64>, text: &str) -> RunEvent {
        RunEvent::Delta { part_id: PartId::new("p").unwrap(), offset, text: text.into() }
    }

    fn suspend(id: &str) -> RunEvent {
        RunEvent::Suspended { approval_id: Some(ApprovalId::new(id).unwrap()), question: None }
    }

    fn thinking() -> RunEvent {
        RunEvent::Thinking { thought: "hm".into(), step: None, progress: None }
    }

    fn completed() -> RunEvent {
        RunEvent::Completed { final_response: None, result: None }
    }

    fn step(run: &mut RunMachine, event: RunEvent, policy: OrderPolicy) -> Result<Planned, RunError> {
        let planned = run.plan(NOW, event, policy, &Limits::default())?;
        planned.bodies().for_each(|(body, _)| run.commit(NOW, body));
        Ok(planned)
    }

    /// What the last of these leads to, the others being in order.
    fn last(events: &[RunEvent], policy: OrderPolicy) -> Result<(Vec<EventKind>, bool), RunError> {
        let mut run = RunMachine::new(RunId::from_bits(1), Timestamp::ZERO);
        let (last, first) = events.split_last().unwrap();
        first.iter().for_each(|event| drop(step(&mut run, event.clone(), OrderPolicy::Reject).unwrap()));
        let planned = step(&mut run, last.clone(), policy)?;
        let kinds = planned.bodies().map(|(body, _)| body.kind()).collect();
        Ok((kinds, planned.flaw.is_some()))
    }

    #[test]
    fn what_a_policy_makes_of_disorder_is_a_table() {
        use EventKind::{AgentCompleted, AgentDelta, AgentResumed, AgentThinking, ToolCompleted, ToolExecuting};
        type Kinds = Option<&'static [EventKind]>;
        let cases: &[(&[RunEvent], Kinds, Kinds)] = &[
            (
                &[tool("a"), tool("b"), completed()],
                Some(&[ToolCompleted, ToolCompleted, AgentCompleted]),
                Some(&[AgentCompleted]),
            ),
            (
                &[tool("a"), suspend("x"), completed()],
                Some(&[AgentResumed, ToolCompleted, AgentCompleted]),
                Some(&[AgentCompleted]),
            ),
            (&[suspend("x"), thinking()], Some(&[AgentResumed, AgentThinking]), Some(&[AgentThinking])),
            (&[suspend("x"), tool("a")], Some(&[AgentResumed, ToolExecuting]), Some(&[ToolExecuting])),
            (&[tool("a"), suspend("x"), done("a", "1")], Some(&[AgentResumed, ToolCompleted]), Some(&[ToolCompleted])),
            (&[tool("a"), done("a", "1"), done("a", "2")], Some(&[]), Some(&[ToolCompleted])),
            // What is known already does not take a question back.
            (&[tool("a"), done("a", "1"), suspend("x"), done("a", "1")], Some(&[]), Some(&[ToolCompleted])),
            (&[delta(None, "abc"), suspend("x"), delta(Some(1), "bc")], Some(&[]), None),
            (&[delta(None, "abc"), suspend("x"), delta(Some(1), "bcd")], Some(&[AgentResumed, AgentDelta]), None),
            (&[delta(None, "abc"), delta(Some(1), "bcd")], Some(&[AgentDelta]), None),
            (&[delta(None, "abc"), delta(Some(1), "bc")], Some(&[]), None),
            // What would have to be made up is refused under every policy.
            (&[delta(None, "abc"), delta(Some(4), "x")], None, None),
            (&[done("a", "1")], None, None),
            (&[tool("a"), tool("a")], None, None),
            (&[suspend("x"), suspend("y")], Some(&[AgentResumed, EventKind::AgentSuspended]), None),
            (&[RunEvent::Resumed { approval_id: ApprovalId::new("x").unwrap(), decision: None }], None, None),
        ];
        for (events, repaired, flagged) in cases {
            assert!(last(events, OrderPolicy::Reject).is_err(), "{events:?}");
            let repair = last(events, OrderPolicy::Repair).ok();
            assert_eq!(repair, repaired.map(|kinds| (kinds.to_vec(), false)), "{events:?} repaired");
            let flag = last(events, OrderPolicy::Flag).ok();
            assert_eq!(flag, flagged.map(|kinds| (kinds.to_vec(), true)), "{events:?} flagged");
        }
    }

    #[test]
    fn a_repair_says_only_that_there_was_no_result() {
        let mut run = RunMachine::new(RunId::from_bits(1), Timestamp::ZERO);
        step(&mut run, tool("a"), OrderPolicy::Repair).unwrap();
        let planned = step(&mut run, completed(), OrderPolicy::Repair).unwrap();
        let EventBody::ToolCompleted { results, success, error, tool_name, .. } = &planned.before[0] else { panic!() };
        assert_eq!((results.get(), *success, tool_name.as_str()), ("null", false, "calculator"));
        assert_eq!(error.as_deref(), Some("the run ended before the call did"));
    }

    fn events() -> impl Strategy<Value = RunEvent> {
        let id = || prop_oneof![Just("a"), Just("b")];
        prop_oneof![
            Just(thinking()),
            id().prop_map(tool),
            id().prop_map(|id| done(id, "1")),
            (proptest::option::of(0_u64..6), "[a-c]{0,3}").prop_map(|(offset, text)| delta(offset, &text)),
            id().prop_map(suspend),
            id().prop_map(|id| RunEvent::Resumed { approval_id: ApprovalId::new(id).unwrap(), decision: None }),
            Just(completed()),
        ]
    }

    properties! {
        /// Whatever a producer sends: what enters under `repair` is in order, so a strict run takes all of it.
        #[test]
        fn what_a_repair_lets_in_is_in_order(events in proptest::collection::vec(events(), 1..30)) {
            let (mut run, mut strict) = (RunMachine::new(RunId::from_bits(1), Timestamp::ZERO), RunMachine::new(RunId::from_bits(1), Timestamp::ZERO));
            for event in events {
                let Ok(planned) = run.plan(NOW, event, OrderPolicy::Repair, &Limits::default()) else { continue };
                for (body, flaw) in planned.bodies() {
                    prop_assert_eq!(flaw, None);
                    let again = replayed(body);
                    let entered = strict.prepare(NOW, again, &Limits::default());
                    prop_assert_eq!(entered.as_ref(), Ok(body));
                    run.commit(NOW, body);
                    strict.commit(NOW, body);
                    if body.is_terminal() {
                        prop_assert_eq!(strict.open_calls().count(), 0);
                        return Ok(());
                    }
                }
                prop_assert_eq!(&run, &strict);
            }
        }
    }

    /// What a producer would have to send for it.
    fn replayed(body: &EventBody) -> RunEvent {
        match body.clone() {
            EventBody::AgentThinking { thought, step, progress } => RunEvent::Thinking { thought, step, progress },
            EventBody::ToolExecuting { tool_call_id, tool_name, parameters } => {
                RunEvent::ToolExecuting { tool_call_id: Some(tool_call_id), tool_name, parameters }
            }
            EventBody::ToolCompleted { tool_call_id, results, success, error, .. } => {
                RunEvent::ToolCompleted { tool_call_id, results: Some(results), success: Some(success), error }
            }
            EventBody::AgentDelta { part_id, offset, text } => RunEvent::Delta { part_id, offset: Some(offset), text },
            EventBody::AgentSuspended { approval_id, question } => {
                RunEvent::Suspended { approval_id: Some(approval_id), question }
            }
            EventBody::AgentResumed { approval_id, decision } => RunEvent::Resumed { approval_id, decision },
            EventBody::AgentCompleted { final_response, result, .. } => RunEvent::Completed { final_response, result },
            other => panic!("{other:?}"),
        }
    }
}
