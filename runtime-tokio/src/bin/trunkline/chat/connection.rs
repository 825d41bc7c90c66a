//! The terminal's connection: what the client tells, as a person or a program reads it, and what ends it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trunkline_core::client::{
    Asked, ClientOptions, Fault, ReconnectingConfig, RequestError, State, Stopped, TokenError, TokenSource, Trouble,
    Undone, Update, Wanted,
};
use trunkline_core::error::NextAction;
use trunkline_core::id::FrameId;
use trunkline_core::protocol::{ClientFrame, ServerFrame, StreamName};
use trunkline_tokio::Client;

use super::endpoint::Server;
use super::login::{Credentials, LoginError, obtain};
use super::recovery::{describe, named};
use super::{Incoming, Link, Outgoing};

/// What a connection is for decides what it survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One message and its run: a few tries, and an end where an event of the run may be gone.
    OneMessage,
    /// As long as the person stays.
    Conversation,
}

/// How often one message's connection is tried again in a row.
const MAX_TRIES: u32 = 8;
/// How long the server has to answer our close frame.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Connects, again and again, in a task that ends with the link.
pub(crate) fn connect(
    server: Server,
    credentials: Credentials,
    purpose: Purpose,
) -> Result<(Link, JoinHandle<()>), crate::Fault> {
    let fault = |error: &dyn std::fmt::Display| crate::Fault::usage(format!("--url: {error}"));
    let (url, connector) = (server.endpoint.to_string(), server.connector.clone());
    let options = ClientOptions::new(&url, Source { server, credentials }).map_err(|error| fault(&error))?;
    let mut options = options.with_connector(connector);
    options.config = ReconnectingConfig { name: "trunkline chat".to_owned(), ..options.config };
    let client = Client::connect(options).map_err(|error| fault(&error))?;
    let (sender, incoming) = mpsc::channel(16);
    let (outgoing, receiver) = mpsc::channel(16);
    let teller = Teller { purpose, incoming: sender, welcomed: false };
    Ok((Link { incoming, outgoing }, tokio::spawn(run(client, teller, receiver))))
}

/// Where the client's tokens come from.
struct Source {
    server: Server,
    credentials: Credentials,
}

impl TokenSource for Source {
    fn credentials(&self, wanted: Wanted) -> Asked {
        let (server, credentials) = (self.server.clone(), self.credentials.clone());
        Box::pin(async move {
            if wanted != Wanted::Socket && !credentials.are_renewable() {
                return Err(TokenError::Refused("there is no other token".to_owned()));
            }
            match obtain(&server, &credentials).await {
                Ok(token) => Ok(trunkline_core::client::Credentials::token(&token)),
                // The one in use still holds.
                Err(LoginError::Refused(why)) if wanted != Wanted::Renewal => Err(TokenError::Refused(why)),
                Err(LoginError::Refused(why) | LoginError::Failed(why)) => Err(TokenError::Unavailable(why)),
            }
        })
    }
}

async fn run(mut client: Client, mut teller: Teller, mut outgoing: mpsc::Receiver<Outgoing>) {
    loop {
        let end = tokio::select! {
            update = client.next() => match update {
                Some(update) => teller.take(update).await,
                None => Some(End::Left),
            },
            message = outgoing.recv() => match message {
                Some(message) => say(&client, message),
                None => Some(End::Left),
            },
            () = teller.incoming.closed() => Some(End::Left),
        };
        if let Some(end) = end {
            if let End::Over(why) = end {
                // Where nobody listens there is nobody to tell.
                let _ = teller.incoming.send(Incoming::Closed(why)).await;
            }
            return leave(client).await;
        }
    }
}

/// Past the deadline the socket just ends.
async fn leave(mut client: Client) {
    client.close();
    let closed = async { while client.next().await.is_some() {} };
    let _ = tokio::time::timeout(CLOSE_DEADLINE, closed).await;
}

/// A terminal says less at once than a client holds, so that what is not taken ends it.
fn say(client: &Client, message: Outgoing) -> Option<End> {
    let Outgoing { id, thread, content } = message;
    let id = match FrameId::new(&id) {
        Ok(id) => id,
        Err(error) => return Some(End::Over(error.to_string())),
    };
    let frame = ClientFrame::UserMessage { id, key: None, thread_id: thread, content, metadata: None };
    match client.request(frame) {
        // Why it has stopped comes as an update.
        Ok(_) | Err(RequestError::Stopped) => None,
        Err(error) => Some(End::Over(error.to_string())),
    }
}

/// How the connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody looks any more, or all was said.
    Left,
    /// For good, and why.
    Over(String),
}

/// Says what there is to say.
struct Teller {
    purpose: Purpose,
    incoming: mpsc::Sender<Incoming>,
    /// Whether the server ever let us in.
    welcomed: bool,
}

impl Teller {
    async fn take(&mut self, update: Update) -> Option<End> {
        match update {
            Update::State(state) => self.state(state).await,
            Update::Welcome(welcome) => {
                self.welcomed = true;
                self.frame(&ServerFrame::Welcome(welcome)).await
            }
            Update::Event(event) => self.frame(&ServerFrame::Event(event)).await,
            // Nothing but a new start of the program helps.
            Update::Frame(frame) if matches!(*frame, ServerFrame::AuthExpiring { .. }) => None,
            Update::Frame(frame) => self.frame(&frame).await,
            Update::Gap { stream: StreamName::User, .. } => {
                self.gap("the server no longer has every event that was not shown yet").await
            }
            Update::Gap { .. } | Update::TopicRefused(_) => None,
            Update::Undone { why: Undone::Refused(error), .. } => self.gap(&error.to_string()).await,
            Update::Undone { why: Undone::NotSent | Undone::Unknown, .. } => {
                self.gap("a message has had no answer").await
            }
            Update::NoToken(why) => self.tell(Incoming::Notice(format!("no new token yet: {why}"))).await,
        }
    }

    async fn frame(&self, frame: &ServerFrame) -> Option<End> {
        self.tell(Incoming::Frame(frame.encode())).await
    }

    /// Something is gone: a run whose end may be among it is not waited for.
    async fn gap(&self, what: &str) -> Option<End> {
        match self.purpose {
            Purpose::OneMessage => Some(End::Over(format!("{what}: what became of the message is unknown"))),
            Purpose::Conversation => self.tell(Incoming::Gap(what.to_owned())).await,
        }
    }

    async fn tell(&self, incoming: Incoming) -> Option<End> {
        self.incoming.send(incoming).await.is_err().then_some(End::Left)
    }

    async fn state(&self, state: State) -> Option<End> {
        match state {
            State::Connecting | State::Live => None,
            State::Stopped(Stopped::Closed) => Some(End::Left),
            State::Stopped(Stopped::Trouble(why)) => Some(End::Over(last_words(&why))),
            State::Waiting { wait, failures, why, .. } => {
                if let Some(over) = self.gives_up(failures, &why) {
                    return Some(End::Over(over));
                }
                let notice = format!("{}; connecting again in {:.1} s", words(&why), wait.as_secs_f64());
                self.tell(Incoming::Notice(notice)).await
            }
        }
    }

    /// Why not to wait for another try.
    fn gives_up(&self, failures: u32, why: &Trouble) -> Option<String> {
        // A server that was never there is most likely a mistake in the address: that is said at once.
        let is_loss = match why {
            Trouble::NoSocket(_) | Trouble::NoCredentials(_) | Trouble::Fault(Fault::Silent | Fault::Lost) => true,
            Trouble::Closed { .. } | Trouble::Fault(Fault::Upgrade(_) | Fault::Protocol(_) | Fault::Gap { .. }) => {
                false
            }
        };
        if is_loss && !self.welcomed {
            return Some(why.to_string());
        }
        if self.purpose == Purpose::Conversation {
            return None;
        }
        if self.welcomed && why.next_action(true) == NextAction::RetryAfresh {
            return Some(format!("{}: what became of the message is unknown", words(why)));
        }
        (failures > MAX_TRIES).then(|| format!("{}; gave up after {MAX_TRIES} tries", words(why)))
    }
}

/// What happened, for who goes on.
fn words(why: &Trouble) -> String {
    match why {
        Trouble::Closed { code, text } if why.next_action(true) == NextAction::NewToken => {
            format!("{}; getting a new token", named(*code, text))
        }
        Trouble::Closed { code, text } => named(*code, text),
        Trouble::NoSocket(_) | Trouble::NoCredentials(_) | Trouble::Fault(_) => why.to_string(),
    }
}

/// What happened, for who has to do something about it.
fn last_words(why: &Trouble) -> String {
    if let Trouble::Closed { code, text } = why { describe(*code, text) } else { why.to_string() }
}

#[cfg(test)]
mod tests;
