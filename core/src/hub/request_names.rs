//! What requests are called on the wire. Numbers that rise would tell a back end how much is asked of others.

use crate::id::Entropy;
use crate::manager::RequestId;

/// Bits of a request's number; those above name its shard.
const NUMBER_BITS: u32 = 48;

/// A random permutation of the numbers of requests: four rounds of Feistel's network. It hides how many there are from who
/// sees some; it is no proof of anything, as whoever answers a request is asked for its right to do so.
pub(super) struct RequestNames([u64; 4]);

impl RequestNames {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        Self([entropy.u64(), entropy.u64(), entropy.u64(), entropy.u64()])
    }

    /// The name of a request of this shard.
    pub(super) fn name(&self, shard: usize, request: RequestId) -> String {
        let RequestId(number) = request;
        // Some hundreds of shards, and fewer requests than 2^48 in any lifetime.
        let plain = (shard as u64) << NUMBER_BITS | number;
        let mixed = self.0.iter().fold(halves(plain), |(left, right), key| (right, left ^ round(right, *key)));
        format!("q-{:016x}", whole(mixed))
    }

    /// The shard and the number that a name means. One that was never given means anything, or nothing.
    pub(super) fn parse(&self, name: &str) -> Option<(usize, RequestId)> {
        let digits = name.strip_prefix("q-").filter(|digits| digits.len() == 16)?;
        let mixed = halves(u64::from_str_radix(digits, 16).ok()?);
        let plain = self.0.iter().rev().fold(mixed, |(left, right), key| (right ^ round(left, *key), left));
        let plain = whole(plain);
        Some(((plain >> NUMBER_BITS) as usize, RequestId(plain & ((1 << NUMBER_BITS) - 1))))
    }
}

const fn halves(whole: u64) -> (u32, u32) {
    ((whole >> 32) as u32, whole as u32)
}

const fn whole((left, right): (u32, u32)) -> u64 {
    (left as u64) << 32 | right as u64
}

/// The finalizer of SplitMix64 over the half and the key.
const fn round(half: u32, key: u64) -> u32 {
    let mut mixed = key.wrapping_add((half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_request() {
        let names = RequestNames([1, 2, 3, u64::MAX]);
        for (shard, number) in [(0, 0), (0, 1), (15, 7), (1_023, (1 << NUMBER_BITS) - 1)] {
            let name = names.name(shard, RequestId(number));
            assert_eq!(names.parse(&name), Some((shard, RequestId(number))), "{name}");
        }
        for wrong in
            ["", "q-", "q-0-1", "q-00000000000000zz", "q-000000000000000", "r-0000000000000000", "q-00000000000000000"]
        {
            assert_eq!(names.parse(wrong), None, "{wrong}");
        }
    }
}
