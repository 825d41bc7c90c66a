//! Who gives way where a user has as many connections as allowed: the dead before the living, and of these the one that has done
//! nothing for the longest time. There are no other classes: nothing protects a device in one case that would expose it in another.
//!
//! It cannot go back and forth. Whoever has come in, or has asked for something, stays for [`Limits::eviction_idle`]; and a device
//! that has given way and comes back by itself displaces nobody who is alive. So there are no more evictions than devices that come
//! in of their own accord.

use super::Manager;
use super::user::{Device, User};
use crate::id::{ConnectionId, SessionId, UserId};
use crate::limits::{AtCapacity, Limits};
use crate::time::{Now, Timestamp};

/// The sessions that have given way and not come back, the oldest first; as many as a user may have connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Evicted(Vec<SessionId>);

impl Evicted {
    fn note(&mut self, session: SessionId, max: usize) {
        if self.0.len() >= max {
            self.0.remove(0);
        }
        self.0.push(session);
    }

    /// Whether it is one of them. It is so once: let in or told to stop, a client comes again because somebody wants it to.
    pub(super) fn take(&mut self, session: SessionId) -> bool {
        let known = self.0.iter().position(|evicted| *evicted == session);
        known.map(|at| self.0.remove(at)).is_some()
    }
}

impl<H> Device<H> {
    fn is_idle(&self, now: Timestamp, limits: &Limits) -> bool {
        self.active + limits.eviction_idle <= now
    }
}

impl<H> User<H> {
    /// Takes out the device that gives way to a newcomer, which may be one that gave way before and comes back.
    pub(super) fn displace(&mut self, now: Timestamp, returns: bool, limits: &Limits) -> Option<Device<H>> {
        let devices = &mut self.channel.devices;
        let all = || devices.iter().enumerate();
        let dead = all().filter(|(_, device)| device.dead_at <= now).min_by_key(|(_, device)| device.dead_at);
        let idle = all().filter(|(_, device)| device.is_idle(now, limits)).min_by_key(|(_, device)| device.active);
        match (limits.at_capacity, dead, idle) {
            (AtCapacity::Supersede, Some((dead, _)), _) => Some(devices.remove(dead)),
            (AtCapacity::Supersede, None, Some((idle, _))) if !returns => {
                let device = devices.remove(idle);
                self.past.get_or_insert_default().evicted.note(device.session, limits.connections_per_user);
                Some(device)
            }
            (AtCapacity::Supersede, None, Some(_) | None) | (AtCapacity::Refuse, _, _) => None,
        }
    }
}

impl<H: Clone> Manager<H> {
    /// Whether one more connection of the user would have to displace another.
    pub fn is_full(&self, id: &UserId) -> bool {
        self.users.get(id).is_some_and(|user| user.channel.devices.len() >= self.limits.connections_per_user)
    }

    /// Notes from when on each of the user's devices seems to be dead: to be called before [`Manager::attach`] where the user
    /// [is full](Manager::is_full).
    pub fn note_dead(&mut self, id: &UserId, dead_at: impl Fn(&H) -> Timestamp) {
        if let Some(user) = self.users.get_mut(id) {
            user.channel.devices.iter_mut().for_each(|device| device.dead_at = dead_at(&device.handle));
        }
    }

    /// Notes that somebody uses this device.
    pub fn note_active(&mut self, now: Now, id: &UserId, connection: ConnectionId) {
        let devices = self.users.get_mut(id).map(|user| &mut user.channel.devices);
        if let Some(device) = devices.and_then(|all| all.iter_mut().find(|device| device.connection == connection)) {
            device.active = device.active.max(now.at);
        }
    }
}
