//! How many sockets each address has, and how fast it opens them: a bounded table that forgets whoever is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::limits::Limits;
use crate::rate::{Allowance, Rate};
use crate::time::Timestamp;

/// What counts as one peer: an IPv4 address, or the /64 of an IPv6 address, all of which is one customer's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(Network);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Peer {
    /// The peer behind an address; an IPv4 address that is written as an IPv6 one is the IPv4 address. `None` for loopback:
    /// this machine is not limited, since it is a proxy or its operator.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(Self(Network::V4(address))),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Some(Self(Network::V6([a, b, c, d])))
            }
        }
    }
}

/// Where a socket was counted, and must be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a place that is not released stays taken"]
pub enum Place {
    /// Under its own address.
    Own(Peer),
    /// Among those for which the table has no room, or whose address is unknown.
    Shared,
}

/// Why an address may not open another socket now. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Over [`Limits::handshakes_per_second`] and its burst.
    #[error("the address opens sockets faster than allowed")]
    Handshakes,
    /// Over [`Limits::connections_per_address`].
    #[error("the address has as many sockets as allowed")]
    Sockets,
}

/// The sockets of all addresses.
///
/// An address is known while it has an open socket or its burst is not whole again; once neither is so, it is as if it had never
/// come, and is forgotten. One that is known is never forgotten to make room for another: where there is none, those that are
/// not known share one entry.
#[derive(Clone, Debug)]
pub struct Addresses {
    max_sockets: usize,
    allowance: Allowance,
    max_known: usize,
    known: BTreeMap<Peer, Entry>,
    /// Those without a socket, by the time from which on they need not be known.
    quiet: BTreeSet<(Timestamp, Peer)>,
    shared: Entry,
}

#[derive(Clone, Debug)]
struct Entry {
    sockets: usize,
    rate: Rate,
}

/// How many are forgotten at most while one comes: more than come, so that the table shrinks, and little under a lock.
const FORGET_AT_ONCE: usize = 4;

impl Addresses {
    /// An empty table.
    pub fn new(limits: &Limits) -> Self {
        let allowance = Allowance::of_address(limits);
        Self {
            max_sockets: limits.connections_per_address,
            allowance,
            max_known: limits.addresses,
            known: BTreeMap::new(),
            quiet: BTreeSet::new(),
            shared: Entry::new(Timestamp::ZERO, allowance),
        }
    }

    /// Counts one more socket of `peer`, or of somebody unknown. In one step: what is refused has taken nothing, so that whoever
    /// tries on and on comes in as soon as whoever waits.
    ///
    /// # Errors
    /// When the peer opens them too fast, or has too many.
    pub fn reserve(&mut self, now: Timestamp, peer: Option<Peer>) -> Result<Place, TooMany> {
        self.forget(now);
        let own = peer.filter(|peer| self.known.contains_key(peer) || self.known.len() < self.max_known);
        let Some(peer) = own else {
            self.shared.take(now, self.max_sockets, self.allowance)?;
            return Ok(Place::Shared);
        };
        let entry = self.known.entry(peer).or_insert_with(|| Entry::new(now, self.allowance));
        let quiet_until = entry.rate.full_at(self.allowance);
        let was_quiet = entry.sockets == 0;
        entry.take(now, self.max_sockets, self.allowance)?;
        if was_quiet {
            self.quiet.remove(&(quiet_until, peer));
        }
        Ok(Place::Own(peer))
    }

    /// The socket is closed.
    pub fn release(&mut self, place: Place) {
        match place {
            Place::Shared => self.shared.sockets = self.shared.sockets.saturating_sub(1),
            Place::Own(peer) => {
                let Some(entry) = self.known.get_mut(&peer) else { return };
                entry.sockets = entry.sockets.saturating_sub(1);
                if entry.sockets == 0 {
                    self.quiet.insert((entry.rate.full_at(self.allowance), peer));
                }
            }
        }
    }

    /// The socket was refused by somebody else: it does not count against its address either.
    pub fn cancel(&mut self, place: Place) {
        let entry = match place {
            Place::Shared => Some(&mut self.shared),
            Place::Own(peer) => self.known.get_mut(&peer),
        };
        if let Some(entry) = entry {
            entry.rate.give_back(self.allowance);
        }
        self.release(place);
    }

    /// Open sockets, of all addresses together.
    pub fn sockets(&self) -> usize {
        self.known.values().map(|entry| entry.sockets).sum::<usize>() + self.shared.sockets
    }

    /// Addresses that are known now.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    fn forget(&mut self, now: Timestamp) {
        for _ in 0..FORGET_AT_ONCE {
            match self.quiet.first() {
                Some((at, peer)) if *at <= now => {
                    self.known.remove(peer);
                    self.quiet.pop_first();
                }
                Some(_) | None => return,
            }
        }
    }
}

impl Entry {
    fn new(now: Timestamp, allowance: Allowance) -> Self {
        Self { sockets: 0, rate: Rate::new(now, allowance) }
    }

    fn take(&mut self, now: Timestamp, max: usize, allowance: Allowance) -> Result<(), TooMany> {
        if !self.rate.has_one(now, allowance) {
            return Err(TooMany::Handshakes);
        }
        if self.sockets >= max {
            return Err(TooMany::Sockets);
        }
        self.rate.allow(now, allowance);
        self.sockets += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            connections_per_address: 3,
            handshakes_per_second: 10,
            handshake_burst: 4,
            addresses: 5,
            ..Limits::default()
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    fn peer(text: &str) -> Option<Peer> {
        Peer::of(text.parse().unwrap())
    }

    fn number(n: u32) -> Option<Peer> {
        Peer::of(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)))
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_line_and_never_this_machine() {
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.2"), peer("192.0.2.1"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(peer("2001:db8:1:3::1"), peer("2001:db8:1:2::1"));
        assert_eq!([peer("127.0.0.1"), peer("127.9.9.9"), peer("::1"), peer("::ffff:127.0.0.1")], [None; 4]);
    }

    #[test]
    fn as_many_sockets_as_allowed_are_open_and_one_more_is_not() {
        let mut addresses = Addresses::new(&limits());
        let ann = peer("192.0.2.1");
        let places: Vec<_> = (0..3).map(|_| addresses.reserve(at(0), ann).unwrap()).collect();
        assert_eq!(addresses.reserve(at(0), ann), Err(TooMany::Sockets));
        let _ = addresses.reserve(at(0), peer("192.0.2.2")).expect("another address is not concerned");
        addresses.release(places[0]);
        let _ = addresses.reserve(at(0), ann).expect("a place is free, and what was refused has cost nothing");
        assert_eq!(addresses.reserve(at(0), ann), Err(TooMany::Handshakes), "the rate is looked at first");
    }

    #[test]
    fn the_burst_passes_and_one_more_does_not_and_refusals_do_not_prolong_it() {
        let mut addresses = Addresses::new(&limits());
        let ann = peer("192.0.2.1");
        let knock =
            |addresses: &mut Addresses, millis| addresses.reserve(at(millis), ann).map(|p| addresses.release(p));
        assert!((0..4).all(|_| knock(&mut addresses, 0).is_ok()));
        // It knocks a thousand times, and comes in with the first hundred milliseconds that are over.
        for n in 0..1_000 {
            assert_eq!(knock(&mut addresses, n / 11), Err(TooMany::Handshakes));
        }
        assert_eq!(knock(&mut addresses, 100), Ok(()));
        assert_eq!(knock(&mut addresses, 100), Err(TooMany::Handshakes));
    }

    #[test]
    fn what_somebody_else_refuses_costs_nothing() {
        let mut addresses = Addresses::new(&limits());
        for _ in 0..100 {
            let place = addresses.reserve(at(0), number(1)).unwrap();
            addresses.cancel(place);
        }
        assert_eq!(addresses.sockets(), 0);
        let _ = addresses.reserve(at(0), number(2)).unwrap();
        assert_eq!(addresses.known(), 1, "whoever has a whole burst and no socket is not known");
    }

    #[test]
    fn whoever_is_busy_is_not_forgotten_for_others_and_these_share_one_entry() {
        let mut addresses = Addresses::new(&limits());
        let busy: Vec<_> = (0..5).map(|n| addresses.reserve(at(0), number(n)).unwrap()).collect();
        for n in 5..8 {
            assert_eq!(addresses.reserve(at(0), number(n)), Ok(Place::Shared));
        }
        assert_eq!(addresses.reserve(at(0), number(8)), Err(TooMany::Sockets), "they have what one address may have");
        assert_eq!(addresses.reserve(at(0), None), Err(TooMany::Sockets), "and so has whoever is unknown");
        assert_eq!(addresses.known(), 5);
        assert!(matches!(addresses.reserve(at(0), number(1)), Ok(Place::Own(_))), "whoever is known is not concerned");
        // Its rate is remembered until it is whole.
        addresses.release(busy[0]);
        assert_eq!(addresses.reserve(at(99), number(9)), Err(TooMany::Sockets));
        assert!(matches!(addresses.reserve(at(100), number(9)), Ok(Place::Own(_))));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(u32),
        Close(usize),
        Cancel(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0_u32..12).prop_map(Step::Open),
            3 => (0_usize..20).prop_map(Step::Close),
            1 => (0_usize..20).prop_map(Step::Cancel),
            2 => (0_u64..300).prop_map(Step::Pass),
        ]
    }

    properties! {
        #[test]
        fn counts_are_the_sizes_of_the_sets_and_the_table_is_bounded_and_shrinks(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let limits = limits();
            let mut addresses = Addresses::new(&limits);
            let (mut open, mut now) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Open(n) => open.extend(addresses.reserve(at(now), number(n))),
                    Step::Close(n) if n < open.len() => addresses.release(open.swap_remove(n)),
                    Step::Cancel(n) if n < open.len() => addresses.cancel(open.swap_remove(n)),
                    Step::Close(_) | Step::Cancel(_) => {}
                    Step::Pass(millis) => now += millis,
                }
                prop_assert_eq!(addresses.sockets(), open.len());
                prop_assert!(addresses.known() <= limits.addresses);
                for n in 0..12 {
                    let of = |place: &&Place| number(n).is_some_and(|peer| **place == Place::Own(peer));
                    let entry = number(n).and_then(|peer| addresses.known.get(&peer));
                    prop_assert_eq!(entry.map_or(0, |entry| entry.sockets), open.iter().filter(of).count());
                }
                let quiet = addresses.known.values().filter(|entry| entry.sockets == 0).count();
                prop_assert_eq!(addresses.quiet.len(), quiet, "each that has no socket is on its way out, once");
            }
            open.into_iter().for_each(|place| addresses.release(place));
            now += 1_000;
            for _ in 0..limits.addresses {
                if let Ok(place) = addresses.reserve(at(now), None) {
                    addresses.cancel(place);
                }
            }
            prop_assert_eq!((addresses.known(), addresses.quiet.len(), addresses.sockets()), (0, 0, 0));
        }
    }
}
