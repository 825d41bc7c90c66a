//! The built-in agent for development: honest and deterministic. It thinks, uses real tools, streams its answer, asks before it acts,
//! and has sub-agents.

mod calculator;
mod plan;
mod published;
mod task;
#[cfg(test)]
mod tests;
mod tools;

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_core::hub::{Hub, Request, Requests, UserMessage};

use published::Published;
use task::Task;

/// Under which name it works, and under which its sub-agents do.
const NAME: &str = "assistant";
const RESEARCHER: &str = "researcher";
const SAMPLE: &str = include_str!("agent/sample.md");

/// Answers every message, each in a task of its own, until the hub shuts down. The hub bounds how many runs are open.
pub(crate) async fn attend(hub: Hub, mut requests: Requests, pace: Duration) {
    while let Some(request) = requests.next().await {
        match request {
            Request::UserMessage(message) => begin(&hub, message, pace),
            Request::Command(command) => command.refuse("the development agent knows no commands"),
        }
    }
}

fn begin(hub: &Hub, message: UserMessage, pace: Duration) {
    let content = message.content().to_owned();
    match message.start(NAME) {
        Ok(run) => {
            let hub = hub.clone();
            tokio::spawn(async move {
                let id = run.id();
                if let Err(error) = answer(Published::new(hub, run), &content, pace).await {
                    tracing::debug!(run = %id, %error, "the run took no more events");
                }
            });
        }
        Err(error) => tracing::debug!(%error, "a message was not answered"),
    }
}

/// A run as the agent publishes it. The hub's is one; the tests have another.
pub(crate) trait Publish: Send + Sync + Sized + 'static {
    /// Why an event was refused: the run has ended, or the hub has.
    type Error: Send;

    fn thinking(&mut self, thought: &str) -> Result<(), Self::Error>;
    /// One call at a time: `tool_ended` is about the last one started.
    fn tool_started(&mut self, name: &str, parameters: Value) -> Result<(), Self::Error>;
    fn tool_ended(&mut self, results: Result<Value, String>) -> Result<(), Self::Error>;
    fn delta(&mut self, text: &str) -> Result<(), Self::Error>;
    /// Waits for a person's decision; `None` when the run is to be cancelled instead.
    fn decision(&mut self, question: &str) -> impl Future<Output = Result<Option<String>, Self::Error>> + Send;
    /// Starts a run of a sub-agent, which is to be cancelled when this one is.
    fn sub_agent(&self, name: &str, message: &str) -> Result<Self, Self::Error>;
    fn completed(self, answer: String) -> Result<(), Self::Error>;
    fn failed(self, error: &str) -> Result<(), Self::Error>;
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
    let answer = match task::task(message) {
        Task::Answer => use_tool(&mut run, message, pace).await?,
        Task::Errand { what, to } => run_errand(&mut run, &what, &to, pace).await?,
        Task::Research(topics) => research(&mut run, topics, pace).await?,
        Task::Sample => show_sample(&mut run, pace).await?,
        Task::Fail => return run.failed("the message asks for a failure"),
    };
    match answer {
        Some(answer) => run.completed(answer),
        None => run.cancelled(),
    }
}

// Each of these gives the answer, when nothing cancelled it.

async fn use_tool<R: Publish>(run: &mut R, message: &str, pace: Duration) -> Result<Option<String>, R::Error> {
    let plan = plan::plan(message);
    if !think(run, &plan.thought, pace).await? || !pause(run, pace).await {
        return Ok(None);
    }
    if let Some(tool) = &plan.tool {
        run.tool_started(tool.name(), tool.parameters())?;
    }
    let outcome = plan.carry_out();
    if let Some(results) = outcome.results {
        run.tool_ended(results)?;
    }
    stream(run, outcome.answer, pace).await
}

async fn run_errand<R: Publish>(run: &mut R, what: &str, to: &str, pace: Duration) -> Result<Option<String>, R::Error> {
    if !think(run, "What is sent cannot be taken back, so I ask first.", pace).await? || !pause(run, pace).await {
        return Ok(None);
    }
    let Some(decision) = run.decision(&format!("May I send {what} to {to}?")).await? else { return Ok(None) };
    if !matches!(decision.as_str(), "approve" | "allow" | "yes") {
        return stream(run, format!("You declined, so nothing was sent to {to}."), pace).await;
    }
    run.tool_started("outbox", json!({"to": to, "what": what}))?;
    if !pause(run, pace).await {
        return Ok(None);
    }
    run.tool_ended(Ok(json!({"queued": true, "delivered": false})))?;
    let answer = format!(
        "You approved, so {what} for {to} lies in my outbox. It stays there: I am a development agent and reach nobody."
    );
    stream(run, answer, pace).await
}

/// The sub-agents work at the same time.
async fn research<R: Publish>(run: &mut R, topics: Vec<String>, pace: Duration) -> Result<Option<String>, R::Error> {
    let thought = format!("I have {} looked up, each by a researcher.", topics.join(", "));
    if !think(run, &thought, pace).await? {
        return Ok(None);
    }
    let mut answer = "## What the README says\n\n| topic | lines | the first |\n|---|---:|---|\n".to_owned();
    let mut researchers = Vec::new();
    for topic in topics {
        let researcher = run.sub_agent(RESEARCHER, &topic)?;
        researchers.push((topic.clone(), tokio::spawn(look_up(researcher, topic, pace))));
    }
    for (topic, researcher) in researchers {
        // One that was cancelled, or whose run takes no more, has found nothing.
        let found = researcher.await.ok().and_then(Result::ok).flatten();
        let (lines, first) = found.map_or(("?".to_owned(), String::new()), |(lines, first)| (lines.to_string(), first));
        answer.push_str(&format!("| {topic} | {lines} | {first} |\n"));
    }
    stream(run, answer, pace).await
}

/// What a sub-agent does: how many lines there are, and which the first is.
async fn look_up<R: Publish>(mut run: R, topic: String, pace: Duration) -> Result<Option<(usize, String)>, R::Error> {
    let searched = tools::search(tools::README, &topic);
    let told = tell_search(&mut run, &topic, &searched, pace).await?;
    let Some(answer) = told else { return run.cancelled().map(|()| None) };
    run.completed(answer)?;
    Ok(searched
        .ok()
        .map(|found| (found.total, found.first.first().map(|hit| format!("line {}", hit.line)).unwrap_or_default())))
}

async fn tell_search<R: Publish>(
    run: &mut R,
    topic: &str,
    searched: &Result<tools::Matches, String>,
    pace: Duration,
) -> Result<Option<String>, R::Error> {
    if !think(run, &format!("I search the README for \"{topic}\"."), pace).await? || !pause(run, pace).await {
        return Ok(None);
    }
    run.tool_started("readme_search", json!({"query": topic}))?;
    if !pause(run, pace).await {
        return Ok(None);
    }
    let results = searched.as_ref().map(tools::Matches::to_json).map_err(Clone::clone);
    run.tool_ended(results)?;
    let answer = match searched {
        Ok(found) => format!("**{}** of \"{topic}\".", plan::plural(found.total, "line")),
        Err(problem) => format!("I cannot search for this: {problem}."),
    };
    stream(run, answer, pace).await
}

async fn show_sample<R: Publish>(run: &mut R, pace: Duration) -> Result<Option<String>, R::Error> {
    if !think(run, "The message asks for a sample, which I know by heart.", pace).await? {
        return Ok(None);
    }
    stream(run, SAMPLE.to_owned(), pace).await
}

/// Whether to go on.
async fn think<R: Publish>(run: &mut R, thought: &str, pace: Duration) -> Result<bool, R::Error> {
    let goes_on = pause(run, pace).await;
    if goes_on {
        run.thinking(thought)?;
    }
    Ok(goes_on)
}

/// Word by word.
async fn stream<R: Publish>(run: &mut R, answer: String, pace: Duration) -> Result<Option<String>, R::Error> {
    for word in answer.split_inclusive(char::is_whitespace) {
        if !pause(run, pace).await {
            return Ok(None);
        }
        run.delta(word)?;
    }
    Ok(Some(answer))
}

/// Whether to go on.
async fn pause<R: Publish>(run: &R, pace: Duration) -> bool {
    if !pace.is_zero() && !run.cancel_requested() {
        let _ = tokio::time::timeout(pace, run.cancel_request()).await;
    }
    !run.cancel_requested()
}
