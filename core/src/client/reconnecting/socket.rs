//! One socket of a client: how it begins, and what comes over it.

use super::credentials::is_of_refresh;
use super::{About, Output, Phase, Reconnecting, State, Trouble, Update};
use crate::client::places::Carried;
use crate::client::{Client, ClientConfig, ClientEvent, Credentials, Fault};
use crate::drive::Machine;
use crate::error::ErrorCode;
use crate::protocol::{
    Event, Mode, Reply, ReplyError, ReplyOk, ServerFrame, Snapshot, StreamEntry, StreamName, Token, Welcome,
};
use crate::rate::{Allowance, Rate};
use crate::time::{Now, Timestamp};

impl Reconnecting {
    /// The machine of the socket that has opened.
    pub(super) fn speak(&mut self, now: Now) -> Result<Client, Trouble> {
        let (target, token) = match self.keys.show() {
            Some(Credentials::Token(token)) => (self.config.endpoint.target().to_owned(), token.as_str().to_owned()),
            Some(Credentials::Ticket(ticket)) => (with_ticket(self.config.endpoint.target(), &ticket)?, String::new()),
            None => return Err(Trouble::NoCredentials("the token is gone".to_owned())),
        };
        let config = ClientConfig {
            host: self.config.endpoint.authority().to_owned(),
            target,
            token,
            session: self.session,
            resume: None,
            threads: self.config.threads.clone(),
            producer: None,
            name: self.config.name.clone(),
        };
        self.held = self.carried.places.held();
        let carried = Carried { topics: self.topics.iter().cloned().collect(), ..std::mem::take(&mut self.carried) };
        let entropy = std::sync::Arc::clone(&self.entropy);
        Client::carrying(now, config, carried, entropy).map_err(|error| Trouble::Fault(Fault::Upgrade(error)))
    }

    /// Tells what has come, sends what waits, and looks whether the socket is done with.
    pub(super) fn pump(&mut self, now: Now) {
        while self.has_room()
            && let Phase::Up(client) = &mut self.phase
            && let Some((event, bytes)) = client.poll_sized_event()
        {
            self.take(now, event, bytes);
        }
        self.send(now);
        let Phase::Up(client) = &self.phase else { return };
        // Who has closed it takes no more of it.
        if !client.is_closed() || client.has_events() && !self.closing {
            return;
        }
        let trouble = match client.end().cloned() {
            Some(Ok((code, text))) => Trouble::Closed { code, text },
            Some(Err(fault)) => Trouble::Fault(fault),
            None => Trouble::Fault(Fault::Lost),
        };
        self.lost(now, trouble);
    }

    /// Sends what waits, no faster than the server takes it.
    fn send(&mut self, now: Now) {
        let Phase::Up(client) = &mut self.phase else { return };
        let Some((rate, allowance)) = &mut self.pace else { return };
        while self.outbox.waits() && rate.allow(now.at, *allowance) {
            if let Some(frame) = self.outbox.send(now.at) {
                client.send(frame);
            }
        }
    }

    /// When there is credit for what waits.
    pub(super) fn pause(&self) -> Option<Timestamp> {
        let (rate, allowance) = self.pace.as_ref().filter(|_| self.outbox.waits())?;
        rate.pause(*allowance)
    }

    fn take(&mut self, now: Now, event: ClientEvent, bytes: usize) {
        match event {
            ClientEvent::Welcome(welcome) => self.welcome(now, welcome, bytes),
            ClientEvent::Event(event) => self.event(event, bytes),
            ClientEvent::Frame(frame) => self.frame(now, frame, bytes),
        }
    }

    fn event(&mut self, event: Box<Event>, bytes: usize) {
        self.put(Output::Tell(Update::Event(event)), bytes);
    }

    fn welcome(&mut self, now: Now, welcome: Box<Welcome>, bytes: usize) {
        self.welcomed = true;
        self.backoff.welcomed(now.at);
        self.keys.let_in();
        self.session = Some(welcome.session_id);
        let allowance = Allowance::of_welcome(&welcome.limits);
        self.pace = Some((Rate::new(now.at, allowance), allowance));
        self.message_bytes = usize::try_from(welcome.limits.message_bytes).unwrap_or(usize::MAX);
        let entries = welcome.streams.clone();
        self.put(Output::Tell(Update::Welcome(welcome)), bytes);
        entries.iter().for_each(|entry| self.enter_stream(entry));
        self.given_up.clear();
        self.count_topics(&entries);
        self.forget_keys(now, &entries);
        self.enter(State::Live);
        self.deliver(now);
    }

    /// Says where a stream begins anew.
    fn enter_stream(&mut self, entry: &StreamEntry) {
        if entry.mode == Mode::Snapshot {
            self.snapshots.insert(entry.stream.clone());
        }
        let whole = match entry.mode {
            Mode::Live | Mode::Replay => true,
            Mode::Snapshot | Mode::Reset => !self.held.contains(&entry.stream),
        };
        if entry.lost.is_some() || !whole || self.given_up.contains(&entry.stream) {
            self.tell(Update::Gap { stream: entry.stream.clone(), lost: entry.lost });
        }
    }

    /// A topic that the welcome does not have is none, or not for this user.
    fn count_topics(&mut self, entries: &[StreamEntry]) {
        let named =
            |topic: &_| entries.iter().any(|entry| matches!(&entry.stream, StreamName::Topic(it) if it == topic));
        let refused: Vec<_> = self.topics.iter().filter(|topic| !named(topic)).cloned().collect();
        for topic in refused {
            self.topics.remove(&topic);
            self.tell(Update::TopicRefused(topic));
        }
    }

    /// A server that has begun the user's stream anew has forgotten which keys it had seen, and one that is as it was forgets them in time.
    fn forget_keys(&mut self, now: Now, entries: &[StreamEntry]) {
        let own = entries.iter().find(|entry| entry.stream == StreamName::User);
        let epoch = own.map(|entry| entry.event_id.epoch);
        let forgotten = self.epoch.is_some() && self.epoch != epoch;
        self.epoch = epoch.or(self.epoch);
        let mut gone = self.outbox.expire(now.at, forgotten, self.config.repeat_within);
        gone.extend(self.outbox.shrink(self.message_bytes));
        gone.into_iter().for_each(|undone| self.tell(undone));
    }

    fn frame(&mut self, now: Now, frame: Box<ServerFrame>, bytes: usize) {
        if let ServerFrame::AuthExpiring { expires_in } = *frame {
            if !self.expiring(now, expires_in) {
                return;
            }
        } else if let ServerFrame::GoingAway { reconnect_after, .. } = *frame {
            self.backoff.asked(std::time::Duration::try_from_secs_f64(reconnect_after).unwrap_or_default());
        } else if let ServerFrame::Snapshot(part) = &*frame {
            self.snapshot(part);
        } else if let ServerFrame::Reply(reply) = &*frame {
            if is_of_refresh(&frame) {
                return self.refreshed(reply);
            }
            self.reply(reply);
        }
        self.put(Output::Tell(Update::Frame(frame)), bytes);
    }

    /// One that no welcome announced comes to who fell out of the log.
    fn snapshot(&mut self, part: &Snapshot) {
        if part.part == 1 && !self.snapshots.remove(&part.stream) {
            self.tell(Update::Gap { stream: part.stream.clone(), lost: part.lost });
        }
    }

    fn refreshed(&mut self, reply: &Reply) {
        let is_final = |error: &ReplyError| error.code.as_str() == ErrorCode::RefreshRefused.as_str();
        if reply.outcome.as_ref().is_err_and(is_final) {
            self.refresh_refused();
        }
    }

    fn reply(&mut self, reply: &Reply) {
        let about = self.outbox.answered(&reply.id);
        match (about, &reply.outcome) {
            (Some(About::Follow(topic)), Ok(ReplyOk::Stream(entry))) => {
                if entry.mode == Mode::Snapshot {
                    self.snapshots.insert(entry.stream.clone());
                }
                self.topics.insert(topic);
            }
            (Some(About::Leave(topic)), Ok(_)) => drop(self.topics.remove(&topic)),
            (Some(About::Follow(_) | About::Leave(_) | About::Nothing) | None, _) => {}
        }
    }
}

/// RFC 6455 lets a query stand in the target, and only there a browser could put a ticket.
fn with_ticket(target: &str, ticket: &Token) -> Result<String, Trouble> {
    let text = ticket.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(Trouble::NoCredentials("the ticket holds a character that none has".to_owned()));
    }
    let separator = if target.contains('?') { '&' } else { '?' };
    Ok(format!("{target}{separator}ticket={text}"))
}

impl Machine for Reconnecting {
    fn poll_ready(&mut self, _now: Now, _waker: &std::task::Waker) {}

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.handle_bytes(now, bytes);
    }

    fn handle_eof(&mut self, now: Now) {
        self.handle_eof(now);
    }

    fn handle_broken(&mut self, now: Now) {
        self.handle_eof(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.poll_timeout()
    }

    fn transmit(&self) -> &[u8] {
        self.transmit()
    }

    fn advance(&mut self, now: Now, n: usize) {
        self.advance(now, n);
    }

    fn wants_read(&self) -> bool {
        self.wants_read()
    }

    fn is_closed(&self) -> bool {
        !self.has_socket()
    }
}
