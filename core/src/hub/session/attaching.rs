//! How a verified connection comes in: as a device of its user, or as a producer.

use super::following::wanted_topics;
use super::levels::Told;
use super::producing::Producing;
use super::reading::Cursor;
use super::watching::Watching;
use super::{Device, Session, State, entry};
use crate::auth::{AuthError, Grant};
use crate::connection::Admission;
use crate::error::CloseReason;
use crate::hub::Mail;
use crate::hub::trace::{ConnectionTrace, Entered};
use crate::id::{ConnectionId, SessionId, UserId};
use crate::manager::{Attach, Attached, Credential, Manager};
use crate::protocol::{Heartbeat, Hello, Mode, ServerFrame, StreamEntry, StreamName, Welcome, WelcomeLimits};
use crate::sync::{Arc, Pass};
use crate::time::Now;

impl Device {
    pub(super) fn new(grant: &Grant, connection: ConnectionId, cursors: Vec<Cursor>, level: Told, pass: Pass) -> Self {
        let (user, scopes) = (grant.user.clone(), grant.scopes.clone());
        let (watching, producing, look_again, holding) = (None, None, None, None);
        Self { user, connection, scopes, cursors, watching, producing, turn: 0, look_again, level, holding, pass }
    }
}

/// Who of a full user's devices is there at all is known to their sessions alone.
fn attach_to(shard: &mut Manager<Mail>, now: Now, attach: Attach<Mail>) -> Result<Attached, CloseReason> {
    if shard.is_full(&attach.user) {
        shard.note_dead(&attach.user, |mail| mail.dead_at());
    }
    shard.attach(now, attach)
}

impl Session {
    pub(super) fn attach(&mut self, now: Now, mut admission: Admission) {
        let Some(pass) = self.hub.inner.gate.enter() else {
            return self.connection.close(now, CloseReason::Restart);
        };
        match admission.hello.producer.take() {
            Some(producer) => self.attach_producer(now, &admission, producer, pass),
            None => self.attach_device(now, &admission, pass),
        }
    }

    fn attach_device(&mut self, now: Now, admission: &Admission, pass: Pass) {
        let Admission { grant, hello } = admission;
        let connection = ConnectionId::from_bits(self.hub.inner.entropy.id());
        let attach = Attach {
            handle: Arc::clone(&self.mail),
            connection,
            order: self.room.number(),
            user: grant.user.clone(),
            session: hello.session_id,
            fresh_session: self.hub.new_session(now),
            token: Credential::of(grant),
            resume: hello.resume.get(&StreamName::User).copied(),
            threads: hello.threads.clone(),
            // It is inside already, so that of two at the same time at most one takes the last place.
            attached: self.hub.inner.gate.inside(),
        };
        let attached = self.hub.act(&grant.user, |shard, now| {
            // Under one lock: whoever attaches after a change knows of it, and everybody else is told.
            attach_to(shard, now, attach).map(|attached| (attached, Told::new(shard.level())))
        });
        match attached {
            Err(reason) => self.connection.close(now, reason),
            Ok((attached, level)) => {
                let mut cursor = Cursor::new(None, &attached.stream);
                if attached.stream.mode == Mode::Snapshot {
                    cursor.restart();
                }
                let mut device = Device::new(grant, connection, vec![cursor], level, pass);
                device.watching = Watching::new(&hello.threads, attached.stream.position);
                self.enter(now, device, admission, attached.session, vec![entry(StreamName::User, &attached.stream)]);
            }
        }
    }

    /// Lets a producer in. It is nobody's device: it reads no stream but the topics it follows.
    fn attach_producer(&mut self, now: Now, admission: &Admission, hello: crate::protocol::ProducerHello, pass: Pass) {
        let grant = &admission.grant;
        let connection = ConnectionId::from_bits(self.hub.inner.entropy.id());
        let session = self.hub.session_of(grant, admission.hello.session_id);
        // It is asked from the moment in which it is among the producers.
        self.mail.widen(self.hub.limits().producer_control_bytes);
        match self.join(grant, session, connection, hello) {
            Err(reason) => self.connection.close(now, reason),
            Ok(name) => {
                let level = Told::new(self.hub.inner.producers.lock().level());
                let mut device = Device::new(grant, connection, Vec::new(), level, pass);
                device.producing = Some(Box::new(Producing::new(name)));
                self.enter(now, device, admission, session, Vec::new());
                self.connection.serve_producer(now);
                self.hub.ask_orphans();
            }
        }
    }

    fn enter(
        &mut self,
        now: Now,
        device: Device,
        admission: &Admission,
        session: SessionId,
        mut streams: Vec<StreamEntry>,
    ) {
        let Admission { grant, hello } = admission;
        let (user, connection) = (&grant.user, device.connection);
        let mode = device.producing.is_none().then(|| streams.first().map(|own| own.mode)).flatten();
        self.trace = ConnectionTrace::begin(&Entered { user, connection, session, mode });
        self.state = State::Attached(device);
        streams.extend(self.follow_wanted(hello));
        let expires_in = grant.expires.saturating_since(now.unix).as_secs_f64();
        let welcome = self.welcome(now, &grant.user, connection, expires_in, session, streams);
        self.connection.handle_attached(now, &welcome);
    }

    /// What the token does not grant is left out, as if it did not exist.
    fn follow_wanted(&mut self, hello: &Hello) -> Vec<StreamEntry> {
        wanted_topics(hello).into_iter().filter_map(|(topic, resume)| self.follow(topic, resume).ok()).collect()
    }

    /// A new token's verdict, where one is here for which it can count: what it grants counts from now on.
    pub(super) fn refreshed(&mut self, verdict: Result<Grant, AuthError>) -> Result<Grant, AuthError> {
        let State::Attached(device) = &mut self.state else { return verdict };
        let grant = verdict?;
        if grant.user != device.user {
            // The connection refuses it.
            return Ok(grant);
        }
        let (user, connection, token) = (&device.user, device.connection, Credential::of(&grant));
        let lasts_longer = self.connection.expires().is_none_or(|expires| grant.expires >= expires);
        let holds = match device.producing.as_deref() {
            Some(producing) => self.hub.retoken_producer(producing.name(), connection, &grant, lasts_longer),
            None => self.hub.act(user, |shard, now| shard.refresh(now, user, connection, &token, lasts_longer)),
        };
        if !holds {
            return Err(AuthError::Revoked);
        }
        // What the shorter-lived of two tokens grants alone would go on after its own end.
        let scopes = if lasts_longer { grant.scopes.clone() } else { grant.scopes.both(&device.scopes) };
        if let Some(producing) = device.producing.as_deref() {
            self.hub.inner.producers.lock().rescope(producing.name(), connection, scopes.clone());
            self.hub.rescope_producer(connection, &scopes);
        }
        device.scopes = scopes;
        self.leave_forbidden();
        Ok(grant)
    }

    fn welcome(
        &self,
        now: Now,
        user: &UserId,
        connection_id: ConnectionId,
        expires_in: f64,
        session_id: SessionId,
        streams: Vec<StreamEntry>,
    ) -> ServerFrame {
        let limits = self.hub.limits();
        let allowance = if self.is_producer() {
            (limits.producer_message_bytes, limits.producer_messages_per_second, limits.producer_message_burst)
        } else {
            (limits.message_bytes, limits.messages_per_second, limits.message_burst)
        };
        ServerFrame::Welcome(Box::new(Welcome {
            connection_id,
            session_id,
            user_id: user.sub().to_owned(),
            server_time: now.unix.as_secs_f64(),
            expires_in,
            heartbeat: Heartbeat {
                interval: limits.heartbeat_interval.as_secs_f64(),
                timeout: limits.heartbeat_timeout.as_secs_f64(),
            },
            limits: WelcomeLimits {
                message_bytes: allowance.0 as u64,
                messages_per_second: allowance.1,
                message_burst: allowance.2,
                event_bytes: limits.event_bytes as u64,
            },
            service_level: self.level(),
            streams,
        }))
    }
}
