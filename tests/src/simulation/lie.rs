//! A network that lies: oracles are worth what they find. No seed draws any of it.

/// What becomes of the next text frame of the server's that holds an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is lost.
    Drop,
    /// It comes twice.
    Repeat,
    /// It comes after the one that follows it.
    Swap,
    /// It names another user.
    Misname,
    /// It says something else.
    Garble,
    /// It never comes, and neither does anything else.
    Swallow,
}

/// The frames as they are to be told; `None` while the lie waits for its chance.
pub(super) fn tell(lie: Lie, bytes: &[u8]) -> Option<Vec<u8>> {
    let frames = frames(bytes)?;
    let at = frames.iter().position(|frame| has(frame, b"\"event_id\"") && has(frame, b"\"timestamp\""))?;
    let mut told: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
    match lie {
        Lie::Drop => drop(told.remove(at)),
        Lie::Repeat => told.insert(at, told[at].clone()),
        Lie::Swap if at + 1 < told.len() => told.swap(at, at + 1),
        Lie::Swap => return None,
        Lie::Misname => replace(&mut told[at], b"\"user_id\":\"ann\"", b"\"user_id\":\"bob\""),
        Lie::Garble => replace(&mut told[at], b"\"name\":\"n", b"\"name\":\"x"),
        Lie::Swallow => told.clear(),
    }
    Some(told.concat())
}

fn has(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}

fn replace(frame: &mut [u8], text: &[u8], by: &[u8]) {
    if let Some(at) = frame.windows(text.len()).position(|window| window == text) {
        frame[at..at + by.len()].copy_from_slice(by);
    }
}

/// The whole frames that these bytes are, where they are whole frames: RFC 6455 section 5.2, unmasked.
fn frames(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let [_, length, ..] = rest {
        let (head, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]))),
            127 => return None,
            length => (2, usize::from(*length)),
        };
        let (frame, after) = rest.split_at_checked(head + length)?;
        frames.push(frame);
        rest = after;
    }
    rest.is_empty().then_some(frames)
}
