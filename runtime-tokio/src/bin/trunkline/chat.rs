//! `trunkline chat`: the protocol at a terminal, one message or a conversation.

mod connection;
mod endpoint;
mod login;
mod recovery;
mod screen;
mod watch;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use tokio::sync::mpsc;
use trunkline_core::id::ThreadId;

use crate::Fault;
use crate::cli::ChatArgs;
use connection::Purpose;
use endpoint::Server;
use login::Credentials;
use screen::Screen;
use watch::{Verdict, Watch, Watches};

/// What the connection tells; it reconnects by itself and says so.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A frame of the server.
    Frame(String),
    /// Something a person may want to know, such as a reconnection.
    Notice(String),
    /// Events are gone, perhaps the end of a run among them; as a person may read it.
    Gap(String),
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
    let thread = ThreadId::new(&args.thread).map_err(|problem| Fault::usage(format!("--thread {problem}")))?;
    let server = Server::new(&args.url, args.ca_file.as_deref())?;
    let credentials = credentials(&args, &server, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("the runtime does not start: {error}")))?;
    let screen = Screen::new(args.json, io::stdout().is_terminal()).of_thread(thread.clone());
    runtime.block_on(async {
        let purpose = if args.message.is_some() { Purpose::OneMessage } else { Purpose::Conversation };
        let (link, connector) = connection::connect(server, credentials, purpose)?;
        let outcome = match args.message {
            Some(message) => one_message(link, screen, thread, message, io::stdout()).await,
            None => converse(link, screen, thread, lines_of_stdin(), io::stdout()).await,
        };
        // The outcome stands; the socket gets its close frame where the server still takes one.
        let _ = tokio::time::timeout(connection::CLOSE_DEADLINE, connector).await;
        outcome
    })
}

/// A token where there is one; else, on this machine alone, a name for the door of development mode.
fn credentials(
    args: &ChatArgs,
    server: &Server,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Credentials, Fault> {
    if let Some(path) = &args.token_file {
        // It is read again whenever another token is needed.
        return login::read_token(path).map(|_| Credentials::File(path.clone()));
    }
    // A flag overrules a variable: who names a user does not mean the token in the environment.
    let by_variable = || if args.user.is_none() { variable("TRUNKLINE_TOKEN") } else { None };
    if let Some(token) = args.token.clone().or_else(by_variable) {
        let refuse = || Fault::usage("the token is empty, or holds characters that no token has");
        return login::checked(&token).map(Credentials::Token).ok_or_else(refuse);
    }
    if !server.endpoint.is_loopback() {
        return Err(Fault::usage(
            "no token, and logging in by name is for loopback addresses alone: pass --token-file or --token, or set \
             TRUNKLINE_TOKEN; `trunkline token` makes one",
        ));
    }
    let system = || ["USER", "LOGNAME"].into_iter().filter_map(&variable).find(|name| !name.is_empty());
    Ok(Credentials::Name(args.user.clone().or_else(system).unwrap_or_else(|| "me".to_owned())))
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
            Incoming::Gap(why) | Incoming::Closed(why) => return Err(Fault::failed(why)),
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

/// Sends each line and shows what comes, until the connection ends, or Ctrl-C, or the input and every run that it began.
///
/// Status 0 when all of them completed, or when Ctrl-C came before the input ended: that is how a person leaves.
async fn converse(
    mut link: Link,
    mut screen: Screen,
    thread: ThreadId,
    mut lines: mpsc::Receiver<String>,
    mut out: impl Write,
) -> Result<ExitCode, Fault> {
    let mut count = 0_u64;
    let mut watches = Watches::default();
    // A line is read once there is room for it: the rest goes on meanwhile.
    let (mut room, mut open, mut more) = (None, true, true);
    while more || watches.wait() {
        tokio::select! {
            permit = link.outgoing.reserve(), if more && open && room.is_none() => match permit {
                Ok(permit) => room = Some(permit),
                // Why comes the other way.
                Err(_) => open = false,
            },
            line = lines.recv(), if more && room.is_some() && watches.have_room() => {
                let Some(line) = line else { more = false; continue };
                if line.trim().is_empty() { continue; }
                count += 1;
                let id = format!("m{count}");
                watches.add(&id);
                if let Some(permit) = room.take() {
                    permit.send(Outgoing { id, thread: thread.clone(), content: line });
                }
            }
            incoming = link.incoming.recv() => match incoming {
                Some(Incoming::Frame(frame)) => {
                    screen.frame(&frame, &mut out).map_err(output_fault)?;
                    watches.see(&frame);
                }
                Some(Incoming::Notice(notice)) => screen.notice(&notice, &mut out).map_err(output_fault)?,
                Some(Incoming::Gap(notice)) => {
                    screen.notice(&notice, &mut out).map_err(output_fault)?;
                    watches.give_up();
                }
                Some(Incoming::Closed(why)) => return Err(Fault::failed(why)),
                None => return Err(Fault::failed("the connection closed")),
            },
            _ = tokio::signal::ctrl_c() => return Ok(if more { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        }
    }
    Ok(if watches.all_completed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

#[cfg(test)]
mod tests;
