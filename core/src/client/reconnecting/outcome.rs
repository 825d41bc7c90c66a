//! What a client that comes back tells.

use std::time::Duration;

use super::RequestError;
use crate::client::{Fault, Wanted};
use crate::codec::upgrade::UpgradeError;
use crate::error::{CloseReason, NextAction};
use crate::id::{FrameId, IdempotencyKey, TopicName};
use crate::protocol::{Event, Lost, ServerFrame, StreamName, Welcome};
use crate::stream::Reducer;
use crate::time::Timestamp;

/// What is to be done outside of the machine.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Get credentials, and answer with [`Reconnecting::handle_credentials`](super::Reconnecting::handle_credentials) under this
    /// number. Whatever was asked for before is not waited for any more.
    Ask(u64, Wanted),
    /// Open a socket to the endpoint, and answer with [`Reconnecting::handle_open`](super::Reconnecting::handle_open) under this
    /// number. The socket before, if there was one, is done with: it is shut down.
    Open(u64),
    /// Tell the application.
    Tell(Update),
}

/// What an application is told, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The connection has come to another state.
    State(State),
    /// The client is in, for the first time or again.
    Welcome(Box<Welcome>),
    /// An event of the user's own stream or of a topic: in order, and once over all sockets.
    Event(Box<Event>),
    /// Any other frame: replies to what was asked, merged text, snapshots, notices. Text and snapshots are once and in order as events are.
    ///
    /// [`ServerFrame::AuthExpiring`] comes only where the source of tokens has none to renew with.
    Frame(Box<ServerFrame>),
    /// A stream does not go on from where it was: what was built of it is dropped, and what follows begins anew. `lost` says which
    /// events are gone for ever; where it says nothing, that is unknown.
    Gap {
        /// Which one.
        stream: StreamName,
        /// What is gone.
        lost: Option<Lost>,
    },
    /// What became of a request is unknown and will not be told, or it was never sent: see [`Undone`].
    Undone {
        /// As the call that made the request gave it.
        id: FrameId,
        /// Whoever repeats the request does so under this key.
        key: Option<IdempotencyKey>,
        /// What is known.
        why: Undone,
    },
    /// The server does not let this user follow a topic, or there is none of that name.
    TopicRefused(TopicName),
    /// No new token could be had ahead of the end of the one in use, and why. It is asked for again while that one lives.
    NoToken(String),
}

/// What is known of a request that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It never left.
    NotSent,
    /// It was not taken.
    Refused(RequestError),
    /// It left, and whether it took effect is unknown: the server that had it has forgotten what it was told, or no answer came for
    /// so long that the server may have forgotten the key, so that to send it again could do it twice.
    Unknown,
}

/// Where the connection stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A token is asked for, a socket opened, or a welcome waited for.
    Connecting,
    /// The client is in.
    Live,
    /// There is no socket until the wait is over.
    Waiting {
        /// On the machine's clock.
        until: Timestamp,
        /// How long that is.
        wait: Duration,
        /// Sockets in a row that came to nothing, this one included.
        failures: u32,
        /// What the last one came to.
        why: Trouble,
    },
    /// For good. Nothing follows but [`Update::Undone`] for each request that waited.
    Stopped(Stopped),
}

/// Why a client connects no more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Stopped {
    /// The application wanted it so.
    #[error("closed")]
    Closed,
    /// To try again would come to the same.
    #[error("{0}")]
    Trouble(Trouble),
}

/// What became of a socket, or why there was none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// No socket could be opened.
    #[error("{0}")]
    NoSocket(String),
    /// No credentials could be had.
    #[error("{0}")]
    NoCredentials(String),
    /// The server closed the connection.
    #[error("the server closed the connection: {}", closed(*code, text))]
    Closed {
        /// The close frame's code; 1005 where it had none.
        code: u16,
        /// Its text.
        text: String,
    },
    /// It ended otherwise.
    #[error("{0}")]
    Fault(Fault),
}

impl Trouble {
    /// What it leads to, by the code of a close frame, or the status of a refused upgrade. `welcomed` says whether the client was
    /// ever let in here: an answer that is none is most likely a wrong address before, and something in between after that.
    pub fn next_action(&self, welcomed: bool) -> NextAction {
        let stranger = if welcomed { NextAction::RetryLater } else { NextAction::Stop };
        match self {
            Self::NoSocket(_) | Self::NoCredentials(_) => NextAction::Retry,
            Self::Closed { code, .. } => NextAction::for_code(*code),
            Self::Fault(Fault::Gap { .. } | Fault::Silent | Fault::Lost) => NextAction::Retry,
            Self::Fault(Fault::Protocol(_)) => stranger,
            Self::Fault(Fault::Upgrade(error)) => match error.status {
                Some(408 | 425 | 429 | 500..=599) => NextAction::Retry,
                Some(_) | None => stranger,
            },
        }
    }

    /// Whether it is the credentials that were not good enough, so that others may be.
    pub(super) fn is_about_credentials(&self) -> bool {
        match self {
            Self::NoSocket(_) | Self::NoCredentials(_) => false,
            Self::Closed { code, .. } => *code == CloseReason::BadCredentials.code(),
            Self::Fault(Fault::Upgrade(error)) => error.status == Some(401),
            Self::Fault(Fault::Protocol(_) | Fault::Gap { .. } | Fault::Silent | Fault::Lost) => false,
        }
    }

    /// How long the server wants to be left alone at least.
    pub(super) fn asked(&self) -> Option<Duration> {
        let Self::Fault(Fault::Upgrade(UpgradeError { retry_after_secs, .. })) = self else { return None };
        retry_after_secs.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

fn closed(code: u16, text: &str) -> String {
    CloseReason::from_code(code)
        .map_or_else(|| format!("{code} {text}").trim_end().to_owned(), |reason| reason.to_string())
}

impl Update {
    /// Takes it into the runs that a person sees: for the user's own stream alone.
    pub fn reduce(&self, runs: &mut Reducer) {
        match self {
            Self::Event(event) if event.stream == StreamName::User => runs.apply(event),
            Self::Gap { stream: StreamName::User, .. } => runs.clear(),
            Self::Frame(frame) => reduce(frame, runs),
            Self::Event(_)
            | Self::Gap { .. }
            | Self::State(_)
            | Self::Welcome(_)
            | Self::Undone { .. }
            | Self::TopicRefused(_)
            | Self::NoToken(_) => {}
        }
    }
}

fn reduce(frame: &ServerFrame, runs: &mut Reducer) {
    if let ServerFrame::Deltas(window) = frame
        && window.stream == StreamName::User
    {
        for part in &window.parts {
            runs.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq);
        }
    } else if let ServerFrame::Snapshot(part) = frame
        && part.stream == StreamName::User
    {
        if part.part == 1 {
            runs.clear();
        }
        part.runs.iter().for_each(|run| runs.restore(run));
    }
}
