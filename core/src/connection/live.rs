//! Frames of an open WebSocket: messages, keepalive, refresh, close.

use std::time::Duration;

use super::phase::{Phase, Profile};
use super::validity::Validity;
use super::wire::{Closing, Incoming};
use super::{Connection, ConnectionEvent, TimerKind};
use crate::auth::{AuthError, Grant, Token};
use crate::error::{CloseReason, ErrorCode};
use crate::id::{FrameId, UserId};
use crate::limits::Limits;
use crate::protocol::legacy::Context;
use crate::protocol::{ClientFrame, FrameError, Reply, ReplyOk, ServerFrame};
use crate::rate::{Allowance, Rate};
use crate::time::{Now, Timestamp, UnixTime};

/// A client that is in.
#[derive(Debug)]
pub(super) struct Live {
    user: UserId,
    validity: Validity,
    /// Our ping since then: when the socket had taken it, or when it was made while it waits.
    pinged: Option<Timestamp>,
    /// The ping is not with the socket yet.
    ping_waits: bool,
    /// Bytes that the socket has taken since the peer was last heard.
    unheard: u32,
    /// The last application message.
    spoken: Timestamp,
    drain: Option<Timestamp>,
    rate: Rate,
    /// What is different for this one; most have nothing, so it is boxed.
    special: Option<Box<Special>>,
    /// A refresh whose token is being verified.
    refreshing: Option<FrameId>,
}

/// Who is served otherwise than a device that speaks the native frames.
#[derive(Debug)]
pub(super) enum Special {
    Producer(Producer),
    /// A device that speaks the legacy frames.
    Legacy(Context),
}

/// What is different for a producer.
#[derive(Debug, Default)]
pub(super) struct Producer {
    /// It is over its rate: nothing is read until then.
    paused: Option<Timestamp>,
    /// Its silence must be seen within this time.
    silence: Option<Duration>,
}

impl Live {
    pub(super) fn new(now: Now, grant: &Grant, profile: Profile, limits: &Limits) -> Self {
        let special = match profile {
            Profile::Native => None,
            Profile::Legacy => Some(Box::new(Special::Legacy(Context::new(grant.user.sub())))),
        };
        Self {
            user: grant.user.clone(),
            validity: Validity::new(now, grant.expires, limits),
            pinged: None,
            ping_waits: false,
            unheard: 0,
            spoken: now.at,
            drain: None,
            rate: Rate::new(now.at, Allowance::of_client(limits)),
            special,
            refreshing: None,
        }
    }

    fn producer(&self) -> Option<&Producer> {
        match self.special.as_deref() {
            Some(Special::Producer(producer)) => Some(producer),
            Some(Special::Legacy(_)) | None => None,
        }
    }

    fn producer_mut(&mut self) -> Option<&mut Producer> {
        match self.special.as_deref_mut() {
            Some(Special::Producer(producer)) => Some(producer),
            Some(Special::Legacy(_)) | None => None,
        }
    }

    /// What the legacy profile knows of the connection, where it is one of its.
    pub(super) fn legacy(&mut self) -> Option<&mut Context> {
        match self.special.as_deref_mut() {
            Some(Special::Legacy(context)) => Some(context),
            Some(Special::Producer(_)) | None => None,
        }
    }

    pub(super) fn is_legacy(&self) -> bool {
        matches!(self.special.as_deref(), Some(Special::Legacy(_)))
    }

    /// All output is with the socket: from here on a ping that waited can be answered.
    pub(super) fn flushed(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.ping_waits) {
            self.pinged = self.pinged.map(|_| now);
        }
    }

    /// The socket has taken bytes.
    pub(super) const fn took(&mut self, bytes: usize) {
        // The cast is of at most 2^32 - 1.
        let bytes = if bytes > u32::MAX as usize { u32::MAX } else { bytes as u32 };
        self.unheard = self.unheard.saturating_add(bytes);
    }

    pub(super) const fn expires(&self) -> UnixTime {
        self.validity.expires()
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.validity.ends_at() <= now
    }

    pub(super) fn drain_by(&mut self, deadline: Timestamp) {
        self.drain = Some(self.drain.map_or(deadline, |known| known.min(deadline)));
    }

    /// How long a socket may take nothing. A producer's runs end with their leases, whether it does not speak or does not read.
    pub(super) fn write_stall(&self, limits: &Limits) -> Duration {
        limits.write_stall.min(self.silence().saturating_mul(2))
    }

    /// A third of the time within which a producer's silence must be seen: after one a ping goes out, after two it is over.
    fn silence(&self) -> Duration {
        self.producer().and_then(|producer| producer.silence).map_or(Duration::MAX, |within| within / 3)
    }

    /// How long a ping may go unanswered. Much of what the socket took may still be on its way, and our ping behind it.
    fn patience(&self, limits: &Limits) -> Duration {
        let on_its_way = self.unheard > LONG_ON_ITS_WAY;
        if on_its_way { limits.write_stall } else { Duration::ZERO }.max(limits.heartbeat_timeout)
    }

    /// From when on a ping that is with the socket has gone unanswered for half of the time that it may.
    pub(super) fn unanswered_at(&self, limits: &Limits) -> Option<Timestamp> {
        let pinged = self.pinged.filter(|_| !self.ping_waits)?;
        Some(pinged + self.patience(limits) / 2)
    }

    /// The earliest deadline. While output waits, the socket's own stall takes the heartbeat's place: a peer that
    /// does not read our ping cannot answer it.
    pub(super) fn timeout(
        &self,
        heard: Timestamp,
        stall: Option<(Timestamp, TimerKind)>,
        limits: &Limits,
    ) -> Option<(Timestamp, TimerKind)> {
        let (silence, patience) = (self.silence(), self.patience(limits));
        let heartbeat = match self.pinged {
            None => (heard + limits.heartbeat_interval.min(silence), TimerKind::Ping),
            Some(at) => (at + patience.min(silence), TimerKind::Heartbeat),
        };
        let idle = limits.idle_deadline.map(|idle| (self.spoken + idle, TimerKind::Idle));
        let drain = self.drain.map(|at| (at, TimerKind::Drain));
        let notice = self.validity.notice_at().map(|at| (at, TimerKind::AuthNotice));
        let expiry = (self.validity.ends_at(), TimerKind::TokenExpiry);
        let pace = self.producer().and_then(|producer| producer.paused).map(|at| (at, TimerKind::Pace));
        [Some(stall.unwrap_or(heartbeat)), idle, drain, pace, notice, Some(expiry)].into_iter().flatten().min()
    }
}

/// What a slow line carries in a part of the heartbeat's timeout: 16 KiB.
const LONG_ON_ITS_WAY: u32 = 16 << 10;

impl Connection {
    /// Takes bytes until a message needs somebody else, or all are used.
    pub(super) fn read_frames(&mut self, now: Now, bytes: &[u8]) -> usize {
        // What comes too late does not count, and neither does a token that could have been a newer one.
        self.end_expired(now);
        if let Phase::Live(live) = &mut self.phase {
            self.heard = now.at;
            (live.pinged, live.unheard) = (None, 0);
        }
        let mut rest = bytes;
        while self.event.is_none() && self.reads_frames() && self.has_room() && !self.is_paused() {
            match self.wire.read(now.at, self.closing(), &mut rest) {
                Incoming::Starved => break,
                Incoming::Handled => {}
                Incoming::Text(text) => self.message(now, Some(&text)),
                Incoming::Binary(_) => self.message(now, None),
                Incoming::Closing(reason, closing) => {
                    if self.closing().is_none() {
                        self.reason = Some(reason);
                    }
                    self.begin_closing(now, closing);
                }
            }
        }
        match self.phase {
            // Whatever follows a close means nothing.
            Phase::Closing(closing) if !closing.awaits_peer() => bytes.len(),
            Phase::Closed => bytes.len(),
            Phase::Head(_)
            | Phase::Reserving(_)
            | Phase::VerifyUpgrade(_)
            | Phase::AwaitHello(_)
            | Phase::VerifyHello(_)
            | Phase::Attaching(_)
            | Phase::Live(_)
            | Phase::Closing(_)
            | Phase::Handoff(_) => bytes.len() - rest.len(),
        }
    }

    /// From here on a producer is at the other end: it may send more, and is read more slowly where it sends too much.
    pub fn serve_producer(&mut self, now: Now) {
        if let Phase::Live(live) = &mut self.phase {
            live.rate = Rate::new(now.at, Allowance::of_producer(&self.settings.limits));
            live.special = Some(Box::new(Special::Producer(Producer::default())));
            self.wire.set_max_message(self.settings.limits.producer_message_bytes);
        }
    }

    /// Sees to it that the silence of a producer closes the connection within `within`.
    pub fn watch_silence(&mut self, within: Duration) {
        if let Phase::Live(live) = &mut self.phase
            && let Some(producer) = live.producer_mut()
        {
            producer.silence = Some(producer.silence.map_or(within, |known| known.min(within)));
        }
    }

    /// Whether a producer is over its rate.
    pub(super) fn is_paused(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.producer().is_some_and(|producer| producer.paused.is_some()))
    }

    /// A producer that was over its rate may be read again.
    pub(super) fn unpause(&mut self) {
        if let Phase::Live(live) = &mut self.phase
            && let Some(producer) = live.producer_mut()
        {
            producer.paused = None;
        }
    }

    pub(super) fn ping(&mut self, now: Now) {
        if let Phase::Live(live) = &mut self.phase {
            (live.pinged, live.ping_waits) = (Some(now.at), true);
            self.wire.ping(now.at);
        }
    }

    /// Tells the client that its token expires.
    pub(super) fn give_notice(&mut self, now: Now) {
        let Phase::Live(live) = &mut self.phase else { return };
        live.validity.told();
        if !live.has_expired(now.at) {
            let expires_in = live.expires().saturating_since(now.unix).as_secs_f64();
            self.send(now, &ServerFrame::AuthExpiring { expires_in });
        }
    }

    pub(super) fn refresh_verified(&mut self, now: Now, verdict: Result<Grant, AuthError>) {
        // A verdict that comes after the expiry finds nothing that it could prolong.
        self.end_expired(now);
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(id) = live.refreshing.take() else { return };
        let reply = match verdict {
            Ok(grant) if grant.user == live.user => {
                live.validity.extend(now, grant.expires, &self.settings.limits);
                let expires_in = live.expires().saturating_since(now.unix).as_secs_f64();
                Reply::ok(id, ReplyOk::Refreshed { expires_in })
            }
            Err(AuthError::Undecided) => {
                Reply::refused(id, ErrorCode::Unavailable, "the token's key is not known yet: send it again later")
            }
            // Another user's token and a bad one are answered alike.
            Ok(_) | Err(_) => {
                Reply::refused(id, ErrorCode::RefreshRefused, "the token does not hold for this user: get another")
            }
        };
        self.send(now, &ServerFrame::Reply(Box::new(reply)));
    }

    /// Whether frames of the peer still mean something.
    fn reads_frames(&self) -> bool {
        match &self.phase {
            Phase::AwaitHello(_) | Phase::Live(_) => true,
            Phase::Closing(closing) => closing.awaits_peer(),
            Phase::Head(_)
            | Phase::Reserving(_)
            | Phase::VerifyUpgrade(_)
            | Phase::VerifyHello(_)
            | Phase::Attaching(_)
            | Phase::Handoff(_)
            | Phase::Closed => false,
        }
    }

    /// How far the close has come, where there is one.
    const fn closing(&self) -> Option<Closing> {
        if let Phase::Closing(closing) = self.phase { Some(closing) } else { None }
    }

    /// A whole message of the peer; `None` is a binary one.
    fn message(&mut self, now: Now, text: Option<&str>) {
        match (&self.phase, text) {
            (Phase::Live(_), Some(text)) => self.text(now, text),
            (Phase::Live(_), None) => self.close(now, CloseReason::Unsupported),
            (_, text) => self.first_message(now, text),
        }
    }

    fn text(&mut self, now: Now, text: &str) {
        let Phase::Live(live) = &mut self.phase else { return };
        live.spoken = now.at;
        let limits = &self.settings.limits;
        match live.special.as_deref_mut() {
            Some(Special::Producer(producer)) => {
                let allowance = Allowance::of_producer(limits);
                live.rate.allow(now.at, allowance);
                producer.paused = live.rate.pause(allowance);
            }
            Some(Special::Legacy(_)) | None => {
                if !live.rate.allow(now.at, Allowance::of_client(limits)) {
                    return self.close(now, CloseReason::RateLimited);
                }
            }
        }
        if live.is_legacy() {
            return self.legacy_text(now, text);
        }
        match ClientFrame::parse(text) {
            Ok(parsed) if parsed.user_id.as_ref().is_none_or(|claimed| claimed == live.user.sub()) => {
                self.frame(now, parsed.frame);
            }
            Ok(parsed) => {
                let message = "`user_id` is not the verified user's: leave it out".to_owned();
                let id = parsed.frame.id().cloned();
                let event = parsed.frame.numbered();
                self.refuse_frame(now, FrameError { code: ErrorCode::IdentityMismatch, message, id, event });
            }
            Err(error) => self.refuse_frame(now, error),
        }
    }

    pub(super) fn frame(&mut self, now: Now, frame: ClientFrame) {
        match frame {
            ClientFrame::Ping { id } => self.send(now, &ServerFrame::Pong { id }),
            ClientFrame::Hello(_) => {
                let message = "`hello` comes once, as the first frame".to_owned();
                self.send_error(now, FrameError { code: ErrorCode::Unexpected, message, id: None, event: None });
            }
            ClientFrame::Refresh { id, token } => self.refresh(now, id, token.as_str()),
            other @ (ClientFrame::Ack { .. }
            | ClientFrame::Approve { .. }
            | ClientFrame::CancelRun { .. }
            | ClientFrame::Command { .. }
            | ClientFrame::Disconnect { .. }
            | ClientFrame::Drain { .. }
            | ClientFrame::Inspect { .. }
            | ClientFrame::Publish { .. }
            | ClientFrame::Reply(_)
            | ClientFrame::Revoke { .. }
            | ClientFrame::RunEvent { .. }
            | ClientFrame::RunStart(_)
            | ClientFrame::Subscribe { .. }
            | ClientFrame::Unsubscribe { .. }
            | ClientFrame::UserMessage { .. }) => self.event = Some(ConnectionEvent::Frame(Box::new(other))),
        }
    }

    fn refresh(&mut self, now: Now, id: FrameId, token: &str) {
        let Phase::Live(live) = &mut self.phase else { return };
        let refuse = |id, code, message| ServerFrame::Reply(Box::new(Reply::refused(id, code, message)));
        if live.refreshing.is_some() {
            // One at a time: of two that are verified side by side, the one whose verdict comes last would win.
            return self
                .send(now, &refuse(id, ErrorCode::Busy, "another `refresh` is being looked at: wait for its answer"));
        }
        let Some(token) = Token::parse(token) else {
            return self.send(now, &refuse(id, ErrorCode::RefreshRefused, "`token` is not a token: get another"));
        };
        live.refreshing = Some(id);
        self.event = Some(ConnectionEvent::Verify(token));
    }

    /// A frame that cannot be taken as it is. An event of a producer's run has used its number, which others must note.
    fn refuse_frame(&mut self, now: Now, error: FrameError) {
        let of_producer = matches!(&self.phase, Phase::Live(live) if live.producer().is_some());
        if of_producer && error.event.is_some() {
            self.event = Some(ConnectionEvent::Unreadable(Box::new(error)));
        } else {
            self.send_error(now, error);
        }
    }

    /// Answers a frame that did not make sense: by `reply` where it had an `id`, by `error` where not.
    pub fn send_error(&mut self, now: Now, error: FrameError) {
        let frame = match error.id {
            Some(id) => ServerFrame::Reply(Box::new(Reply::refused(id, error.code, error.message))),
            None => ServerFrame::Error { code: error.code.into(), message: error.message, run_id: None, n: None },
        };
        self.send(now, &frame);
    }
}
