//! The same bytes, in the same reads, to this codec and to tungstenite's own `WebSocket`.

use std::io::{self, Read, Write};

use trunkline_core::codec::frame::{Assembler, ControlPayload, Fault, Message, Role};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role as PeerRole, WebSocketConfig};
use tungstenite::{Error, WebSocket};

use crate::frames::Cuts;

/// Frames in any bytes, read as the target `frames` reads them: the same messages come out of both codecs, and both refuse
/// or neither does.
///
/// What differs by intention:
///
/// * This codec refuses as soon as the bytes show a fault, tungstenite when the frame is whole. Where the frame is not
///   whole at the end, it is made so: no message may come of it then.
/// * What [`STRICTER`] names is refused here alone.
/// * Close code 1014, which IANA's registry names a bad gateway, is a code here; tungstenite hands out 1002 in its place.
pub fn differential(data: &[u8]) {
    let Some((header, bytes)) = data.split_at_checked(5) else { return };
    let (first, sizes) = (header[0], &header[1..]);
    let (role, peer) = [(Role::Server, PeerRole::Server), (Role::Client, PeerRole::Client)][usize::from(first & 1)];
    let limit = 16 << (first >> 1 & 7);
    let (mut ours, fault) = we_read(role, limit, Cuts::new(bytes, sizes));
    if matches!(ours.last(), Some(Message::Close(Some(1014), _))) {
        ours.pop();
        ours.push(Message::Close(Some(1002), "Protocol violation".into()));
    }
    let (theirs, refused) = they_read(peer, limit, bytes, sizes);
    match fault {
        None => assert_eq!((ours, false), (theirs, refused)),
        Some(Fault::Protocol(what)) if STRICTER.iter().any(|(known, _)| *known == what) => {
            assert!(theirs.starts_with(&ours), "{what}");
        }
        Some(fault) => {
            assert_eq!(ours, theirs, "{fault:?}");
            // A header that is refused may end within a length, which zeros would make one that is too long for what it says.
            let filler = if matches!(fault, Fault::Protocol(_)) { 0xff } else { 0 };
            let whole = [bytes, &[filler; LONGEST_FRAME]].concat();
            let (after, refused) = they_read(peer, limit, &whole, sizes);
            assert_eq!((ours, true), (after, refused), "{fault:?}");
        }
    }
}

/// The faults that are none for tungstenite, and the rule of RFC 6455 that makes them one.
pub const STRICTER: [(&str, &str); 3] = [
    (
        "the length is not in its shortest form",
        "5.2: the minimal number of bytes MUST be used to encode the length; tungstenite takes any",
    ),
    (
        "a control frame carries at most 125 bytes",
        "5.5 and 5.2: so its length is never an extended one; tungstenite takes an extended one of up to 125",
    ),
    (
        "the close code may not stand on the wire",
        "7.4: such a code MUST NOT be in a frame; tungstenite hands out a Close with 1002 in its place",
    ),
];

/// Longer than any frame within the limits, its header included.
const LONGEST_FRAME: usize = (16 << 7) + 16;

fn we_read(role: Role, limit: usize, reads: Cuts<'_>) -> (Vec<Message>, Option<Fault>) {
    let mut assembler = Assembler::new(role, limit);
    let mut messages = Vec::new();
    for mut read in reads {
        loop {
            match assembler.push(&mut read) {
                Ok(Some(message)) => {
                    messages.push(message);
                    if matches!(messages.last(), Some(Message::Close(..))) {
                        return (messages, None);
                    }
                }
                Ok(None) => break,
                Err(fault) => return (messages, Some(fault)),
            }
        }
    }
    (messages, None)
}

/// What comes up to a close frame, a refusal or the end of the bytes; and whether it was a refusal.
fn they_read(role: PeerRole, limit: usize, bytes: &[u8], sizes: &[u8]) -> (Vec<Message>, bool) {
    // The limit of a frame is held to control frames too.
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit.max(125)))
        .read_buffer_size(512);
    let wire = Wire { reads: Cuts::new(bytes, sizes), read: &[] };
    let mut socket = WebSocket::from_raw_socket(wire, role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(ours(message)),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (messages, false),
            Err(_) => return (messages, true),
        }
        if matches!(messages.last(), Some(Message::Close(..))) {
            return (messages, false);
        }
    }
}

fn ours(message: tungstenite::Message) -> Message {
    let control = |bytes: &[u8]| ControlPayload::new(bytes).expect("tungstenite holds control frames to 125 bytes");
    match message {
        tungstenite::Message::Text(text) => Message::Text(text.as_str().into()),
        tungstenite::Message::Binary(bytes) => Message::Binary(bytes.to_vec()),
        tungstenite::Message::Ping(bytes) => Message::Ping(control(&bytes)),
        tungstenite::Message::Pong(bytes) => Message::Pong(control(&bytes)),
        tungstenite::Message::Close(Some(close)) => {
            Message::Close(Some(close.code.into()), close.reason.as_str().into())
        }
        tungstenite::Message::Close(None) => Message::Close(None, "".into()),
        tungstenite::Message::Frame(_) => panic!("reading yields no raw frames"),
    }
}

/// Gives the bytes in the same reads, and takes whatever is written.
struct Wire<'a> {
    reads: Cuts<'a>,
    read: &'a [u8],
}

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() {
            self.read = self.reads.next().unwrap_or_default();
        }
        self.read.read(out)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(frames: &[&[u8]]) -> Vec<u8> {
        [&[0, 255, 255, 255, 255][..], &frames.concat()].concat()
    }

    #[test]
    fn what_is_refused_here_alone_is_what_is_listed() {
        let long = &[0x81, 0xfe, 0, 2, 0, 0, 0, 0, b'h', b'i'][..];
        let control = &[0x89, 0xfe, 0, 2, 0, 0, 0, 0, b'h', b'i'][..];
        let code = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed][..];
        for (frame, (fault, _)) in [long, control, code].into_iter().zip(STRICTER) {
            let (messages, ours) = we_read(Role::Server, 16, Cuts::new(frame, &[255]));
            assert_eq!((messages, ours), (vec![], Some(Fault::Protocol(fault))));
            let (messages, refused) = they_read(PeerRole::Server, 16, frame, &[255]);
            assert_eq!((messages.len(), refused), (1, false));
            differential(&masked(&[frame]));
        }
    }

    #[test]
    #[should_panic(expected = "the opcode is reserved")]
    fn a_refusal_of_what_is_whole_for_tungstenite_is_a_finding() {
        // As a codec would that takes a text for a reserved opcode.
        let (theirs, refused) = they_read(PeerRole::Server, 16, &[0x81, 0x80, 0, 0, 0, 0], &[255]);
        assert_eq!((Vec::new(), true), (theirs, refused), "{:?}", Fault::Protocol("the opcode is reserved"));
    }

    #[test]
    fn a_bad_gateway_is_a_reason_to_close() {
        let frame = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf6];
        let close = |code, text: &str| (vec![Message::Close(Some(code), text.into())], false);
        assert_eq!(we_read(Role::Server, 16, Cuts::new(frame, &[255])), (close(1014, "").0, None));
        assert_eq!(they_read(PeerRole::Server, 16, frame, &[255]), close(1002, "Protocol violation"));
        differential(&masked(&[frame]));
    }

    #[test]
    fn what_is_not_whole_may_be_refused_early() {
        // Not UTF-8, in the first of two bytes; a ping of 126 bytes.
        differential(&masked(&[&[0x81, 0x82, 0, 0, 0, 0, 0xff]]));
        differential(&masked(&[&[0x89, 0xfe]]));
    }
}
