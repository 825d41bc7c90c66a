//! What a client that comes back is told before.

use std::time::Duration;

use crate::client::{BackoffConfig, Endpoint, UrlError};
use crate::id::{MAX_ID_BYTES, ThreadId, TopicName};
use crate::protocol::{MAX_HELLO_TOPICS, Position};

/// What a [`Reconnecting`](super::Reconnecting) client wants, and how long it waits for what.
#[derive(Clone, Debug)]
pub struct ReconnectingConfig {
    /// The server.
    pub endpoint: Endpoint,
    /// Where to begin in the user's own stream: [`Position::NONE`] for all that is kept, `None` for what comes from now on.
    pub resume: Option<Position>,
    /// The threads of the user's own stream to watch, at most 100; none is all.
    pub threads: Vec<ThreadId>,
    /// The topics to follow from the start, at most 100.
    pub topics: Vec<TopicName>,
    /// What the client calls itself. At most 128 bytes.
    pub name: String,
    /// The waits between sockets.
    pub backoff: BackoffConfig,
    /// How long a socket may take to open, a TLS handshake included. 10 s.
    pub open_deadline: Duration,
    /// How long credentials may take to come. 30 s.
    pub token_deadline: Duration,
    /// How long after it first left a request may be sent again. The server remembers an answered key for 10 min. 9 min.
    pub repeat_within: Duration,
    /// Requests that wait for their answer, in number. 256.
    pub max_unanswered: usize,
    /// The same in bytes. 1 MiB.
    pub max_unanswered_bytes: usize,
}

impl ReconnectingConfig {
    /// The defaults, for a server.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            resume: None,
            threads: Vec::new(),
            topics: Vec::new(),
            name: "trunkline".to_owned(),
            backoff: BackoffConfig::default(),
            open_deadline: Duration::from_secs(10),
            token_deadline: Duration::from_secs(30),
            repeat_within: Duration::from_secs(9 * 60),
            max_unanswered: 256,
            max_unanswered_bytes: 1 << 20,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.threads.len() > MAX_HELLO_TOPICS || self.topics.len() > MAX_HELLO_TOPICS {
            return Err(ConfigError::TooMany);
        }
        if self.name.len() > MAX_ID_BYTES { Err(ConfigError::Name) } else { Ok(()) }
    }
}

/// Why a configuration is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is none, or cannot be reached by this build.
    #[error("the address {0}")]
    Url(#[from] UrlError),
    /// More threads or topics than one `hello` may name.
    #[error("more than {MAX_HELLO_TOPICS} threads or topics")]
    TooMany,
    /// The client's name is too long.
    #[error("the name is longer than {MAX_ID_BYTES} bytes")]
    Name,
}
