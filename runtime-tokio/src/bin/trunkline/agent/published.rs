//! The hub's run as the agent publishes it.

use std::sync::Arc;

use serde_json::Value;
use trunkline_core::hub::{Hub, Run, RunOptions, ToolCall};
use trunkline_core::stream::RunError;

use super::Publish;

/// A run of the hub, with its open tool call, and the run that started it.
pub(super) struct Published {
    hub: Hub,
    run: Arc<Run>,
    parent: Option<Arc<Run>>,
    call: Option<ToolCall>,
}

impl Published {
    pub(super) fn new(hub: Hub, run: Run) -> Self {
        Self { hub, run: Arc::new(run), parent: None, call: None }
    }
}

impl Publish for Published {
    type Error = RunError;

    fn thinking(&mut self, thought: &str) -> Result<(), RunError> {
        self.run.thinking(thought).map(drop)
    }

    fn tool_started(&mut self, name: &str, parameters: Value) -> Result<(), RunError> {
        self.call = Some(self.run.tool(name, &parameters)?);
        Ok(())
    }

    fn tool_ended(&mut self, results: Result<Value, String>) -> Result<(), RunError> {
        let Some(call) = self.call.take() else { return Ok(()) };
        match results {
            Ok(results) => call.completed(&results),
            Err(error) => call.failed(error),
        }
        .map(drop)
    }

    fn delta(&mut self, text: &str) -> Result<(), RunError> {
        self.run.delta(text).map(drop)
    }

    async fn decision(&mut self, question: &str) -> Result<Option<String>, RunError> {
        let approval = self.run.suspend(Some(question.to_owned()))?;
        tokio::select! {
            decision = approval.decision() => decision.map(|decision| Some(decision.decision)),
            _ = self.run.cancel_request() => Ok(None),
        }
    }

    fn sub_agent(&self, name: &str, message: &str) -> Result<Self, RunError> {
        let mut options = RunOptions::named(name);
        options.parent = Some(self.run.id());
        options.message = Some(message.to_owned());
        let run = self.hub.start_run(self.run.user(), self.run.thread().clone(), options)?;
        Ok(Self { hub: self.hub.clone(), run: Arc::new(run), parent: Some(Arc::clone(&self.run)), call: None })
    }

    fn completed(self, answer: String) -> Result<(), RunError> {
        self.run.completed(Some(answer)).map(drop)
    }

    fn failed(self, error: &str) -> Result<(), RunError> {
        self.run.failed(error).map(drop)
    }

    fn cancelled(self) -> Result<(), RunError> {
        let by = self.run.cancel_requested().or_else(|| self.parent.as_ref()?.cancel_requested());
        self.run.cancelled(by.unwrap_or_default(), "cancelled on request").map(drop)
    }

    fn cancel_requested(&self) -> bool {
        let asked = |run: &Run| run.cancel_requested().is_some();
        asked(&self.run) || self.parent.as_deref().is_some_and(asked)
    }

    /// Of this run alone: one task may wait for anything of a run. A parent's is noticed at the next look.
    async fn cancel_request(&self) {
        self.run.cancel_request().await;
    }
}
