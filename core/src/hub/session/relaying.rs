//! What goes between a session and a web stack, one way or the other.

use super::Session;
use crate::codec::upgrade::{Answer, GivenHead, Refusal};
use crate::time::Now;

impl Session {
    /// All bytes read so far, when the request is not for the WebSocket endpoint: the web stack's to answer.
    pub const fn take_handoff(&mut self) -> Option<Vec<u8>> {
        self.handoff.take()
    }

    /// Takes a request whose head a web stack has read and routed here, and answers what the stack is to send. The path is
    /// the stack's to decide; all the rest is checked as on a socket.
    ///
    /// After [`Answer::is_upgrade`] the session is to be driven on the upgraded stream, from the first byte that came after
    /// the head; it has what it wants to say there already. Otherwise it is over. Dropped, it gives its place back.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use trunkline_core::auth::{ClaimRules, Hs256};
    /// # use trunkline_core::hub::{Hub, HubConfig};
    /// # use trunkline_core::id::Entropy;
    /// # struct Fixed;
    /// # impl Clock for Fixed { fn now(&self) -> Now { Now::default() } }
    /// # impl Entropy for Fixed { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
    /// # let verifier = Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?;
    /// # let (hub, _keeper) = Hub::new(HubConfig::default(), Arc::new(verifier), Arc::new(Fixed), Arc::new(Fixed))?;
    /// use trunkline_core::codec::upgrade::GivenHead;
    /// use trunkline_core::time::{Clock, Now};
    ///
    /// let headers: [(&str, &[u8]); 5] = [
    ///     ("host", b"a"),
    ///     ("connection", b"upgrade"),
    ///     ("upgrade", b"websocket"),
    ///     ("sec-websocket-version", b"13"),
    ///     ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    /// ];
    /// let head = GivenHead { method: "GET", target: "/anywhere", version: "HTTP/1.1", headers: &headers };
    /// let mut session = hub.session()?;
    /// assert_eq!(session.handle_request(hub.now(), &head).status, 101);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_request(&mut self, now: Now, head: &GivenHead<'_>) -> Answer {
        self.connection.expect_relayed();
        match head.encode(self.hub.limits()) {
            Ok(bytes) => self.take_in(now, &bytes),
            Err(refusal) => self.connection.refuse(now, refusal),
        }
        self.connection.take_answer().unwrap_or_else(|| ASKED_ALREADY.answer())
    }
}

/// A session serves one request.
const ASKED_ALREADY: Refusal = Refusal::BadRequest("there was a request before: send one for each socket");
