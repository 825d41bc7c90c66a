//! One-time tickets: issued to who is known, and taken by the first upgrade that shows one.

use std::time::Duration;

use super::Hub;
use crate::auth::{AuthError, Grant, Ticket, TicketsFull};
use crate::time::Clock as _;

/// A ticket that was issued.
#[derive(Clone, Debug)]
pub struct IssuedTicket {
    /// What the page shows.
    pub ticket: Ticket,
    /// How long it may be shown: [`Limits::ticket_life`](crate::limits::Limits::ticket_life), or less where what it grants is over
    /// before.
    pub expires_in: Duration,
}

/// Why no ticket was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// [`Access::with_tickets`](crate::auth::Access::with_tickets) was not asked for.
    #[error("tickets are off: turn them on in the hub's access")]
    Off,
    /// As many are unused as [`Limits::tickets`](crate::limits::Limits::tickets) or
    /// [`Limits::tickets_per_user`](crate::limits::Limits::tickets_per_user) allow.
    #[error("too many tickets are unused: try again in {retry_after:?}")]
    Busy {
        /// Until the next one is over.
        retry_after: Duration,
    },
    /// The server shuts down.
    #[error("the server shuts down: ask another one")]
    Draining,
    /// What was to be granted has expired or was revoked.
    #[error("nothing is left to grant: {0}")]
    Over(AuthError),
}

impl Hub {
    /// Issues a ticket that stands for this grant: a page opens its WebSocket with `?ticket=` and [`Ticket::to_text`]. It is good for
    /// one upgrade, also where that fails then. Whoever comes in by it has the grant's scopes, and is out when the grant expires or
    /// its `token_id` is revoked, in the meantime too.
    ///
    /// An application that knows its users by a session of its own makes the grant itself. With the session's name as `token_id`, a
    /// [revocation](Hub::revoke) of it ends the connections of the session.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use trunkline_core::auth::{Access, ClaimRules, Grant, Hs256, Scopes};
    /// # use trunkline_core::hub::{Hub, HubConfig};
    /// # use trunkline_core::id::{Entropy, TokenId, UserId};
    /// # use trunkline_core::time::{Clock, Now};
    /// # struct Fixed;
    /// # impl Clock for Fixed { fn now(&self) -> Now { Now::default() } }
    /// # impl Entropy for Fixed { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
    /// # let verifier = Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?;
    /// let config = HubConfig { access: Access::default().with_tickets(), ..HubConfig::default() };
    /// let (hub, _housekeeper) = Hub::new(config, Arc::new(verifier), Arc::new(Fixed), Arc::new(Fixed))?;
    ///
    /// let user = UserId::new(None, "ann")?;
    /// let scopes = Scopes::parse("topic:news", &user)?;
    /// let expires = Fixed.now().unix + Duration::from_secs(3600);
    /// let issued_at = Some(Fixed.now().unix);
    /// let grant = Grant { user, issued_at, expires, token_id: Some(TokenId::new("web-session-81")?), scopes };
    /// let issued = hub.issue_ticket(grant)?;
    /// let address = format!("wss://example.org/ws?ticket={}", issued.ticket.to_text());
    /// # let _ = address;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When tickets are off, too many are unused, the server shuts down, or the grant is over already.
    pub fn issue_ticket(&self, grant: Grant) -> Result<IssuedTicket, TicketError> {
        if !self.takes_tickets() {
            return Err(TicketError::Off);
        }
        if self.is_draining() {
            return Err(TicketError::Draining);
        }
        if let Some(over) = self.is_over(&grant) {
            return Err(TicketError::Over(over));
        }
        let mut bits = [0; 32];
        self.inner.entropy.fill(&mut bits);
        let ticket = Ticket::from_bits(bits);
        let now = self.now();
        let left = (grant.expires + self.limits().token_leeway).saturating_since(now.unix);
        let issued = self.inner.tickets.lock().issue(now, &ticket, grant);
        issued.map_err(|TicketsFull { retry_after }| TicketError::Busy { retry_after })?;
        Ok(IssuedTicket { ticket, expires_in: self.limits().ticket_life.min(left) })
    }

    /// Whether tickets are on.
    pub fn takes_tickets(&self) -> bool {
        self.inner.settings.access.takes_tickets()
    }

    /// Tickets that are issued and not used; those that are over count until the next one is issued.
    pub fn tickets(&self) -> usize {
        self.inner.tickets.lock().len()
    }

    /// What a ticket grants, once. What was revoked meanwhile is found again when the connection comes in.
    pub(super) fn take_ticket(&self, ticket: &Ticket) -> Result<Grant, AuthError> {
        let taken = self.inner.tickets.lock().take(self.now(), ticket);
        let grant = taken.ok_or(AuthError::Invalid("the ticket is unknown, used or over"))?;
        match self.is_over(&grant) {
            Some(over) => Err(over),
            None => Ok(grant),
        }
    }
}
