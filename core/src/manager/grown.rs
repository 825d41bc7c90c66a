//! Which log has grown.

use crate::id::TopicId;

/// What has grown of the logs that a connection reads, as a bit of its mailbox's mark. A user's own log has one; topics share the
/// others, so that whoever follows many looks at few of them in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown(u8);

/// The first is the mailbox's own, the second the user's log.
const FIRST_TOPIC: u32 = 2;

impl Grown {
    /// The log of the connection's user.
    pub const OWN: Self = Self(1 << 1);

    /// The log of a topic.
    pub fn of(topic: &TopicId) -> Self {
        // The upper byte: the lower one picks the shard.
        Self(1 << (FIRST_TOPIC + u32::from(topic.shard_hash() >> 8) % (u8::BITS - FIRST_TOPIC)))
    }

    /// The bit.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether a mark with these bits says so.
    pub const fn is_in(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TopicName;

    #[test]
    fn topics_have_bits_of_their_own_and_none_has_the_mailboxs_or_the_users() {
        let topic = |n: u32| TopicId::new(None, TopicName::new(&format!("topic {n}")).unwrap()).unwrap();
        let all = (0..1_000).map(|n| Grown::of(&topic(n)).bits()).fold(0, |all, bits| {
            assert_eq!(bits.count_ones(), 1);
            all | bits
        });
        assert_eq!(all, !(Grown::OWN.bits() | 1));
    }
}
