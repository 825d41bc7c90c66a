//! Who gets a socket at all: the rate and the count of its address first, then the counts of all.

use std::net::IpAddr;

use super::{Hub, Session};
use crate::admission::{Addresses, ClientAddress, Peer, Place, TooMany};
use crate::codec::upgrade::{Answer, Refusal};
use crate::sync::{Arc, Lock};
use crate::time::Clock;

/// A socket that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Over [`Limits::connections`](crate::limits::Limits::connections).
    #[error("as many sockets as allowed are open")]
    Full,
    /// Over [`Limits::unauthenticated`](crate::limits::Limits::unauthenticated).
    #[error("as many sockets as allowed wait for their credentials")]
    Unauthenticated,
    /// Over [`Limits::connections_per_address`](crate::limits::Limits::connections_per_address).
    #[error("the address has as many sockets as allowed")]
    AddressFull,
    /// Over [`Limits::handshakes_per_second`](crate::limits::Limits::handshakes_per_second) and its burst.
    #[error("the address opens sockets faster than allowed")]
    AddressRate,
}

impl Rejected {
    /// The HTTP answer to give before the socket is dropped: 503, whatever was asked and for whatever reason.
    pub fn response(self) -> Vec<u8> {
        self.answer().encode()
    }

    /// The same for a web stack to send.
    pub fn answer(self) -> Answer {
        NO_ROOM.answer()
    }
}

impl From<TooMany> for Rejected {
    fn from(reason: TooMany) -> Self {
        match reason {
            TooMany::Handshakes => Self::AddressRate,
            TooMany::Sockets => Self::AddressFull,
        }
    }
}

/// How a socket is refused for which there is no room, and for how many seconds it is asked to wait.
pub(super) const NO_ROOM: Refusal = Refusal::Unavailable { retry_after_secs: 5 };

/// A socket's place among those of its address, given back on drop.
#[derive(Debug)]
pub(super) struct Placed {
    addresses: Arc<Lock<Addresses>>,
    /// `None` once it is given back.
    place: Option<Place>,
}

impl Placed {
    /// Gives it back as if the socket had never come.
    fn cancel(mut self) {
        if let Some(place) = self.place.take() {
            self.addresses.lock().cancel(place);
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.addresses.lock().release(place);
        }
    }
}

impl Hub {
    /// Admits a socket that was accepted from nowhere in particular, such as a Unix socket or a pipe: the limits per address
    /// do not concern it. It counts as unauthenticated until its token is verified. Call it in the order in which sockets were
    /// accepted: of two that continue one session, the later call's is the one that stays.
    ///
    /// # Errors
    /// When there is no room: answer with [`Rejected::response`] and drop the socket.
    pub fn session(&self) -> Result<Session, Rejected> {
        self.count_admission(self.open())
    }

    fn open(&self) -> Result<Session, Rejected> {
        let connection = self.inner.connections.lease(1).ok_or(Rejected::Full)?;
        let unauthenticated = self.inner.unauthenticated.lease(1).ok_or(Rejected::Unauthenticated)?;
        Ok(Session::new(self.clone(), connection, unauthenticated))
    }

    /// The same for a socket of the peer with this address, which must have room for one more. Where it is a trusted proxy,
    /// the address of its client counts instead: once the request's head is read, before any credentials are looked at.
    ///
    /// # Errors
    /// As [`Hub::session`], and when the address opens sockets too fast or has too many. Nothing is taken then, and nobody
    /// else is displaced.
    pub fn session_from(&self, peer: IpAddr) -> Result<Session, Rejected> {
        self.count_admission(self.open_from(peer))
    }

    fn open_from(&self, peer: IpAddr) -> Result<Session, Rejected> {
        if self.inner.settings.proxies.trusts(peer) {
            let mut session = self.open()?;
            session.expect_proxied();
            return Ok(session);
        }
        let Some(peer) = Peer::of(peer) else { return self.open() };
        let placed = self.place(Some(peer))?;
        match self.open() {
            Ok(mut session) => {
                session.put(placed);
                Ok(session)
            }
            Err(rejected) => {
                placed.cancel();
                Err(rejected)
            }
        }
    }

    /// A place for the client that a trusted proxy speaks for; none where it speaks for itself.
    pub(super) fn place_client(&self, client: ClientAddress) -> Result<Option<Placed>, Rejected> {
        match client {
            ClientAddress::Proxy => Ok(None),
            ClientAddress::Unknown => self.place(None).map(Some),
            ClientAddress::Known(address) => match Peer::of(address) {
                Some(peer) => self.place(Some(peer)).map(Some),
                None => Ok(None),
            },
        }
    }

    fn place(&self, peer: Option<Peer>) -> Result<Placed, Rejected> {
        let place = self.inner.addresses.lock().reserve(self.now().at, peer)?;
        Ok(Placed { addresses: Arc::clone(&self.inner.addresses), place: Some(place) })
    }

    /// Sockets that are open, WebSocket or not yet.
    pub fn sockets(&self) -> usize {
        self.inner.connections.used()
    }

    /// Sockets among them whose token is not verified yet.
    pub fn unauthenticated(&self) -> usize {
        self.inner.unauthenticated.used()
    }

    /// Bytes that are leased for heads and messages that are half received.
    pub fn inbound_bytes(&self) -> usize {
        self.inner.inbound.used()
    }

    /// Sockets among them that count for an address, and how many addresses are known now.
    pub fn addresses(&self) -> (usize, usize) {
        let addresses = self.inner.addresses.lock();
        (addresses.sockets(), addresses.known())
    }
}
