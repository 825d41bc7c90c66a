//! Masking: RFC 6455 section 5.3.

/// Masks or unmasks `bytes` in place, where `bytes[0]` meets `mask[0]`. Doing it twice changes nothing.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    properties! {
        #[test]
        fn words_agree_with_single_bytes(bytes in any::<Vec<u8>>(), mask in any::<[u8; 4]>()) {
            let mut fast = bytes.clone();
            apply_mask(&mut fast, mask);
            let naive: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            prop_assert_eq!(&fast, &naive);
            apply_mask(&mut fast, mask);
            prop_assert_eq!(fast, bytes);
        }
    }
}
