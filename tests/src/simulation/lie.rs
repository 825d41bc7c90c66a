//! A network that lies: oracles are worth what they find. No seed draws any of it.

/// What becomes of the next text frame of the server's that the lie is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An event is lost.
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
    /// After it comes a request, as only back ends get them.
    Ask,
    /// After it comes an error that nobody has made.
    Blame,
    /// After it comes a close with this code.
    Close {
        /// The code, which fits into two bytes of a close frame.
        code: u16,
    },
    /// The welcome on the next socket says that the stream goes on in another way than it does.
    Misplace,
    /// The welcome on the next socket gives the connection an id that is always the same.
    Namesake,
    /// A message of the device's says what the first one said.
    Retell,
}

impl Lie {
    /// Whether it is about the beginning of a socket, and so of the next.
    pub(super) const fn is_about_the_next(self) -> bool {
        matches!(self, Self::Misplace | Self::Namesake)
    }

    /// Whether it is about what the device says.
    pub(super) const fn is_upward(self) -> bool {
        matches!(self, Self::Retell)
    }
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// The frames as they are to be told; `None` while the lie waits for its chance.
pub(super) fn tell(lie: Lie, bytes: &[u8]) -> Option<Vec<u8>> {
    let frames = frames(bytes)?;
    let is_meant = |frame: &&[u8]| {
        if lie.is_upward() {
            has(&unmasked(frame), CONTENT)
        } else if lie.is_about_the_next() {
            has(frame, b"\"type\":\"welcome\"")
        } else {
            has(frame, b"\"event_id\"") && has(frame, b"\"timestamp\"")
        }
    };
    let at = frames.iter().position(is_meant)?;
    let mut told: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
    match lie {
        Lie::Drop => drop(told.remove(at)),
        Lie::Repeat => told.insert(at, told[at].clone()),
        Lie::Swap if at + 1 < told.len() => told.swap(at, at + 1),
        Lie::Swap => return None,
        Lie::Misname => replace(&mut told[at], b"\"user_id\":\"ann\"", b"\"user_id\":\"bob\""),
        Lie::Garble => {
            replace(&mut told[at], b"\"name\":\"n", b"\"name\":\"x");
            replace(&mut told[at], b"\"thought\":\"1", b"\"thought\":\"2");
        }
        Lie::Swallow => told.clear(),
        Lie::Ask => told.insert(at + 1, frame(TEXT, REQUEST.as_bytes())),
        Lie::Blame => told.insert(at + 1, frame(TEXT, br#"{"type":"error","code":"internal","message":"no"}"#)),
        Lie::Close { code } => told.insert(at + 1, frame(CLOSE, &code.to_be_bytes())),
        Lie::Misplace => told[at] = misplaced(&told[at])?,
        Lie::Retell => {
            let (said, start) = (unmasked(&told[at]), payload(&told[at])?);
            let number = find(&said, CONTENT)? + CONTENT.len();
            // What is masked by one byte is told from what was masked by it.
            *told[at].get_mut(start + number)? ^= said.get(number)? ^ b'1';
        }
        Lie::Namesake => {
            let id = find(&told[at], b"\"connection_id\":\"conn_")? + 22;
            told[at].get_mut(id..id + 32)?.fill(b'7');
        }
    }
    Some(told.concat())
}

const CONTENT: &[u8] = b"\"content\":\"m";
const REQUEST: &str = r#"{"type":"request","id":"q","user_id":"ann","request":"command","name":"do"}"#;

/// One that is live has to begin anew, one that is to be given what it has not is said to have all.
fn misplaced(welcome: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(welcome.get(payload(welcome)?..)?).ok()?;
    let (live, replay, reset) = (r#""mode":"live""#, r#""mode":"replay""#, r#""mode":"reset""#);
    let otherwise = if text.contains(replay) { text.replacen(replay, live, 1) } else { text.replacen(live, reset, 1) };
    Some(frame(TEXT, otherwise.as_bytes()))
}

fn has(frame: &[u8], text: &[u8]) -> bool {
    find(frame, text).is_some()
}

fn find(frame: &[u8], text: &[u8]) -> Option<usize> {
    frame.windows(text.len()).position(|window| window == text)
}

fn replace(frame: &mut [u8], text: &[u8], by: &[u8]) {
    if let Some(at) = find(frame, text) {
        frame[at..at + by.len()].copy_from_slice(by);
    }
}

/// One frame, unmasked: RFC 6455 section 5.2.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame = vec![head];
    match u8::try_from(length).ok().filter(|length| *length < 126) {
        Some(length) => frame.push(length),
        None => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The bytes that a client has masked its payload with.
fn mask(frame: &[u8]) -> Option<[u8; 4]> {
    let is_masked = frame.get(1)? & 0x80 != 0;
    frame.get(..payload(frame)?)?.last_chunk().copied().filter(|_| is_masked)
}

/// The payload as it is meant.
fn unmasked(frame: &[u8]) -> Vec<u8> {
    let mask = mask(frame).unwrap_or_default();
    let bytes = payload(frame).and_then(|at| frame.get(at..)).unwrap_or_default();
    bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// Where the payload begins.
fn payload(frame: &[u8]) -> Option<usize> {
    let (masked, length) = (frame.get(1)? & 0x80 != 0, frame.get(1)? & 0x7f);
    Some(if length == 126 { 4 } else { 2 } + if masked { 4 } else { 0 })
}

/// The whole frames that these bytes are, where they are whole frames.
fn frames(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let [_, length, ..] = rest {
        let length = match length & 0x7f {
            126 => usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])),
            127 => return None,
            length => usize::from(length),
        };
        let (frame, after) = rest.split_at_checked(payload(rest)? + length)?;
        frames.push(frame);
        rest = after;
    }
    rest.is_empty().then_some(frames)
}
