//! What a client is told before, and what it tells.

use std::fmt;

#[cfg(doc)]
use super::{Client, Renewal};
use crate::codec::upgrade::UpgradeError;
use crate::id::{SessionId, ThreadId};
use crate::protocol::{Event, Position, ProducerHello, ServerFrame, Welcome};

/// Whom to connect to, as whom, and from where on.
#[derive(Clone)]
pub struct ClientConfig {
    /// The `Host` header: `host` or `host:port`.
    pub host: String,
    /// The request target: the endpoint's path, `/ws` by default, and where there is a one-time ticket `?ticket=` with it.
    pub target: String,
    /// The token; empty where a ticket takes its place. It goes in the first frame, where no proxy logs it.
    pub token: String,
    /// The session to continue.
    pub session: Option<SessionId>,
    /// The last position of the user's own stream; [`Position::NONE`] asks for all that is kept, `None` for what is new.
    pub resume: Option<Position>,
    /// The threads of the user's own stream to watch, at most 100; none is all. Events of others never come, and the
    /// position moves on over them.
    pub threads: Vec<ThreadId>,
    /// Makes it a producer's connection: it has no stream of its own and is told of what its users ask.
    pub producer: Option<ProducerHello>,
    /// What the client calls itself.
    pub name: String,
}

/// What a connection has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The client is in. `lost` in its streams says what is gone.
    Welcome(Box<Welcome>),
    /// An event of the user's own stream, in order and once.
    Event(Box<Event>),
    /// Any other frame: replies, notices.
    ///
    /// [`ServerFrame::AuthExpiring`] asks for a new token, which goes into [`Client::refresh`]. It comes also where the server's was
    /// missed, and again while there is none, as [`Renewal`] says; whoever is getting one already may leave it out.
    Frame(Box<ServerFrame>),
}

/// Why a connection ended, where it was not a close frame of the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The upgrade was refused, or the answer is no answer to it.
    #[error("{0}")]
    Upgrade(#[from] UpgradeError),
    /// The server sent something that the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// A frame does not follow the one before: connect again and resume.
    #[error("the stream has a gap: expected the frame after {expected}, got the one after seq {follows}")]
    Gap {
        /// Where the client is.
        expected: Position,
        /// What the frame follows.
        follows: u64,
    },
    /// Nothing came for too long.
    #[error("nothing came from the server for too long")]
    Silent,
    /// The socket ended without a close frame.
    #[error("the connection was lost")]
    Lost,
}

/// Token and query stay out.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("host", &self.host)
            .field("path", &self.target.split('?').next().unwrap_or_default())
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}
