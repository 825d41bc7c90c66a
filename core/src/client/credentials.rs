//! What lets a client in, and where it comes from.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use crate::protocol::Token;

/// What a client comes in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A token. It goes in the first frame, where no proxy logs it, and is used until it is over.
    Token(Token),
    /// A one-time ticket, for one socket: each socket wants another.
    Ticket(Token),
}

impl Credentials {
    /// A token.
    pub fn token(token: &str) -> Self {
        Self::Token(Token::new(token))
    }

    /// A one-time ticket, as the server or the application issues them.
    pub fn ticket(ticket: &str) -> Self {
        Self::Ticket(Token::new(ticket))
    }
}

/// Why there are no credentials now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There will be none: the client stops.
    #[error("{0}")]
    Refused(String),
    /// Not now: the client asks again later.
    #[error("{0}")]
    Unavailable(String),
}

/// What credentials are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// For a socket that is to be opened.
    Socket,
    /// For a socket that is to be opened, since the last ones are over, or were refused: the same again are no use.
    Another,
    /// A token ahead of the end of the one in use. Nothing waits for it yet.
    Renewal,
}

/// An answer that is on its way.
pub type Asked = Pin<Box<dyn Future<Output = Result<Credentials, TokenError>> + Send>>;

/// Where a client gets its credentials.
///
/// One answer is waited for at a time. It is asked again before it has answered only where another kind is wanted, or its answer took longer than
/// [`ReconnectingConfig::token_deadline`](super::ReconnectingConfig::token_deadline): then that future is dropped. Closures are sources, too:
///
/// ```
/// use trunkline_core::client::{Credentials, TokenError, TokenSource, Wanted};
///
/// # async fn ask_my_backend() -> std::io::Result<String> { Ok("aa.bb.cc".into()) }
/// fn source() -> impl TokenSource {
///     |_wanted: Wanted| async {
///         let token = ask_my_backend().await.map_err(|error| TokenError::Unavailable(error.to_string()))?;
///         Ok(Credentials::token(&token))
///     }
/// }
/// # source();
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Begins to get credentials. What this does at once must be short: it is the client's own task that calls.
    fn credentials(&self, wanted: Wanted) -> Asked;
}

impl<F, A> TokenSource for F
where
    F: Fn(Wanted) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Credentials, TokenError>> + Send + 'static,
{
    fn credentials(&self, wanted: Wanted) -> Asked {
        Box::pin(self(wanted))
    }
}

/// One token, and no other when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedToken(Token);

impl FixedToken {
    /// A source of this token alone.
    pub fn new(token: &str) -> Self {
        Self(Token::new(token))
    }
}

impl TokenSource for FixedToken {
    fn credentials(&self, wanted: Wanted) -> Asked {
        Box::pin(ready(match wanted {
            Wanted::Socket => Ok(Credentials::Token(self.0.clone())),
            Wanted::Another => Err(TokenError::Refused("the token is over, and there is no other".to_owned())),
            Wanted::Renewal => Err(TokenError::Unavailable("there is no other token".to_owned())),
        }))
    }
}

impl fmt::Debug for dyn TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(..)")
    }
}
