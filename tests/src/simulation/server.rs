//! The server: the hub, its housekeeper, and the sockets that a real driver drives.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use trunkline_core::auth::TokenVerifier;
use trunkline_core::drive::Driver;
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Requests};
use trunkline_core::id::{ConnectionId, Entropy};
use trunkline_core::limits::Limits;
use trunkline_core::time::{Clock, Timestamp};

use super::cast;
use super::clock::{Flag, SimTimer, Watch};
use super::pipe::{Channel, Shared, Side};
use super::watched::{Bounds, Seen, Watched};
use super::world::Ctx;
use super::wrong::Wrong;

/// What one direction of a connection holds.
const CAPACITY: usize = 64 << 10;

/// A server that runs.
pub(super) struct Server {
    pub(super) hub: Hub,
    keeper: Housekeeper,
    keeper_flag: Arc<Flag>,
    keeper_waker: Waker,
    keeper_due: Timestamp,
    pub(super) requests: Option<Requests>,
    pub(super) sockets: BTreeMap<u64, Socket>,
    bounds: Rc<Bounds>,
    keeps: bool,
    /// It hears of no revocation.
    pub(super) is_deaf: bool,
    /// Since when it shuts down.
    pub(super) draining: Option<Timestamp>,
    /// Something may be in a log that did not come from this process.
    wire_news: bool,
    /// A device's word may be, too: it decides what a run waits for.
    pub(super) devices_decide: bool,
}

/// The server's end of one connection.
pub(super) struct Socket {
    driver: Driver<Watched, Side, SimTimer, Watch>,
    flag: Arc<Flag>,
    waker: Waker,
    due: Rc<Cell<Timestamp>>,
    pub(super) seen: Rc<Seen>,
    /// As its welcome named it.
    pub(super) connection: Option<ConnectionId>,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) up: Shared,
    pub(super) down: Shared,
}

impl Socket {
    pub(super) fn wake(&self) {
        self.flag.set();
    }
}

impl Server {
    pub(super) fn new(limits: &Limits, shards: usize, ctx: &Ctx) -> Self {
        let config = HubConfig { limits: limits.clone(), shards, ..HubConfig::default() };
        let verifier = Arc::clone(&ctx.issuer) as Arc<dyn TokenVerifier>;
        let clock = Arc::clone(&ctx.clock) as Arc<dyn Clock>;
        let made = Hub::new(config, verifier, clock, Arc::clone(&ctx.entropy) as Arc<dyn Entropy>);
        // The limits of every seed agree: a test looks at many.
        let (hub, keeper) = made.unwrap_or_else(|error| unreachable!("{error}"));
        let keeper_flag = Arc::new(Flag::default());
        keeper_flag.set();
        let requests = hub.requests();
        Self {
            keeper,
            keeper_waker: Waker::from(Arc::clone(&keeper_flag)),
            keeper_flag,
            keeper_due: Timestamp::MAX,
            requests,
            sockets: BTreeMap::new(),
            bounds: Bounds::new(limits),
            keeps: true,
            is_deaf: false,
            draining: None,
            wire_news: false,
            devices_decide: false,
            hub,
        }
    }

    /// What its sessions are held to, where that is not what it is told.
    pub(super) fn hold_to(&mut self, limits: &Limits) {
        self.bounds = Bounds::new(limits);
    }

    /// The housekeeper sleeps from now on.
    pub(super) const fn stop_keeping(&mut self) {
        (self.keeps, self.keeper_due) = (false, Timestamp::MAX);
    }

    /// Accepts a connection.
    pub(super) fn accept(&mut self, ctx: &Ctx) -> Line {
        let number = ctx.next_socket();
        let (up, down) = (Channel::new(CAPACITY), Channel::new(CAPACITY));
        match self.hub.session() {
            Err(rejected) => {
                let mut answer = down.borrow_mut();
                // It fits.
                let _ = answer.write(&rejected.response());
                answer.end();
                up.borrow_mut().break_off();
            }
            Ok(session) => {
                let side =
                    Side { number, incoming: Rc::clone(&up), outgoing: Rc::clone(&down), trace: ctx.trace.clone() };
                self.serve(ctx, session, side);
            }
        }
        Line { number, up, down }
    }

    fn serve(&mut self, ctx: &Ctx, session: trunkline_core::hub::Session, side: Side) {
        let number = side.number;
        let (timer, due) = SimTimer::new(&ctx.clock);
        let (watched, seen) = Watched::new(session, ctx, &self.bounds);
        let driver = Driver::new(watched, side, timer, Watch(Arc::clone(&ctx.clock)));
        let flag = Arc::new(Flag::default());
        flag.set();
        let waker = Waker::from(Arc::clone(&flag));
        self.sockets.insert(number, Socket { driver, flag, waker, due, seen, connection: None });
    }

    /// Lets the housekeeper and every socket that was woken go on; says whether there was any.
    pub(super) fn turn(&mut self, now: Timestamp) -> bool {
        let mut went_on = false;
        if self.keeps && (self.keeper_flag.take() || self.keeper_due <= now) {
            self.keeper_due = self.keeper.poll(&self.keeper_waker).unwrap_or(Timestamp::MAX);
            (went_on, self.wire_news) = (true, true);
        }
        let mut over = Vec::new();
        for (number, socket) in &mut self.sockets {
            let wrong = socket.seen.wrong.get();
            if wrong == Some(Wrong::Asleep) {
                socket.due.set(Timestamp::MAX);
                continue;
            }
            if socket.due.get() <= now {
                socket.flag.set();
            }
            if !socket.flag.take() {
                continue;
            }
            went_on = true;
            self.wire_news |= self.devices_decide || socket.seen.user.get().is_some_and(|user| user >= cast::PEOPLE);
            if let Poll::Ready(parts) = Pin::new(&mut socket.driver).poll(&mut Context::from_waker(&socket.waker)) {
                over.push(*number);
                if wrong == Some(Wrong::Leak) {
                    std::mem::forget(parts);
                }
            }
            if wrong == Some(Wrong::Restless) {
                socket.flag.set();
            }
        }
        over.iter().for_each(|number| drop(self.sockets.remove(number)));
        went_on
    }

    /// Whether something may have come into a log that did not come from this process, since the last time.
    pub(super) const fn take_wire_news(&mut self) -> bool {
        std::mem::replace(&mut self.wire_news, false)
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Timestamp {
        self.sockets.values().map(|socket| socket.due.get()).min().unwrap_or(Timestamp::MAX).min(self.keeper_due)
    }

    /// The server's end of a connection is gone, and no byte says so.
    pub(super) fn forget(&mut self, number: u64, line: &Line) {
        // The pipes that the other end holds are none any more.
        if self.sockets.remove(&number).is_some() {
            line.down.borrow_mut().silence();
            line.up.borrow_mut().silence();
        }
    }

    /// What must hold whenever everything waits.
    pub(super) fn check(&self, ctx: &Ctx, limits: &Limits, thorough: bool) {
        let (mut unverified, mut attached, mut devices) = (0, 0, 0);
        for socket in self.sockets.values() {
            socket.seen.check(ctx, &self.bounds);
            unverified += usize::from(!socket.seen.was_attached.get());
            if let Some(user) = socket.seen.user.get() {
                attached += 1;
                devices += usize::from(user < cast::PEOPLE);
            }
        }
        let hub = &self.hub;
        ctx.hold(hub.sockets() == self.sockets.len(), "R77", || {
            format!("{} sockets are counted and {} are there", hub.sockets(), self.sockets.len())
        });
        ctx.hold(hub.unauthenticated() == unverified, "R5", || {
            format!("{} sockets are counted as unverified and {unverified} are", hub.unauthenticated())
        });
        let counts = hub.counts();
        ctx.hold(counts.connections == devices, "I7", || {
            format!("{} connections are counted and {devices} of {attached} are there", counts.connections)
        });
        let most = limits.total_log_bytes + limits.event_bytes;
        ctx.hold(counts.log_bytes <= most && hub.inbound_bytes() <= limits.total_inbound_bytes, "I14", || {
            format!("the logs have {} bytes", counts.log_bytes)
        });
        if thorough {
            (0..cast::PEOPLE).for_each(|user| self.check_index(ctx, user));
        }
    }

    /// The hub's devices of a user are the sockets that are its.
    fn check_index(&self, ctx: &Ctx, user: usize) {
        let listed = self.hub.devices(ctx.issuer.user(user));
        let mut there: Vec<_> = self.sockets.values().filter(|socket| socket.seen.user.get() == Some(user)).collect();
        let all = there.len();
        there.retain(|socket| socket.connection.is_none_or(|id| listed.iter().any(|device| device.connection == id)));
        ctx.hold(there.len() == all && listed.len() == all, "I7", || {
            format!("user {user} has {} devices listed, and {all} are there", listed.len())
        });
    }
}
