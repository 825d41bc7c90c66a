use std::sync::{Arc, Mutex};

use super::*;

/// Writes down what is published, a sub-agent's with its name, and is cancelled after so many events.
struct Recorder {
    events: Arc<Mutex<Vec<String>>>,
    name: String,
    decision: &'static str,
    cancel_after: usize,
}

impl Recorder {
    fn put(&self, event: String) -> Result<(), ()> {
        self.events.lock().unwrap().push(format!("{}{event}", self.name));
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

    async fn decision(&mut self, question: &str) -> Result<Option<String>, ()> {
        self.put(format!("asks {question}"))?;
        Ok((!self.cancel_requested()).then(|| self.decision.to_owned()))
    }

    fn sub_agent(&self, name: &str, message: &str) -> Result<Self, ()> {
        let name = format!("{name} of {message}: ");
        Ok(Self { events: self.events.clone(), name, decision: self.decision, cancel_after: self.cancel_after })
    }

    fn completed(self, answer: String) -> Result<(), ()> {
        self.put(format!("completed {answer}"))
    }

    fn failed(self, error: &str) -> Result<(), ()> {
        self.put(format!("failed {error}"))
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
    decide(message, "approve", cancel_after, pace).await
}

async fn decide(message: &str, decision: &'static str, cancel_after: usize, pace: Duration) -> Vec<String> {
    let events = Arc::new(Mutex::new(Vec::new()));
    answer(Recorder { events: events.clone(), name: String::new(), decision, cancel_after }, message, pace)
        .await
        .unwrap();
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

#[tokio::test]
async fn an_errand_is_asked_about_and_done_only_with_a_yes() {
    let kinds = |events: &[String]| -> Vec<String> {
        events
            .iter()
            .filter(|event| !event.starts_with("delta"))
            .map(|event| event.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let approved = decide("send the report to bob", "approve", usize::MAX, Duration::ZERO).await;
    assert_eq!(kinds(&approved), ["thinking", "asks", "tool", "results", "completed"]);
    assert_eq!(approved[1], "asks May I send the report to bob?");
    assert_eq!(approved[2], r#"tool outbox {"to":"bob","what":"the report"}"#);
    let declined = decide("send the report to bob", "decline", usize::MAX, Duration::ZERO).await;
    assert_eq!(kinds(&declined), ["thinking", "asks", "completed"]);
    assert!(declined.last().unwrap().starts_with("completed You declined"));
    // One that waits can be cancelled.
    assert_eq!(
        kinds(&decide("send the report to bob", "approve", 2, Duration::ZERO).await),
        ["thinking", "asks", "cancelled"]
    );
}

#[tokio::test]
async fn research_has_a_sub_agent_for_each_topic_and_ends_after_them() {
    let events = record("research tokens and zzzqqq", usize::MAX, Duration::ZERO).await;
    for topic in ["tokens", "zzzqqq"] {
        let own: Vec<&str> =
            events.iter().filter_map(|event| event.strip_prefix(&format!("researcher of {topic}: "))).collect();
        assert!(own[0].starts_with("thinking"), "{own:?}");
        assert!(own[1].starts_with("tool readme_search"), "{own:?}");
        assert!(own.last().unwrap().starts_with("completed"), "{own:?}");
    }
    let answer = events.last().unwrap();
    assert!(answer.starts_with("completed ## What the README says"), "{answer}");
    assert!(answer.contains("| zzzqqq | 0 |  |"), "{answer}");
}

#[tokio::test]
async fn a_cancelled_research_cancels_its_sub_agents() {
    let events = record("research tokens", 2, Duration::ZERO).await;
    assert_eq!(events.last().unwrap(), "cancelled");
    assert!(events.contains(&"researcher of tokens: cancelled".to_owned()), "{events:?}");
}

#[tokio::test]
async fn a_sample_and_a_failure_can_be_asked_for() {
    let sample = record("show me some Markdown", usize::MAX, Duration::ZERO).await;
    assert!(sample.last().unwrap().contains("```rust"));
    assert_eq!(record("fail", usize::MAX, Duration::ZERO).await, ["failed the message asks for a failure"]);
}
