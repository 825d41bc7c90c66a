//! A connection that comes back: position, session and unanswered messages outlive the socket.

mod renewal;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trunkline_core::client::{Backoff, BackoffConfig, ClientConfig, ClientEvent, Closed, Fault, Handle};
use trunkline_core::error::{CloseReason, NextAction};
use trunkline_core::id::{Entropy as _, FrameId, SessionId};
use trunkline_core::protocol::{ClientFrame, Mode, Position, ServerFrame, StreamName, Welcome};
use trunkline_core::time::Timestamp;
use trunkline_tokio::SystemEntropy;

use super::endpoint::Endpoint;
use super::login::{Credentials, LoginError, obtain};
use super::recovery::{describe, named};
use super::{Incoming, Link, Outgoing};
use renewal::{is_about_the_token, until_there};

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
/// Messages without a reply; beyond them no more are taken.
const MAX_UNANSWERED: usize = 32;
/// How long the server has to answer our close frame.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Connects, again and again, in a task that ends with the link.
pub(crate) fn connect(endpoint: Endpoint, credentials: Credentials, purpose: Purpose) -> (Link, JoinHandle<()>) {
    let (sender, incoming) = mpsc::channel(16);
    let (outgoing, receiver) = mpsc::channel(16);
    let connector = Connector {
        endpoint,
        credentials,
        token: None,
        spent: None,
        purpose,
        incoming: sender,
        outgoing: receiver,
        cursor: None,
        welcomed: false,
        unanswered: Vec::new(),
        backoff: Backoff::new(BackoffConfig::default()),
        since: Instant::now(),
    };
    (Link { incoming, outgoing }, tokio::spawn(connector.run()))
}

struct Connector {
    endpoint: Endpoint,
    credentials: Credentials,
    /// What the credentials came to, until the server wants something newer.
    token: Option<String>,
    /// The one that is over.
    spent: Option<String>,
    purpose: Purpose,
    incoming: mpsc::Sender<Incoming>,
    outgoing: mpsc::Receiver<Outgoing>,
    /// Where to go on from, and as which session.
    cursor: Option<(Option<SessionId>, Position)>,
    /// Whether the server ever let us in.
    welcomed: bool,
    /// Sent again after every welcome; their keys make that harmless.
    unanswered: Vec<(FrameId, ClientFrame)>,
    backoff: Backoff,
    /// The origin of the back-off's clock.
    since: Instant,
}

/// How one socket ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody looks any more.
    Left,
    /// For good, and why.
    Over(String),
    /// Worth another try, as the action says.
    Lost { why: String, action: NextAction },
}

impl Connector {
    async fn run(mut self) {
        loop {
            let end = self.one_socket().await;
            let over = match end {
                End::Left => return,
                End::Over(why) => why,
                End::Lost { why, action } => {
                    let wait = self.backoff.lost(self.now(), action, SystemEntropy.u64());
                    let given_up = self.purpose == Purpose::OneMessage && self.backoff.failures() > MAX_TRIES;
                    match wait {
                        Some(_) if given_up => format!("{why}; gave up after {MAX_TRIES} tries"),
                        Some(wait) if self.wait(&why, wait).await => continue,
                        Some(_) => return,
                        None => why,
                    }
                }
            };
            // Where nobody listens there is nobody to tell.
            let _ = self.incoming.send(Incoming::Closed(over)).await;
            return;
        }
    }

    /// Says whether anybody still waits for the connection.
    async fn wait(&self, why: &str, wait: Duration) -> bool {
        let notice = format!("{why}; connecting again in {:.1} s", wait.as_secs_f64());
        if self.incoming.send(Incoming::Notice(notice)).await.is_err() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.incoming.closed() => false,
        }
    }

    async fn one_socket(&mut self) -> End {
        let token = match self.token().await {
            Ok(token) => token,
            Err(LoginError::Refused(why)) => return End::Over(why),
            Err(LoginError::Failed(why)) => return self.lost(why),
        };
        let stream = match self.endpoint.open().await {
            Ok(stream) => stream,
            Err(why) => return self.lost(why),
        };
        let mut handle = match trunkline_tokio::connect(stream, self.config(token)) {
            Ok(handle) => handle,
            Err(error) => return End::Over(error.to_string()),
        };
        let end = self.converse(&mut handle).await;
        if end == End::Left {
            handle.close();
            // Past the deadline the socket just ends.
            let closed = async { while handle.next().await.is_ok() {} };
            let _ = tokio::time::timeout(CLOSE_DEADLINE, closed).await;
        }
        end
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.since.elapsed()
    }

    async fn token(&mut self) -> Result<String, LoginError> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let token = obtain(&self.endpoint, &self.credentials).await?;
        if self.spent.as_ref() == Some(&token) {
            return Err(LoginError::Failed("the token is over, and there is no other yet".to_owned()));
        }
        Ok(self.token.insert(token).clone())
    }

    fn config(&self, token: String) -> ClientConfig {
        ClientConfig {
            host: self.endpoint.authority.clone(),
            target: self.endpoint.target.clone(),
            token,
            session: self.cursor.and_then(|(session, _)| session),
            resume: self.cursor.map(|(_, position)| position),
            threads: Vec::new(),
            producer: None,
            name: "trunkline chat".to_owned(),
        }
    }

    async fn converse(&mut self, handle: &mut Handle) -> End {
        let mut live = false;
        let mut renewal = None;
        loop {
            let room = self.unanswered.len() < MAX_UNANSWERED;
            tokio::select! {
                event = handle.next() => match event {
                    Ok(event) => {
                        let welcome = matches!(event, ClientEvent::Welcome(_));
                        if is_about_the_token(&event) {
                            let next = self.renewal(&event);
                            renewal = renewal.or(next);
                        } else if let Some(end) = self.take(event).await {
                            return end;
                        }
                        if welcome {
                            live = true;
                            self.unanswered.iter().for_each(|(_, frame)| send(handle, frame));
                        }
                    }
                    Err(closed) => return self.closed(closed),
                },
                token = until_there(&mut renewal) => if let Some(end) = self.renewed(handle, token).await {
                    return end;
                },
                message = self.outgoing.recv(), if room => {
                    let Some(message) = message else { return End::Left };
                    let (id, frame) = match keyed(message) {
                        Ok(keyed) => keyed,
                        Err(error) => return End::Over(error.to_string()),
                    };
                    if live {
                        send(handle, &frame);
                    }
                    self.unanswered.push((id, frame));
                }
            }
        }
    }

    async fn take(&mut self, event: ClientEvent) -> Option<End> {
        let (frame, then) = match event {
            ClientEvent::Welcome(welcome) => {
                self.backoff.welcomed(self.now());
                let gap = self.enter(&welcome);
                (ServerFrame::Welcome(welcome), gap)
            }
            ClientEvent::Event(event) => {
                self.came_to(&event.stream, event.position);
                (ServerFrame::Event(event), false)
            }
            ClientEvent::Frame(frame) => {
                let gap = self.note(&frame);
                (*frame, gap)
            }
        };
        if self.incoming.send(Incoming::Frame(frame.encode())).await.is_err() {
            return Some(End::Left);
        }
        if then { self.gap().await } else { None }
    }

    /// Takes the place that the welcome gives; says whether events before it are gone.
    fn enter(&mut self, welcome: &Welcome) -> bool {
        let entry = welcome.streams.iter().find(|entry| entry.stream == StreamName::User);
        let whole = |mode| match mode {
            Mode::Live | Mode::Replay => true,
            Mode::Snapshot | Mode::Reset => false,
        };
        let afresh = self.welcomed && self.cursor.is_none();
        let gap =
            afresh || self.cursor.is_some() && entry.is_some_and(|entry| entry.lost.is_some() || !whole(entry.mode));
        self.cursor = entry.map(|entry| (Some(welcome.session_id), entry.event_id));
        self.welcomed = true;
        gap
    }

    /// Events are gone: a run whose end may be among them is not waited for.
    async fn gap(&mut self) -> Option<End> {
        match self.purpose {
            Purpose::OneMessage => Some(End::Over(
                "the server no longer has every event that was not shown yet: \
                 what became of the message is unknown"
                    .to_owned(),
            )),
            Purpose::Conversation => {
                let notice = "the server no longer has every event that was not shown yet".to_owned();
                self.incoming.send(Incoming::Gap(notice)).await.is_err().then_some(End::Left)
            }
        }
    }

    /// Takes note of a frame that is no event; says whether events are gone.
    fn note(&mut self, frame: &ServerFrame) -> bool {
        if let ServerFrame::Reply(reply) = frame {
            self.unanswered.retain(|(id, _)| *id != reply.id);
        } else if let ServerFrame::GoingAway { reconnect_after, .. } = frame {
            self.backoff.asked(Duration::try_from_secs_f64(*reconnect_after).unwrap_or_default());
        } else if let ServerFrame::Deltas(window) = frame {
            self.came_to(&window.stream, window.position);
        } else if let ServerFrame::Position { stream, event_id, .. } = frame {
            self.came_to(stream, *event_id);
        } else if let ServerFrame::Snapshot(part) = frame {
            if part.part == part.of {
                self.came_to(&part.stream, part.event_id);
            }
            return part.stream == StreamName::User && part.lost.is_some();
        }
        false
    }

    fn came_to(&mut self, stream: &StreamName, position: Position) {
        if *stream == StreamName::User {
            self.cursor = self.cursor.map(|(session, _)| (session, position));
        }
    }

    fn closed(&mut self, closed: Closed) -> End {
        match closed {
            Ok((code, text)) => self.close_frame(code, &text),
            Err(Fault::Upgrade(error)) if matches!(error.status, Some(429 | 500..)) => {
                self.backoff.asked(Duration::from_secs(error.retry_after_secs.unwrap_or_default().into()));
                again(error.to_string())
            }
            Err(fault @ (Fault::Upgrade(_) | Fault::Protocol(_))) => End::Over(fault.to_string()),
            Err(fault @ Fault::Gap { .. }) => again(fault.to_string()),
            Err(fault @ (Fault::Silent | Fault::Lost)) => self.lost(fault.to_string()),
        }
    }

    fn close_frame(&mut self, code: u16, text: &str) -> End {
        let (why, action) = (describe(code, text), NextAction::for_code(code));
        match action {
            NextAction::NewToken if self.credentials.are_renewable() => {
                self.spent = self.token.take();
                if code == CloseReason::TokenRevoked.code() {
                    // A session that is revoked lets nobody in, whatever the token.
                    self.cursor = self.cursor.map(|(_, position)| (None, position));
                }
                End::Lost { why: format!("{}; getting a new token", named(code, text)), action }
            }
            NextAction::Nothing | NextAction::Stop | NextAction::NewToken => End::Over(why),
            NextAction::Retry | NextAction::RetryLater => End::Lost { why, action },
            NextAction::RetryAfresh if self.purpose == Purpose::OneMessage && self.welcomed => {
                End::Over(format!("{why}: what became of the message is unknown"))
            }
            NextAction::RetryAfresh => {
                self.cursor = None;
                End::Lost { why, action }
            }
        }
    }

    /// A server that was never there is most likely a mistake in the address: that is said at once.
    fn lost(&self, why: String) -> End {
        if self.welcomed { again(why) } else { End::Over(why) }
    }
}

const fn again(why: String) -> End {
    End::Lost { why, action: NextAction::Retry }
}

/// A socket that takes no frame any more says so by its end, and the frame goes out with the next one.
fn send(handle: &Handle, frame: &ClientFrame) {
    let _ = handle.send(frame.clone());
}

/// The message as a frame, under a key that makes every repeat the same message.
fn keyed(message: Outgoing) -> Result<(FrameId, ClientFrame), trunkline_core::id::IdError> {
    let Outgoing { id, thread, content } = message;
    let key = format!("chat-{:032x}", SystemEntropy.id()).parse()?;
    let id = FrameId::new(&id)?;
    let frame = ClientFrame::UserMessage { id: id.clone(), key: Some(key), thread_id: thread, content, metadata: None };
    Ok((id, frame))
}

#[cfg(test)]
mod tests;
