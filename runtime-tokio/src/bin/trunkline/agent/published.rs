//! The hub's run as the agent publishes it.

use serde_json::Value;
use trunkline_core::hub::{Run, ToolCall};
use trunkline_core::stream::RunError;

use super::Publish;

/// A run of the hub, with its open tool call.
pub(super) struct Published {
    run: Run,
    call: Option<ToolCall>,
}

impl Published {
    pub(super) const fn new(run: Run) -> Self {
        Self { run, call: None }
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

    fn completed(self, answer: String) -> Result<(), RunError> {
        self.run.completed(Some(answer)).map(drop)
    }

    fn cancelled(self) -> Result<(), RunError> {
        let by = self.run.cancel_requested().unwrap_or_default();
        self.run.cancelled(by, "cancelled on request").map(drop)
    }

    fn cancel_requested(&self) -> bool {
        self.run.cancel_requested().is_some()
    }

    async fn cancel_request(&self) {
        self.run.cancel_request().await;
    }
}
