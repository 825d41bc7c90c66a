//! A hub with its sessions and clients, exhaustively: two users with two devices each, and every order of connecting, saying hello,
//! reading, sending, losing, coming back, publishing, refreshing, revoking, expiring, waiting and draining, within the budgets that
//! each exploration names. The whole product is far too large; each exploration gives some concerns room and leaves the others out.
//!
//! Nothing is modelled but what is in between: bytes go from a client to its session and back when the order says so, a session's task
//! runs only when it was woken or its timer fired, and the clock stands still but where it is turned to the next deadline.
//!
//! Checked after every operation, by the invariant groups of the design:
//! 1. who is in is who came and has neither left nor been taken out, and all counts are those of the sockets;
//! 2. a client hears the welcome first, then its own user's events, each once and in order, and nothing after the close;
//! 3. nothing is lost or repeated over any number of sockets, unless it is said to be;
//! 4. a socket closes once and for a reason that there is, and whoever is taken out hears nothing of what comes after;
//! 5. every socket has a deadline, and once nothing is left to do every client has everything: no wake-up was lost;
//! 6. what is expired or revoked comes in nowhere, and no expiry moves backward.

mod device;
mod scopes;

use std::collections::BTreeSet;
use std::time::Duration;

use device::{Device, Word};

use super::harness::{TestClock, World, ident};
use crate::drive::Machine;
use crate::error::CloseReason;
use crate::explore::{Fingerprint, Model};
use crate::hub::Session;
use crate::id::SessionId;
use crate::limits::Limits;
use crate::protocol::RevokeTarget;
use crate::time::{Timestamp, UnixTime};

const USERS: [&str; 2] = ["ann", "bob"];
/// Of each user.
const DEVICES: usize = 2;
const FAR: Duration = Duration::from_secs(1_000_000);
const LEEWAY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A socket is opened and upgraded; the hello is not sent yet.
    Connect(usize),
    /// What the client has written reaches the session.
    Send(usize),
    /// The session's task runs, and what it writes reaches the client.
    Read(usize),
    /// The session's timer fires.
    Tick(usize),
    /// Both ends see the socket break.
    Lose(usize),
    /// Only the client does.
    LoseHalf(usize),
    /// The session of a half-open socket is told of its end, its task having run before.
    Bury(usize),
    Refresh(usize),
    /// By a token that ends before the one that it stands on.
    RefreshShorter(usize),
    Publish(usize),
    RevokeFirst(usize),
    RevokeSession(usize),
    RevokeAll(usize),
    /// The clock moves to the next deadline of anybody's.
    Wait,
    Drain,
}

/// How often each may come.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Devices of each user, and how many of them are in at the start.
    devices: [usize; USERS.len()],
    in_at_start: [usize; USERS.len()],
    /// Sockets of one device, and of all beside those at the start.
    generations: u32,
    connects: u32,
    events: u32,
    losses: u32,
    halves: u32,
    refreshes: u32,
    revocations: u32,
    waits: u32,
    drains: u32,
    /// How long a token lives.
    life: Duration,
    log_entries: usize,
    per_user: usize,
}

const NOTHING: Budget = Budget {
    devices: [DEVICES; USERS.len()],
    in_at_start: [0; USERS.len()],
    generations: 2,
    connects: 0,
    events: 0,
    losses: 0,
    halves: 0,
    refreshes: 0,
    revocations: 0,
    waits: 0,
    drains: 0,
    life: FAR,
    log_entries: 1_000,
    per_user: 10,
};

/// What is true of a user, told from the operations alone.
#[derive(Debug, Default)]
struct User {
    /// When each of its events was published.
    published: Vec<UnixTime>,
    /// Who is in, in the order in which they came: the device, its socket's generation, its session, and whether it stands on
    /// the first token.
    attached: Vec<Attached>,
    first_revoked: bool,
    sessions: BTreeSet<SessionId>,
    all_since: Option<UnixTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attached {
    device: usize,
    generation: u32,
    session: SessionId,
    first: bool,
}

struct Explored {
    world: World,
    devices: Vec<Device>,
    users: [User; USERS.len()],
    draining: bool,
    left: Budget,
}

impl Explored {
    fn new(budget: Budget) -> Self {
        let limits = Limits {
            heartbeat_interval: FAR,
            heartbeat_timeout: FAR,
            write_stall: FAR,
            handshake_deadline: FAR,
            drain_deadline: Duration::from_secs(30),
            log_retention: FAR,
            dedup_window: FAR,
            token_leeway: LEEWAY,
            log_entries: budget.log_entries,
            connections_per_user: budget.per_user,
            ..Limits::default()
        };
        let world = World::sharded(limits, 2);
        let count = |user: usize| (0..budget.devices[user]).map(move |_| user);
        let devices: Vec<Device> =
            (0..USERS.len()).flat_map(count).enumerate().map(|(lane, user)| Device::new(user, lane)).collect();
        let mut explored = Self { world, devices, users: Default::default(), draining: false, left: budget };
        explored.left.connects += 4;
        let mut rest = budget.in_at_start;
        for at in 0..explored.devices.len() {
            let user = explored.devices[at].user;
            if rest[user] > 0 {
                rest[user] -= 1;
                for op in [Op::Connect(at), Op::Send(at), Op::Read(at)] {
                    explored.play(&op);
                }
            }
        }
        explored.left.connects = budget.connects;
        explored
    }

    fn now(&self) -> Timestamp {
        self.world.now().at
    }

    /// Turns the numbers that a device draws to its own.
    fn lane(&self, at: usize) {
        self.world.entropy.turn_to(at);
    }

    fn connect(&mut self, at: usize) {
        self.left.connects = self.left.connects.saturating_sub(1);
        self.lane(at);
        let (world, life, draining) = (&self.world, self.left.life, self.draining);
        let let_in = self.devices[at].connect(world, life);
        assert_eq!(let_in, !draining, "an upgrade is refused exactly while the hub drains");
    }

    fn send(&mut self, at: usize) {
        self.lane(at);
        for word in self.devices[at].send(&self.world) {
            match word {
                Word::Hello => self.hello(at),
                Word::Refresh => self.refreshed(at),
            }
        }
    }

    /// The first frame has come: who lets it in, or why not.
    fn hello(&mut self, at: usize) {
        let now = self.world.now();
        let device = &self.devices[at];
        let (of, generation, known) = (device.user, device.generation, device.session_id);
        let (issued, ends) = (device.issued(), device.ends());
        let user = &mut self.users[of];
        let revoked = user.first_revoked
            || known.is_some_and(|session| user.sessions.contains(&session))
            || user.all_since.is_some_and(|since| issued <= since);
        let same = user.attached.iter().position(|other| Some(other.session) == known);
        let refused = if now.unix >= ends {
            Some(CloseReason::TokenExpired)
        } else if user.first_revoked || user.all_since.is_some_and(|since| issued <= since) {
            // The verifier's answer comes before anything else.
            Some(CloseReason::TokenRevoked)
        } else if self.draining {
            Some(CloseReason::Restart)
        } else if revoked {
            Some(CloseReason::TokenRevoked)
        } else if same.is_none() && user.attached.len() >= self.left.per_user {
            Some(CloseReason::TooManyConnections)
        } else {
            None
        };
        assert_eq!(self.devices[at].is_in(), refused.is_none(), "device {at}: {refused:?}");
        if let Some(reason) = refused {
            return self.devices[at].blame(reason);
        }
        if let Some(old) = same {
            let old = user.attached.remove(old);
            let seen = user.published.len();
            self.devices[old.device].taken_out(old.generation, CloseReason::Superseded, seen);
        }
        let user = &mut self.users[of];
        let session = self.world.hub.devices(&ident(USERS[of])).last().expect("it is in").session;
        assert!(user.all_since.is_some() || known.is_none_or(|known| known == session), "a session goes on");
        user.attached.push(Attached { device: at, generation, session, first: true });
    }

    fn refresh(&mut self, at: usize, life: Duration) {
        self.left.refreshes -= 1;
        self.lane(at);
        self.devices[at].refresh(&self.world, life);
    }

    /// A second token has come: it counts where the connection does.
    fn refreshed(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let (user, generation) = (&mut self.users[device.user], device.generation);
        let revoked = user.all_since.is_some_and(|since| device.second_issued() <= since);
        let now = self.world.now().unix;
        let late = now >= device.ends() || now >= device.second_ends();
        let known = user.attached.iter_mut().find(|other| (other.device, other.generation) == (at, generation));
        if let Some(known) = known.filter(|_| !revoked && !late) {
            known.first &= !device.renewed();
        }
    }

    fn publish(&mut self, of: usize) {
        self.left.events -= 1;
        let (now, user) = (self.world.now().unix, &mut self.users[of]);
        user.published.push(now);
        let receipt = self.world.hub.publish(&ident(USERS[of]), None, "n", &user.published.len()).unwrap();
        let expected = match user.attached.len() {
            0 => crate::protocol::Receipt::Stored,
            n => crate::protocol::Receipt::DeliveredTo(n as u32),
        };
        assert_eq!(receipt, expected);
    }

    fn revoke(&mut self, of: usize, target: &RevokeTarget, hit: impl Fn(&Attached) -> bool) {
        self.left.revocations -= 1;
        let closed = self.world.hub.revoke(&ident(USERS[of]), target, Some(UnixTime::MAX));
        let user = &mut self.users[of];
        let (gone, stay) = user.attached.drain(..).partition::<Vec<_>, _>(hit);
        user.attached = stay;
        assert_eq!(closed as usize, gone.len());
        for out in gone {
            self.devices[out.device].taken_out(out.generation, CloseReason::TokenRevoked, user.published.len());
        }
    }

    fn forget(&mut self, at: usize, generation: u32) {
        let device = &self.devices[at];
        self.users[device.user].attached.retain(|other| (other.device, other.generation) != (at, generation));
    }

    fn wait(&mut self) {
        self.left.waits -= 1;
        let Some(next) = self.next() else { return };
        self.world.clock.turn(next.saturating_since(self.now()));
        self.world.keeper.handle_timeout();
    }

    /// The next deadline of anybody's that is not so far away that it stands for none.
    fn next(&self) -> Option<Timestamp> {
        let due = self.devices.iter().flat_map(Device::sessions).filter_map(Machine::poll_timeout);
        due.filter(|due| (self.now()..Timestamp::ZERO + FAR).contains(due) && *due > self.now()).min()
    }

    /// Who is not live any more is out: by a close of its own, or since its token has expired.
    fn settle(&mut self) {
        let now = self.world.now();
        for at in 0..self.devices.len() {
            let published = self.users[self.devices[at].user].published.len();
            for generation in self.devices[at].settle(now, published) {
                self.forget(at, generation);
            }
        }
    }

    fn check(&self) {
        let sessions = || self.devices.iter().flat_map(Device::sessions);
        for (of, user) in self.users.iter().enumerate() {
            let real = self.world.hub.devices(&ident(USERS[of]));
            let real: Vec<SessionId> = real.iter().map(|device| device.session).collect();
            let expected: Vec<SessionId> = user.attached.iter().map(|attached| attached.session).collect();
            assert_eq!(real, expected, "{} has these devices", USERS[of]);
        }
        let hub = &self.world.hub;
        assert_eq!(hub.counts().connections, self.users.iter().map(|user| user.attached.len()).sum::<usize>());
        assert_eq!(hub.sockets(), sessions().count());
        let came_in = self.devices.iter().map(Device::came_in).sum::<usize>();
        assert_eq!((hub.inside(), hub.unauthenticated()), (came_in, sessions().count() - came_in));
        for session in sessions() {
            assert!(session.poll_timeout().is_some() || session.is_closed(), "a socket without a deadline");
        }
        for device in &self.devices {
            device.check(&self.users[device.user].published);
        }
    }

    /// Nothing is left to do: whoever is in has everything, and whoever was to be closed is.
    fn check_end(&self) {
        for (at, device) in self.devices.iter().enumerate() {
            let user = &self.users[device.user];
            let is_in = user.attached.iter().any(|other| (other.device, other.generation) == (at, device.generation));
            device.check_end(is_in, user.published.len());
        }
    }
}

impl Explored {
    /// Time passes until the drain has closed everybody.
    fn finish(&mut self) {
        let mut deadlines = 0;
        while let Some(due) = self.devices.iter().flat_map(Device::sessions).filter_map(Machine::poll_timeout).min() {
            deadlines += 1;
            assert!(deadlines < 100 && due < Timestamp::ZERO + FAR, "the drain does not end");
            self.world.clock.turn(due.saturating_since(self.now()));
            self.world.keeper.handle_timeout();
            self.settle();
            while let Some(op) = self.ops().into_iter().find(|op| matches!(op, Op::Send(_) | Op::Read(_) | Op::Tick(_)))
            {
                self.play(&op);
            }
        }
    }
}

impl Model for Explored {
    type Op = Op;

    fn ops(&self) -> Vec<Op> {
        let (left, mut ops) = (&self.left, Vec::new());
        for (at, device) in self.devices.iter().enumerate() {
            // Devices of a user are alike: the first to come is the first.
            let is_next = at == 0 || self.devices[at - 1].user != device.user || self.devices[at - 1].generation > 0;
            if left.connects > 0 && is_next && device.is_out() && device.generation < left.generations {
                ops.push(Op::Connect(at));
            }
            ops.extend(device.wants_to_send().then_some(Op::Send(at)));
            ops.extend(device.has_news().then_some(Op::Read(at)));
            ops.extend(device.is_due(self.now()).then_some(Op::Tick(at)));
            ops.extend((left.losses > 0 && device.session.is_some()).then_some(Op::Lose(at)));
            ops.extend((left.halves > 0 && device.session.is_some()).then_some(Op::LoseHalf(at)));
            ops.extend((!device.ghosts.is_empty()).then_some(Op::Bury(at)));
            if left.refreshes > 0 && device.is_live() {
                ops.extend([Op::Refresh(at), Op::RefreshShorter(at)]);
            }
            ops.extend((left.revocations > 0 && device.session_id.is_some()).then_some(Op::RevokeSession(at)));
        }
        for of in (0..USERS.len()).filter(|of| left.devices[*of] > 0) {
            ops.extend((left.events > 0).then_some(Op::Publish(of)));
            if left.revocations > 0 {
                ops.extend([Op::RevokeFirst(of), Op::RevokeAll(of)]);
            }
        }
        ops.extend((left.waits > 0 && self.next().is_some()).then_some(Op::Wait));
        ops.extend((left.drains > 0).then_some(Op::Drain));
        ops
    }

    fn play(&mut self, op: &Op) {
        self.replay(op);
        self.check();
    }

    fn replay(&mut self, op: &Op) {
        match *op {
            Op::Connect(at) => self.connect(at),
            Op::Send(at) => self.send(at),
            Op::Read(at) => {
                self.lane(at);
                self.devices[at].read(&self.world);
            }
            Op::Tick(at) => self.devices[at].tick(&self.world),
            Op::Lose(at) => {
                self.left.losses -= 1;
                self.devices[at].lose();
            }
            Op::LoseHalf(at) => {
                self.left.halves -= 1;
                self.devices[at].lose_half();
            }
            Op::Bury(at) => self.devices[at].bury(&self.world),
            Op::Refresh(at) => self.refresh(at, self.left.life.saturating_mul(2)),
            Op::RefreshShorter(at) => self.refresh(at, self.left.life / 2),
            Op::Publish(of) => self.publish(of),
            Op::RevokeFirst(of) => {
                self.revoke(of, &RevokeTarget::Token(device::FIRST.parse().unwrap()), |attached| attached.first);
                self.users[of].first_revoked = true;
            }
            Op::RevokeSession(at) => {
                let (of, session) = (self.devices[at].user, self.devices[at].session_id.unwrap());
                self.revoke(of, &RevokeTarget::Session(session), |attached| attached.session == session);
                self.users[of].sessions.insert(session);
            }
            Op::RevokeAll(of) => {
                self.revoke(of, &RevokeTarget::All, |_| true);
                self.users[of].all_since = Some(self.world.now().unix);
            }
            Op::Wait => self.wait(),
            Op::Drain => {
                self.left.drains -= 1;
                self.draining = true;
                self.world.hub.begin_shutdown();
                self.devices.iter_mut().for_each(Device::drains);
            }
        }
        self.settle();
    }

    fn end(&mut self) {
        self.check_end();
        if self.draining {
            self.finish();
        }
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { world, devices, users, draining, left } = self;
        world.hub.fingerprint(out);
        out.shown(&(users, draining, left, world.now()));
        devices.iter().for_each(|device| device.fingerprint(out));
    }
}

/// Bytes from a session to nobody.
fn drop_all(session: &mut Session, clock: &TestClock) {
    use crate::time::Clock as _;
    let now = clock.now();
    loop {
        session.poll_ready(now, std::task::Waker::noop());
        let waits = session.transmit().len();
        if waits == 0 {
            return;
        }
        session.advance(now, waits);
    }
}
