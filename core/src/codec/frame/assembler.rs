//! Frames in: bytes become messages, in one pass, with no buffer while idle.

use super::encode::COMPRESSED;
use super::message::{ControlPayload, Fault, MAX_CONTROL_PAYLOAD, Message, Role};
use super::{apply_mask, is_close_code};
use crate::codec::deflate::{Deflate, longest_payload};
use std::fmt;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Turns a peer's bytes into messages: RFC 6455 sections 5 and 8.1, and RFC 7692 section 6.2 where it was agreed on.
///
/// A compressed message is inflated once it is whole, and never beyond the limit.
///
/// The heap it holds is the message under way, grown with the bytes that came and never with what a header claims;
/// between messages it holds none. Beside it, where a read ends within the head of a frame or within a control frame, that has a box
/// of 126 bytes. The work is linear in the bytes, however they are cut into fragments and reads.
pub struct Assembler {
    role: Role,
    max_message: usize,
    state: State,
    /// What has come of a header, then of a control payload: never both. Boxed, since most come whole.
    small: Option<Box<ControlPayload>>,
    partial: Option<Partial>,
    /// Where messages may be compressed.
    deflate: Option<Deflate>,
    /// Nobody wants to know what messages say.
    skips: bool,
}

impl Assembler {
    /// `max_message` is in bytes of payload, all fragments of a message together.
    pub fn new(role: Role, max_message: usize) -> Self {
        Self { role, max_message, state: State::Header, small: None, partial: None, deflate: None, skips: false }
    }

    /// Takes compressed messages, too, from the next frame on: both ends have agreed on it.
    pub fn set_deflate(&mut self, deflate: Deflate) {
        self.deflate = Some(deflate);
    }

    /// From here on only control frames count: compressed messages come out empty, whatever they would be. No rate holds for
    /// what is only dropped, and some ten bytes could ask for work as for a message of the limit.
    pub fn skip_messages(&mut self) {
        self.skips = true;
    }

    /// Changes the limit from the next frame header on.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// The limit in force.
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Consumes from the front of `input` until one message is whole or the input is used up. `Ok(None)` means it is
    /// used up; after `Ok(Some(_))` there may be more in `input`.
    ///
    /// # Errors
    /// What the peer did wrong, as soon as the bytes show it. The assembler stays failed and says so again when called
    /// again; what is left in `input` means nothing then.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        let outcome = self.advance(input);
        if let Err(fault) = outcome {
            self.state = State::Failed(fault);
            self.partial = None;
        }
        outcome
    }

    /// Whether the last byte ended a message and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none() && self.small.is_none() && matches!(self.state, State::Header)
    }

    /// The heap that the message under way holds now, in bytes: at most twice those that came for it, and at most
    /// [`Assembler::max_heap_bytes`].
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.capacity())
    }

    /// What it may become: the limit, or what a compressed message of as many bytes may have.
    pub fn max_heap_bytes(&self) -> usize {
        self.max_payload(self.deflate.is_some())
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        loop {
            let step = match self.state {
                State::Header => self.read_header(input)?,
                State::Data(frame) => self.read_data(frame, input)?,
                State::Control(frame) => self.read_control(frame, input)?,
                State::Failed(fault) => return Err(fault),
            };
            match step {
                Step::Next => {}
                Step::Starved => return Ok(None),
                Step::Whole(message) => return Ok(Some(message)),
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Step, Fault> {
        if self.small.is_none()
            && let Some(size) = header_size(input)
            && let Some((header, rest)) = input.split_at_checked(size)
        {
            *input = rest;
            return self.begin_frame(header);
        }
        if input.is_empty() {
            return Ok(Step::Starved);
        }
        let mut header = self.small.take().unwrap_or_default();
        if header.fill_from(input, 2) {
            // The first two bytes show most faults: there is no reason to wait for the rest.
            self.check_start(header.as_bytes())?;
            let size = header_size(header.as_bytes()).unwrap_or(MAX_CONTROL_PAYLOAD);
            if header.fill_from(input, size) {
                return self.begin_frame(header.as_bytes());
            }
        }
        self.small = Some(header);
        Ok(Step::Starved)
    }

    /// Takes one whole header and nothing else.
    fn begin_frame(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let kind = self.check_start(bytes)?;
        let Ok(Some((header, len))) = FrameHeader::parse(&mut Cursor::new(bytes)) else {
            return Err(Fault::Protocol("the frame header is malformed"));
        };
        if len > i64::MAX as u64 {
            return Err(Fault::Protocol("the top bit of a 64-bit length is set"));
        }
        if header.len(len) != bytes.len() {
            return Err(Fault::Protocol("the length is not in its shortest form"));
        }
        let frame = Frame {
            kind,
            is_final: header.is_final,
            mask: header.mask.unwrap_or_default(),
            remaining: usize::try_from(len).map_err(|_| Fault::TooBig)?,
            is_compressed: header.rsv1 || self.partial.as_ref().is_some_and(|partial| partial.is_compressed),
        };
        self.state = if kind.is_control() {
            State::Control(frame)
        } else {
            self.check_size(&frame)?;
            State::Data(frame)
        };
        Ok(Step::Next)
    }

    /// What the first two bytes of a header must satisfy. Takes at least those.
    fn check_start(&self, header: &[u8]) -> Result<Kind, Fault> {
        let (Some(first), Some(second)) = (header.first(), header.get(1)) else {
            return Err(Fault::Protocol("the frame header is malformed"));
        };
        let kind = Kind::of(OpCode::from(first & 0x0F)).ok_or(Fault::Protocol("the opcode is reserved"))?;
        if first & 0x70 != 0 {
            self.check_reserved(first & 0x70, kind)?;
        }
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(Fault::Protocol("a client's frame must be masked")),
            (Role::Client, true) => return Err(Fault::Protocol("a server's frame must not be masked")),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        if kind.is_control() {
            if first & 0x80 == 0 {
                return Err(Fault::Protocol("a control frame must not be fragmented"));
            }
            if usize::from(second & 0x7F) > MAX_CONTROL_PAYLOAD {
                return Err(Fault::Protocol("a control frame carries at most 125 bytes"));
            }
        } else if kind == Kind::Continuation && self.partial.is_none() {
            return Err(Fault::Protocol("a continuation without a message to continue"));
        } else if kind != Kind::Continuation && self.partial.is_some() {
            return Err(Fault::Protocol("a new message inside a fragmented one"));
        }
        Ok(kind)
    }

    /// What a header with reserved bits must satisfy: RFC 7692 section 6.
    #[cold]
    fn check_reserved(&self, bits: u8, kind: Kind) -> Result<(), Fault> {
        if self.deflate.is_none() {
            return Err(Fault::Protocol("a reserved bit is set, and no extension was negotiated"));
        }
        match kind {
            Kind::Text | Kind::Binary if bits == COMPRESSED => Ok(()),
            Kind::Text | Kind::Binary => Err(Fault::Protocol("a reserved bit is set that no extension has")),
            Kind::Continuation | Kind::Close | Kind::Ping | Kind::Pong => {
                Err(Fault::Protocol("a message is compressed as a whole, and a control frame never"))
            }
        }
    }

    fn check_size(&self, frame: &Frame) -> Result<(), Fault> {
        let held = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        match held.checked_add(frame.remaining) {
            Some(total) if total <= self.max_payload(frame.is_compressed) => Ok(()),
            Some(_) | None => Err(Fault::TooBig),
        }
    }

    fn max_payload(&self, is_compressed: bool) -> usize {
        if is_compressed { longest_payload(self.max_message) } else { self.max_message }
    }

    fn read_data(&mut self, mut frame: Frame, input: &mut &[u8]) -> Result<Step, Fault> {
        if frame.is_final
            && self.partial.is_none()
            && let Some((payload, rest)) = input.split_at_checked(frame.remaining)
        {
            *input = rest;
            self.state = State::Header;
            let mut bytes = payload.to_vec();
            apply_mask(&mut bytes, frame.mask);
            return self.whole_message(frame.kind == Kind::Text, frame.is_compressed, bytes);
        }
        let (chunk, rest) = input.split_at(frame.remaining.min(input.len()));
        *input = rest;
        let max_payload = self.max_payload(frame.is_compressed);
        let partial = self.partial.get_or_insert_with(|| Partial::new(frame.kind == Kind::Text, frame.is_compressed));
        partial.append(chunk, &frame, max_payload)?;
        frame.mask.rotate_left(chunk.len() % 4);
        frame.remaining -= chunk.len();
        if frame.remaining > 0 {
            self.state = State::Data(frame);
            return Ok(Step::Starved);
        }
        self.state = State::Header;
        match self.partial.take_if(|_| frame.is_final) {
            Some(partial) => self.whole_message(partial.is_text, partial.is_compressed, partial.bytes),
            None => Ok(Step::Next),
        }
    }

    fn whole_message(&self, is_text: bool, is_compressed: bool, mut bytes: Vec<u8>) -> Result<Step, Fault> {
        if let Some(deflate) = self.deflate.as_ref().filter(|_| is_compressed) {
            bytes = if self.skips { Vec::new() } else { deflate.inflate(&bytes, self.max_message)? };
        }
        Ok(Step::Whole(if is_text {
            Message::Text(String::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?)
        } else {
            Message::Binary(bytes)
        }))
    }

    fn read_control(&mut self, frame: Frame, input: &mut &[u8]) -> Result<Step, Fault> {
        let (mut begun, mut fresh) = (self.small.take(), ControlPayload::default());
        if !begun.as_deref_mut().unwrap_or(&mut fresh).fill_from(input, frame.remaining) {
            self.small = begun.or_else(|| Some(Box::new(fresh)));
            return Ok(Step::Starved);
        }
        self.state = State::Header;
        let mut payload = begun.map_or(fresh, |begun| *begun);
        apply_mask(payload.as_bytes_mut(), frame.mask);
        match frame.kind {
            Kind::Ping => Ok(Step::Whole(Message::Ping(payload))),
            Kind::Pong => Ok(Step::Whole(Message::Pong(payload))),
            Kind::Close => close_message(payload.as_bytes()),
            Kind::Continuation | Kind::Text | Kind::Binary => Err(Fault::Protocol("the frame header is malformed")),
        }
    }
}

impl fmt::Debug for Assembler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembler")
            .field("role", &self.role)
            .field("max_message", &self.max_message)
            .field("is_idle", &self.is_idle())
            .field("heap_bytes", &self.heap_bytes())
            .finish_non_exhaustive()
    }
}

enum State {
    Header,
    Data(Frame),
    Control(Frame),
    Failed(Fault),
}

enum Step {
    Next,
    Starved,
    Whole(Message),
}

#[derive(Clone, Copy)]
struct Frame {
    kind: Kind,
    is_final: bool,
    /// Turned so that its first byte meets the next byte of the payload; zero where the frame is not masked.
    mask: [u8; 4],
    /// Payload bytes still to come; a control frame's whole payload.
    remaining: usize,
    /// Whether it is of a compressed message.
    is_compressed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn of(opcode: OpCode) -> Option<Self> {
        match opcode {
            OpCode::Data(Data::Continue) => Some(Self::Continuation),
            OpCode::Data(Data::Text) => Some(Self::Text),
            OpCode::Data(Data::Binary) => Some(Self::Binary),
            OpCode::Control(Control::Close) => Some(Self::Close),
            OpCode::Control(Control::Ping) => Some(Self::Ping),
            OpCode::Control(Control::Pong) => Some(Self::Pong),
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => None,
        }
    }

    fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// The message under way.
struct Partial {
    is_text: bool,
    /// The bytes mean nothing before they are inflated.
    is_compressed: bool,
    bytes: Vec<u8>,
    /// How much of `bytes` is known to be UTF-8, where it is text: all but an unfinished character.
    valid: usize,
}

impl Partial {
    fn new(is_text: bool, is_compressed: bool) -> Self {
        Self { is_text, is_compressed, bytes: Vec::new(), valid: 0 }
    }

    fn append(&mut self, chunk: &[u8], frame: &Frame, max_payload: usize) -> Result<(), Fault> {
        self.make_room(chunk.len(), frame, max_payload);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        apply_mask(self.bytes.get_mut(start..).unwrap_or_default(), frame.mask);
        if self.is_text && !self.is_compressed { self.check_text() } else { Ok(()) }
    }

    /// Doubles, so that small chunks stay linear, but never beyond where the message can end.
    fn make_room(&mut self, more: usize, frame: &Frame, max_payload: usize) {
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return;
        }
        let frame_end = self.bytes.len().saturating_add(frame.remaining);
        let end = if frame.is_final { frame_end } else { frame_end.max(max_payload) };
        let capacity = self.bytes.capacity().saturating_mul(2).min(end).max(needed);
        self.bytes.reserve_exact(capacity - self.bytes.len());
    }

    /// Looks at each byte once, and at most three of them again.
    fn check_text(&mut self) -> Result<(), Fault> {
        match std::str::from_utf8(self.bytes.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(Fault::NotUtf8),
        }
        Ok(())
    }
}

/// RFC 6455 section 5.5.1: nothing, or a code and a UTF-8 text.
fn close_message(payload: &[u8]) -> Result<Step, Fault> {
    if payload.is_empty() {
        return Ok(Step::Whole(Message::Close(None, Box::default())));
    }
    let Some((code, text)) = payload.split_first_chunk::<2>() else {
        return Err(Fault::Protocol("a close frame carries no code or all of it"));
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(Fault::Protocol("the close code may not stand on the wire"));
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)?;
    Ok(Step::Whole(Message::Close(Some(code), text.into())))
}

/// The size of the header that starts here, once its first two bytes are there.
fn header_size(bytes: &[u8]) -> Option<usize> {
    let second = bytes.get(1)?;
    let length = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    Some(2 + length + if second & 0x80 != 0 { 4 } else { 0 })
}
