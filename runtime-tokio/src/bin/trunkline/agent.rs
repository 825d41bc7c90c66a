//! The built-in agent for development: honest and deterministic. It thinks, uses real tools, streams its answer.

mod calculator;
mod plan;
mod published;
mod tools;

use std::time::Duration;

use serde_json::Value;
use trunkline_core::hub::{Request, Requests, UserMessage};

use published::Published;

/// Under which name it works.
const NAME: &str = "assistant";

/// Answers every message, each in a task of its own, until the hub shuts down. The hub bounds how many runs are open.
pub(crate) async fn attend(mut requests: Requests, pace: Duration) {
    while let Some(request) = requests.next().await {
        match request {
            Request::UserMessage(message) => begin(message, pace),
            Request::Command(command) => command.refuse("the development agent knows no commands"),
        }
    }
}

fn begin(message: UserMessage, pace: Duration) {
    let content = message.content().to_owned();
    match message.start(NAME) {
        Ok(run) => {
            tokio::spawn(async move {
                let id = run.id();
                if let Err(error) = answer(Published::new(run), &content, pace).await {
                    tracing::debug!(run = %id, %error, "the run took no more events");
                }
            });
        }
        Err(error) => tracing::debug!(%error, "a message was not answered"),
    }
}

/// A run as the agent publishes it. The hub's is one; the tests have another.
pub(crate) trait Publish: Send {
    /// Why an event was refused: the run has ended, or the hub has.
    type Error: Send;

    fn thinking(&mut self, thought: &str) -> Result<(), Self::Error>;
    /// One call at a time: `tool_ended` is about the last one started.
    fn tool_started(&mut self, name: &str, parameters: Value) -> Result<(), Self::Error>;
    fn tool_ended(&mut self, results: Result<Value, String>) -> Result<(), Self::Error>;
    fn delta(&mut self, text: &str) -> Result<(), Self::Error>;
    fn completed(self, answer: String) -> Result<(), Self::Error>;
    /// Ends the run as cancelled by whoever asked for it.
    fn cancelled(self) -> Result<(), Self::Error>;
    /// Whether somebody asked for the run to be cancelled.
    fn cancel_requested(&self) -> bool;
    /// Resolves when somebody did.
    fn cancel_request(&self) -> impl Future<Output = ()> + Send;
}

/// Answers one message, with a pause of `pace` before each event; ends early when the run is cancelled.
///
/// # Errors
/// When the run takes no more events. There is nobody left to tell.
pub(crate) async fn answer<R: Publish>(mut run: R, message: &str, pace: Duration) -> Result<(), R::Error> {
    match steps(&mut run, message, pace).await? {
        Some(answer) => run.completed(answer),
        None => run.cancelled(),
    }
}

/// The answer, when nothing cancelled it.
async fn steps<R: Publish>(run: &mut R, message: &str, pace: Duration) -> Result<Option<String>, R::Error> {
    let plan = plan::plan(message);
    if !pause(run, pace).await {
        return Ok(None);
    }
    run.thinking(&plan.thought)?;
    if !pause(run, pace).await {
        return Ok(None);
    }
    if let Some(tool) = &plan.tool {
        run.tool_started(tool.name(), tool.parameters())?;
    }
    let outcome = plan.carry_out();
    if let Some(results) = outcome.results {
        run.tool_ended(results)?;
    }
    for word in outcome.answer.split_inclusive(char::is_whitespace) {
        if !pause(run, pace).await {
            return Ok(None);
        }
        run.delta(word)?;
    }
    Ok(Some(outcome.answer))
}

/// Whether to go on.
async fn pause<R: Publish>(run: &R, pace: Duration) -> bool {
    if !pace.is_zero() && !run.cancel_requested() {
        let _ = tokio::time::timeout(pace, run.cancel_request()).await;
    }
    !run.cancel_requested()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes down what is published and is cancelled after so many events.
    struct Recorder {
        events: Arc<Mutex<Vec<String>>>,
        cancel_after: usize,
    }

    impl Recorder {
        fn put(&self, event: String) -> Result<(), ()> {
            self.events.lock().unwrap().push(event);
            Ok(())
        }
    }

    impl Publish for Recorder {
        type Error = ();

        fn thinking(&mut self, _thought: &str) -> Result<(), ()> {
            self.put("thinking".to_owned())
        }

        fn tool_started(&mut self, name: &str, parameters: Value) -> Result<(), ()> {
            self.put(format!("tool {name} {parameters}"))
        }

        fn tool_ended(&mut self, results: Result<Value, String>) -> Result<(), ()> {
            self.put(format!("results {results:?}"))
        }

        fn delta(&mut self, text: &str) -> Result<(), ()> {
            self.put(format!("delta {text}"))
        }

        fn completed(self, answer: String) -> Result<(), ()> {
            self.put(format!("completed {answer}"))
        }

        fn cancelled(self) -> Result<(), ()> {
            self.put("cancelled".to_owned())
        }

        fn cancel_requested(&self) -> bool {
            self.events.lock().unwrap().len() >= self.cancel_after
        }

        async fn cancel_request(&self) {
            std::future::pending().await
        }
    }

    async fn record(message: &str, cancel_after: usize, pace: Duration) -> Vec<String> {
        let events = Arc::new(Mutex::new(Vec::new()));
        answer(Recorder { events: events.clone(), cancel_after }, message, pace).await.unwrap();
        Arc::into_inner(events).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_question_is_thought_about_calculated_streamed_and_completed() {
        let events = record("what is 2*(3+4)?", usize::MAX, Duration::ZERO).await;
        let expected = [
            "thinking",
            "tool calculator {\"expression\":\"2*(3+4)\"}",
            "results Ok(Object {\"value\": Number(14)})",
            "delta 2*(3+4) ",
            "delta = ",
            "delta 14",
            "completed 2*(3+4) = 14",
        ];
        assert_eq!(events, expected);
    }

    #[tokio::test]
    async fn a_greeting_needs_no_tool_and_the_parts_make_up_the_answer() {
        let events = record("hello", usize::MAX, Duration::ZERO).await;
        assert!(!events.iter().any(|event| event.starts_with("tool")));
        let streamed: String = events.iter().filter_map(|event| event.strip_prefix("delta ")).collect();
        assert_eq!(events.last().unwrap(), &format!("completed {streamed}"));
    }

    #[tokio::test]
    async fn a_failing_tool_is_told_of_and_the_run_completes() {
        let events = record("what is 1/0?", usize::MAX, Duration::ZERO).await;
        assert!(events.contains(&"results Err(\"division by zero\")".to_owned()));
        assert!(events.last().unwrap().starts_with("completed I cannot evaluate 1/0"));
    }

    #[tokio::test]
    async fn cancellation_is_honoured_between_any_two_steps() {
        let whole = record("what is 2+2?", usize::MAX, Duration::ZERO).await.len();
        for after in 0..whole - 1 {
            let events = record("what is 2+2?", after, Duration::ZERO).await;
            // A tool that was started also ends: nothing lies between the two.
            let done = if after == 2 { 3 } else { after };
            assert_eq!(events.len(), done + 1, "{events:?}");
            // Once the last word is out, the answer is complete.
            let end = if after == whole - 1 { "completed" } else { "cancelled" };
            assert!(events.last().unwrap().starts_with(end));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept() {
        let start = tokio::time::Instant::now();
        record("what is 2+2?", usize::MAX, Duration::from_millis(20)).await;
        assert_eq!(start.elapsed(), Duration::from_millis(20) * 5);
    }
}
