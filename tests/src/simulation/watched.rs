//! A session under watch: the machine that the driver drives, looked at after every call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use trunkline_core::connection::PhaseName;
use trunkline_core::drive::{MAX_READ_BYTES, Machine, READ_BYTES};
use trunkline_core::error::CloseReason;
use trunkline_core::hub::Session;
use trunkline_core::limits::Limits;
use trunkline_core::time::{Now, Timestamp, UnixTime};

use super::cast::PEOPLE;
use super::counters::Counted;
use super::world::Ctx;
use super::wrong::Wrong;

/// What is known of a server's end of a connection.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) born: Timestamp,
    pub(super) phase: Cell<PhaseName>,
    /// Whose it is, while it is in the hub.
    pub(super) user: Cell<Option<usize>>,
    pub(super) was_attached: Cell<bool>,
    pub(super) reason: Cell<Option<CloseReason>>,
    closing_since: Cell<Option<Timestamp>>,
    /// Of its good tokens, the latest `exp`.
    expires: Cell<UnixTime>,
    /// When that is over, the leeway included.
    ends_at: Cell<Timestamp>,
    /// What is wrong with it on purpose.
    pub(super) wrong: Cell<Option<Wrong>>,
    /// Whose its first token was.
    owner: Cell<Option<usize>>,
    /// The tokens it was shown, without those that were revoked by then.
    pub(super) tokens: RefCell<Vec<u64>>,
}

/// A session, and who watches it.
pub(super) struct Watched {
    session: Session,
    seen: Rc<Seen>,
    ctx: Ctx,
    bounds: Rc<Bounds>,
}

/// What a session may hold and how long it may take.
#[derive(Debug)]
pub(super) struct Bounds {
    leeway: Duration,
    handshake: Duration,
    hello: Duration,
    closing: Duration,
    output: usize,
    /// Beside what it reads at once.
    input: usize,
}

impl Bounds {
    pub(super) fn new(limits: &Limits) -> Rc<Self> {
        Rc::new(Self {
            leeway: limits.token_leeway,
            handshake: limits.handshake_deadline,
            hello: limits.hello_deadline,
            closing: limits.close_deadline.max(limits.write_stall),
            // A reply, an event and a snapshot's frame may come on top of what waits.
            output: limits.control_bytes + 2 * limits.event_bytes + (64 << 10),
            input: limits.message_bytes + READ_BYTES,
        })
    }
}

impl Watched {
    pub(super) fn new(session: Session, ctx: &Ctx, bounds: &Rc<Bounds>) -> (Self, Rc<Seen>) {
        let seen = Rc::new(Seen {
            born: ctx.clock.at(),
            phase: Cell::new(session.phase()),
            user: Cell::new(None),
            was_attached: Cell::new(false),
            reason: Cell::new(None),
            closing_since: Cell::new(None),
            expires: Cell::new(UnixTime::default()),
            ends_at: Cell::new(Timestamp::ZERO),
            wrong: Cell::new(None),
            owner: Cell::new(None),
            tokens: RefCell::default(),
        });
        (Self { session, seen: Rc::clone(&seen), ctx: ctx.clone(), bounds: Rc::clone(bounds) }, seen)
    }

    /// Looks at what has become of it.
    fn look(&self, now: Now) {
        self.take_tokens(now);
        let (seen, ctx) = (&self.seen, &self.ctx);
        seen.phase.set(self.session.phase());
        let attached = self.session.user().is_some();
        if attached != seen.user.get().is_some() {
            self.turn(attached);
        }
        let reason = self.session.close_reason();
        if reason != seen.reason.get() {
            self.close(now, reason);
        }
        let (held, waits) = (self.session.input_bytes(), self.session.transmit().len());
        let produces = seen.owner.get().is_some_and(|user| user >= PEOPLE);
        let at_once = if produces { MAX_READ_BYTES } else { READ_BYTES };
        ctx.hold(self.session.read_bytes() <= at_once, "I14", || "a session reads too much at once".to_owned());
        ctx.hold(held <= self.bounds.input + at_once && waits <= self.bounds.output, "I14", || {
            format!("a session holds {held} bytes of input and {waits} of output")
        });
    }

    fn take_tokens(&self, now: Now) {
        for shown in self.ctx.issuer.take_shown() {
            if !shown.revoked {
                self.seen.tokens.borrow_mut().push(shown.id);
            }
            self.seen.owner.set(self.seen.owner.get().or(Some(shown.user)));
            if self.seen.user.get().is_some() && !shown.revoked {
                self.ctx.tally.count(Counted::Refreshed);
            }
            if !shown.revoked && shown.expires > self.seen.expires.get() {
                self.seen.expires.set(shown.expires);
                let ends = now.at + (shown.expires + self.bounds.leeway).saturating_since(now.unix);
                self.seen.ends_at.set(ends.max(self.seen.ends_at.get()));
            }
        }
    }

    fn turn(&self, attached: bool) {
        let (seen, ctx) = (&self.seen, &self.ctx);
        let user = self.session.user().and_then(|user| ctx.issuer.number_of(user));
        let is_owner = user.is_some() && user == seen.owner.get();
        ctx.hold(!attached || is_owner, "I12", || format!("a session of {:?} is one of {user:?}", seen.owner.get()));
        ctx.hold(!(attached && seen.was_attached.get()), "I7", || "a session came into the hub again".to_owned());
        ctx.hold(!attached || !seen.tokens.borrow().is_empty(), "R8", || {
            "a session came in without a token".to_owned()
        });
        seen.was_attached.set(true);
        seen.user.set(user);
    }

    fn close(&self, now: Now, reason: Option<CloseReason>) {
        let (seen, ctx) = (&self.seen, &self.ctx);
        let before = seen.reason.replace(reason);
        ctx.hold(before.is_none(), "R63", || format!("a session closed as {before:?} and then as {reason:?}"));
        seen.closing_since.set(Some(now.at));
        let Some(reason) = reason else { return };
        if reason == CloseReason::TokenExpired && seen.was_attached.get() {
            let ends = seen.ends_at.get();
            ctx.hold(now.at >= ends, "I9", || {
                format!("closed as expired at {:?}, and its token ends {ends:?}", now.at)
            });
        }
        let counted = match reason {
            CloseReason::TokenExpired => Counted::Expired,
            CloseReason::TokenRevoked => Counted::Revoked,
            CloseReason::WriteStalled => Counted::Stalled,
            CloseReason::HeartbeatTimeout => Counted::Silent,
            CloseReason::HelloTimeout => Counted::HelloTimeouts,
            CloseReason::Superseded => Counted::Superseded,
            CloseReason::Restart => Counted::Restarted,
            CloseReason::Normal
            | CloseReason::GoingAway
            | CloseReason::ProtocolError
            | CloseReason::Unsupported
            | CloseReason::InvalidPayload
            | CloseReason::TooBig
            | CloseReason::Internal
            | CloseReason::TryAgainLater
            | CloseReason::RateLimited
            | CloseReason::IdleTimeout
            | CloseReason::Disconnected
            | CloseReason::Evicted
            | CloseReason::SessionReset
            | CloseReason::BadCredentials
            | CloseReason::Forbidden
            | CloseReason::TooManyConnections => return,
        };
        ctx.tally.count(counted);
    }
}

impl Seen {
    /// What must hold of it whenever everything waits.
    pub(super) fn check(&self, ctx: &Ctx, bounds: &Bounds) {
        let now = ctx.clock.at();
        let age = now.saturating_since(self.born);
        let may_take = match self.phase.get() {
            PhaseName::Head | PhaseName::Reserving | PhaseName::VerifyUpgrade => bounds.handshake,
            PhaseName::AwaitHello | PhaseName::VerifyHello | PhaseName::Attaching => bounds.handshake + bounds.hello,
            PhaseName::Live => {
                let ends = self.ends_at.get();
                let attached = self.user.get().is_some();
                return ctx.hold(attached && now < ends, "I8", || {
                    format!("a connection is live at {now:?}, its last token ended {ends:?}, attached: {attached}")
                });
            }
            PhaseName::Closing | PhaseName::Handoff | PhaseName::Closed => {
                let attached = self.user.get().is_some();
                ctx.hold(!attached, "I7", || "a connection that closes is still in the hub".to_owned());
                let since = self.closing_since.get().map_or(age, |since| now.saturating_since(since));
                return ctx.hold(since <= bounds.closing, "R5", || format!("a connection closes for {since:?}"));
            }
        };
        let phase = self.phase.get();
        ctx.hold(age <= may_take, "R5", || format!("a connection is in {phase:?} for {age:?}"));
    }
}

impl Machine for Watched {
    fn poll_ready(&mut self, now: Now, waker: &Waker) {
        if self.seen.wrong.get() == Some(Wrong::Reborn)
            && self.session.close_reason().is_some()
            && let Ok(session) = self.session.hub().session()
        {
            self.session = session;
        }
        self.session.poll_ready(now, waker);
        self.look(now);
    }

    fn goes_on_when_written(&self) -> bool {
        self.session.goes_on_when_written()
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.session.handle_bytes(now, bytes);
        self.look(now);
    }

    fn handle_eof(&mut self, now: Now) {
        self.session.handle_eof(now);
        self.look(now);
    }

    fn handle_broken(&mut self, now: Now) {
        self.session.handle_broken(now);
        self.look(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.session.handle_timeout(now);
        self.look(now);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.session.poll_timeout()
    }

    fn transmit(&self) -> &[u8] {
        self.session.transmit()
    }

    fn advance(&mut self, now: Now, n: usize) {
        self.session.advance(now, n);
        self.look(now);
    }

    fn wants_read(&self) -> bool {
        self.session.wants_read()
    }

    fn read_bytes(&self) -> usize {
        self.session.read_bytes()
    }

    fn wants_shutdown(&self) -> bool {
        self.session.wants_shutdown()
    }

    fn handle_shutdown(&mut self) {
        self.session.handle_shutdown();
    }

    fn is_closed(&self) -> bool {
        self.session.is_closed()
    }
}
