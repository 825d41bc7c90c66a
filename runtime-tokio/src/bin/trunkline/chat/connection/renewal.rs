//! A new token while the connection lives.

use std::future::{Future, pending};
use std::pin::Pin;

use trunkline_core::client::{ClientEvent, Handle};
use trunkline_core::error::ErrorCode;
use trunkline_core::protocol::ServerFrame;

use super::{Connector, End, Incoming, LoginError, obtain};

/// A token that is on its way.
pub(super) type Renewal = Pin<Box<dyn Future<Output = Result<String, LoginError>> + Send>>;

/// Whether an event is between the program and the server: it is asked for a token, or told what became of one.
pub(super) fn is_about_the_token(event: &ClientEvent) -> bool {
    let ClientEvent::Frame(frame) = event else { return false };
    if let ServerFrame::Reply(reply) = &**frame {
        // The program's own requests are named otherwise.
        return reply.id.as_str().starts_with("refresh-");
    }
    matches!(**frame, ServerFrame::AuthExpiring { .. })
}

/// The token once it is there; for ever where none is on its way.
pub(super) async fn until_there(renewal: &mut Option<Renewal>) -> Result<String, LoginError> {
    let token = match renewal {
        Some(on_its_way) => on_its_way.await,
        None => pending().await,
    };
    *renewal = None;
    token
}

impl Connector {
    /// Begins to get a token where the connection asks for one. It asks again while the one in use lives.
    pub(super) fn renewal(&mut self, event: &ClientEvent) -> Option<Renewal> {
        let ClientEvent::Frame(frame) = event else { return None };
        if let ServerFrame::Reply(reply) = &**frame {
            if reply.outcome.as_ref().is_err_and(|error| error.code.as_str() == ErrorCode::RefreshRefused.as_str()) {
                // The next socket comes with another.
                self.token = None;
            }
            return None;
        }
        let (endpoint, credentials) = (self.endpoint.clone(), self.credentials.clone());
        credentials
            .are_renewable()
            .then(|| -> Renewal { Box::pin(async move { obtain(&endpoint, &credentials).await }) })
    }

    /// Gives the server the token that has come.
    pub(super) async fn renewed(&mut self, handle: &Handle, token: Result<String, LoginError>) -> Option<End> {
        match token {
            // Nobody has written a new one yet.
            Ok(token) if self.token.as_ref() == Some(&token) => None,
            Ok(token) => {
                // A connection that is over says so by its end, and the next one comes with it.
                let _ = handle.refresh(&token);
                self.token = Some(token);
                None
            }
            Err(LoginError::Refused(why) | LoginError::Failed(why)) => {
                let notice = Incoming::Notice(format!("no new token yet: {why}"));
                self.incoming.send(notice).await.is_err().then_some(End::Left)
            }
        }
    }
}
