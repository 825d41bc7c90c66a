//! A client between two mailboxes: frames go in from any task, events come out to one.

use std::future::poll_fn;
use std::sync::Arc as Shared;
use std::task::{Context, Poll, Waker};

use super::{Client, ClientConfig, ClientEvent, Fault};
use crate::codec::upgrade::UpgradeError;
use crate::drive::Machine;
use crate::id::Entropy;
use crate::protocol::{ClientFrame, Token};
use crate::sync::{Arc, Mailbox, Popped, PushError};
use crate::time::{Now, Timestamp};

/// How a connection ended: the close frame's code and text, or a fault.
pub type Closed = Result<(u16, String), Fault>;

type Outgoing = Arc<Mailbox<Order, ()>>;
type Incoming = Arc<Mailbox<ClientEvent, Closed>>;

/// What the application wants done.
#[derive(Debug)]
enum Order {
    Send(ClientFrame),
    Refresh(Token),
}

/// Frames and events that may wait, in number.
const MAX_WAITING: usize = 4_096;

/// A client for a fresh socket: the [`Link`] goes into a [`Driver`](crate::drive::Driver), the [`Handle`] is held.
///
/// # Errors
/// When host or target cannot stand in a request.
pub fn connect(now: Now, config: ClientConfig, entropy: Shared<dyn Entropy>) -> Result<(Link, Handle), UpgradeError> {
    let outgoing: Outgoing = Arc::new(Mailbox::new(MAX_WAITING));
    let incoming: Incoming = Arc::new(Mailbox::new(MAX_WAITING));
    let client = Client::new(now, config, entropy)?;
    let handle = Handle { outgoing: Arc::clone(&outgoing), incoming: Arc::clone(&incoming) };
    Ok((Link { client, outgoing, incoming, waiting: None, welcomed: false }, handle))
}

/// The socket's side.
#[derive(Debug)]
pub struct Link {
    client: Client,
    outgoing: Outgoing,
    incoming: Incoming,
    /// What found the other side's mailbox full.
    waiting: Option<ClientEvent>,
    welcomed: bool,
}

/// The application's side. Dropped, it closes the connection: after what was sent, or at once where there was no welcome yet.
#[derive(Debug)]
pub struct Handle {
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Handle {
    /// Sends a frame; one that is sent before the welcome waits for it.
    ///
    /// # Errors
    /// When the connection is over, or too many frames wait.
    pub fn send(&self, frame: ClientFrame) -> Result<(), PushError> {
        self.order(Order::Send(frame))
    }

    /// Gives the server a new token of the same user, as [`Client::refresh`] does: what [`ServerFrame::AuthExpiring`] asks for.
    ///
    /// # Errors
    /// As [`Handle::send`].
    ///
    /// [`ServerFrame::AuthExpiring`]: crate::protocol::ServerFrame::AuthExpiring
    pub fn refresh(&self, token: &str) -> Result<(), PushError> {
        self.order(Order::Refresh(Token::new(token)))
    }

    fn order(&self, order: Order) -> Result<(), PushError> {
        wake(self.outgoing.push(order, 1)?);
        Ok(())
    }

    /// Starts to close: what was sent so far goes first, and [`Handle::next`] ends once the server has answered.
    pub fn close(&self) {
        if let Some(waker) = self.outgoing.close(()) {
            waker.wake();
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// How the connection ended, once nothing is left to read.
    pub async fn next(&mut self) -> Result<ClientEvent, Closed> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Handle::next`], for callers that poll.
    ///
    /// # Errors
    /// As [`Handle::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<ClientEvent, Closed>> {
        loop {
            match self.incoming.pop() {
                Popped::Item(event) => {
                    // Room again: the link may be waiting for it.
                    if let Some(waker) = self.outgoing.mark() {
                        waker.wake();
                    }
                    return Poll::Ready(Ok(event));
                }
                Popped::Closed(end) => return Poll::Ready(Err(end)),
                Popped::Empty => {
                    if !self.incoming.take_mark(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody reads any more.
        drop(self.incoming.close(Err(Fault::Lost)));
        self.close();
    }
}

impl Link {
    /// The machine within.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    fn collect(&mut self, now: Now) {
        if !self.welcomed && self.is_left() {
            return self.client.close(now);
        }
        while self.welcomed {
            match self.outgoing.pop() {
                Popped::Item(Order::Send(frame)) => self.client.send(&frame),
                Popped::Item(Order::Refresh(token)) => self.client.refresh(token),
                Popped::Empty => return,
                Popped::Closed(()) => return self.client.close(now),
            }
        }
    }

    /// Whether there is nothing to wait for a welcome for.
    fn is_left(&self) -> bool {
        self.outgoing.end().is_some() && (self.outgoing.is_empty() || self.incoming.end().is_some())
    }

    /// Moves events over as far as there is room.
    fn hand_over(&mut self) {
        while let Some(event) = self.waiting.take().or_else(|| self.client.poll_event()) {
            self.welcomed |= matches!(event, ClientEvent::Welcome(_));
            match self.incoming.push(event.clone(), 1) {
                Ok(waker) => wake(waker),
                Err(PushError::Full) => {
                    self.waiting = Some(event);
                    return;
                }
                Err(PushError::Closed) => return,
            }
        }
        if let Some(end) = self.client.end() {
            wake(self.incoming.close(end.clone()));
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Machine for Link {
    fn poll_ready(&mut self, now: Now, waker: &Waker) {
        self.hand_over();
        while self.outgoing.take_mark(waker) {
            self.collect(now);
            self.hand_over();
        }
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.client.handle_bytes(now, bytes);
        self.hand_over();
        self.collect(now);
    }

    fn handle_eof(&mut self, _now: Now) {
        self.client.handle_eof();
        self.hand_over();
    }

    fn handle_broken(&mut self, _now: Now) {
        self.client.handle_eof();
        self.hand_over();
    }

    fn handle_timeout(&mut self, now: Now) {
        self.client.handle_timeout(now);
        self.hand_over();
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.client.poll_timeout()
    }

    fn transmit(&self) -> &[u8] {
        self.client.transmit()
    }

    fn advance(&mut self, _now: Now, n: usize) {
        self.client.advance(n);
    }

    fn wants_read(&self) -> bool {
        self.waiting.is_none() && self.client.wants_read()
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever waits for an event must not wait for ever when the socket's task was stopped.
        wake(self.incoming.close(Err(Fault::Lost)));
    }
}

#[cfg(test)]
mod tests;
