//! `trunkline chat`: the protocol at a terminal, one message or a conversation.

mod connection;
mod endpoint;
mod recovery;
mod screen;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use serde_json::Value;
use tokio::sync::mpsc;
use trunkline_core::id::ThreadId;

use crate::Fault;
use crate::cli::ChatArgs;
use crate::config::read_bounded;
use connection::Purpose;
use endpoint::Endpoint;
use screen::Screen;

/// What the connection tells; it reconnects by itself and says so.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A frame of the server.
    Frame(String),
    /// Something a person may want to know, such as a reconnection.
    Notice(String),
    /// The end: nothing follows, and why.
    Closed(String),
}

/// A `user_message` to send; `id` names its reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: String,
    pub(crate) thread: ThreadId,
    pub(crate) content: String,
}

/// A connection, as this command sees it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
}

pub(crate) fn main(args: ChatArgs) -> Result<ExitCode, Fault> {
    let token = token(&args, std::env::var("TRUNKLINE_TOKEN").ok())?;
    let thread = ThreadId::new(&args.thread).map_err(|problem| Fault::usage(format!("--thread {problem}")))?;
    let endpoint = Endpoint::parse(&args.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("the runtime does not start: {error}")))?;
    let screen = Screen::new(args.json, io::stdout().is_terminal()).of_thread(thread.clone());
    runtime.block_on(async {
        let purpose = if args.message.is_some() { Purpose::OneMessage } else { Purpose::Conversation };
        let (link, connector) = connection::connect(endpoint, token, purpose);
        let outcome = match args.message {
            Some(message) => one_message(link, screen, thread, message, io::stdout()).await,
            None => converse(link, screen, thread, lines_of_stdin(), io::stdout()).await,
        };
        // The outcome stands; the socket gets its close frame where the server still takes one.
        let _ = tokio::time::timeout(connection::CLOSE_DEADLINE, connector).await;
        outcome
    })
}

fn token(args: &ChatArgs, variable: Option<String>) -> Result<String, Fault> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => {
            let refuse = |problem| Fault::usage(format!("--token-file {}: {problem}", path.display()));
            let bytes = read_bounded(path).map_err(refuse)?;
            String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8".to_owned()))?
        }
        (None, None) => variable.ok_or_else(|| {
            Fault::usage("no token: pass --token-file or --token, or set TRUNKLINE_TOKEN; `trunkline token` makes one")
        })?,
    };
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::usage("the token is empty, or holds characters that no token has"));
    }
    Ok(token.to_owned())
}

/// Sends one message and shows what comes until its run ends.
async fn one_message(
    mut link: Link,
    mut screen: Screen,
    thread: ThreadId,
    message: String,
    mut out: impl Write,
) -> Result<ExitCode, Fault> {
    let id = "m1".to_owned();
    let mut watch = Watch::new(&id);
    let sent = link.outgoing.send(Outgoing { id, thread, content: message }).await;
    if sent.is_err() {
        return Err(Fault::failed("the connection closed before the message was sent"));
    }
    while let Some(incoming) = link.incoming.recv().await {
        let frame = match incoming {
            Incoming::Frame(frame) => frame,
            Incoming::Notice(notice) => {
                screen.notice(&notice, &mut out).map_err(output_fault)?;
                continue;
            }
            Incoming::Closed(why) => return Err(Fault::failed(why)),
        };
        screen.frame(&frame, &mut out).map_err(output_fault)?;
        match serde_json::from_str(&frame).ok().and_then(|frame| watch.see(&frame)) {
            None => {}
            Some(Verdict::Completed) => return Ok(ExitCode::SUCCESS),
            Some(Verdict::NotCompleted) => return Ok(ExitCode::FAILURE),
            Some(Verdict::Refused(why)) => return Err(Fault::failed(format!("the message was refused: {why}"))),
        }
    }
    Err(Fault::failed("the connection closed"))
}

/// Sends each line and shows what comes, until the input or the connection ends, or Ctrl-C.
async fn converse(
    mut link: Link,
    mut screen: Screen,
    thread: ThreadId,
    mut lines: mpsc::Receiver<String>,
    mut out: impl Write,
) -> Result<ExitCode, Fault> {
    let mut count = 0_u64;
    // A line is read once there is room for it: the rest goes on meanwhile.
    let (mut room, mut open) = (None, true);
    loop {
        tokio::select! {
            permit = link.outgoing.reserve(), if open && room.is_none() => match permit {
                Ok(permit) => room = Some(permit),
                // Why comes the other way.
                Err(_) => open = false,
            },
            line = lines.recv(), if room.is_some() => {
                let Some(line) = line else { return Ok(ExitCode::SUCCESS) };
                if line.trim().is_empty() { continue; }
                count += 1;
                let message = Outgoing { id: format!("m{count}"), thread: thread.clone(), content: line };
                if let Some(permit) = room.take() {
                    permit.send(message);
                }
            }
            incoming = link.incoming.recv() => match incoming {
                Some(Incoming::Frame(frame)) => screen.frame(&frame, &mut out).map_err(output_fault)?,
                Some(Incoming::Notice(notice)) => screen.notice(&notice, &mut out).map_err(output_fault)?,
                Some(Incoming::Closed(why)) => return Err(Fault::failed(why)),
                None => return Err(Fault::failed("the connection closed")),
            },
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn output_fault(error: io::Error) -> Fault {
    Fault::failed(format!("the output cannot be written: {error}"))
}

/// On a thread of its own, which a blocked read keeps; the process ends without waiting for it.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Completed,
    NotCompleted,
    Refused(String),
}

/// Follows one message from its reply to the end of the run that the reply names.
///
/// Reply and events come by different ways, so that a run may have ended before the reply names it.
struct Watch {
    id: String,
    run: Option<String>,
    ended: Vec<(String, bool)>,
}

impl Watch {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), run: None, ended: Vec::new() }
    }

    fn see(&mut self, frame: &Value) -> Option<Verdict> {
        match frame["type"].as_str()? {
            "reply" if frame["id"] == self.id.as_str() => return self.see_reply(frame),
            "agent_completed" => self.see_end(frame, true),
            "agent_failed" | "agent_cancelled" => self.see_end(frame, false),
            _ => {}
        }
        self.verdict()
    }

    fn see_reply(&mut self, frame: &Value) -> Option<Verdict> {
        if frame["ok"] != true {
            let message = frame["error"]["message"].as_str().or(frame["error"]["code"].as_str());
            return Some(Verdict::Refused(message.unwrap_or("the server does not say why").to_owned()));
        }
        let run = frame["run_id"].as_str().or(frame["result"]["run_id"].as_str());
        self.run = run.map(str::to_owned);
        self.verdict()
    }

    fn see_end(&mut self, frame: &Value, completed: bool) {
        let Some(run) = frame["run_id"].as_str() else { return };
        if self.run.as_deref().is_none_or(|own| own == run) {
            self.ended.push((run.to_owned(), completed));
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        let own = self.run.as_ref()?;
        let (_, completed) = self.ended.iter().find(|(run, _)| run == own)?;
        Some(if *completed { Verdict::Completed } else { Verdict::NotCompleted })
    }
}

#[cfg(test)]
mod tests;
