//! A client's end of a WebSocket by hand, for tests that break it off at any byte.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::wire::{STEP, frame, reset, within};

/// The bytes of a connection, and how far they are understood.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    seen: Vec<u8>,
    at: usize,
}

/// What a server says.
#[derive(Debug)]
pub enum Heard {
    /// A text message.
    Frame(Value),
    /// A close frame with this code.
    Close(u16),
    /// Nothing more: the stream ended, or was reset.
    End,
}

const READ: usize = 16 << 10;

impl Raw {
    /// Connects; with `receive`, to a receive buffer of about so many bytes.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect(addr: SocketAddr, receive: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes).expect("a receive buffer");
        }
        let stream = within("a TCP connection", STEP, socket.connect(addr)).await.expect("the server accepts");
        stream.set_nodelay(true).expect("small frames go out at once");
        Self { stream, seen: Vec::with_capacity(READ), at: 0 }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the connection does not take them.
    pub async fn send(&mut self, bytes: &[u8]) {
        within("bytes to leave", STEP, self.stream.write_all(bytes)).await.expect("the socket takes bytes");
    }

    /// Reads past the head of the upgrade's answer.
    ///
    /// # Panics
    /// When it is no upgrade.
    pub async fn upgraded(&mut self) {
        let end = loop {
            if let Some(at) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(READ).await > 0, "the stream ends before the upgrade's answer");
        };
        assert!(self.seen.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&self.seen));
        self.at = end;
    }

    /// The next message; pings are answered where the server takes it.
    ///
    /// # Panics
    /// When a frame is none that a server sends, or none comes in time.
    pub async fn heard(&mut self) -> Heard {
        loop {
            let Some((opcode, payload)) = self.split() else {
                if self.more(READ).await == 0 {
                    return Heard::End;
                }
                continue;
            };
            match opcode {
                0x81 => return Heard::Frame(serde_json::from_slice(&payload).expect("a frame is JSON")),
                0x88 => return Heard::Close(u16::from_be_bytes([payload[0], payload[1]])),
                0x89 => drop(self.stream.write_all(&frame(0x8a, &payload, Some([1, 2, 3, 4]))).await),
                0x8a => {}
                other => panic!("the server sent a frame that begins with {other:#x}"),
            }
        }
    }

    /// Reads at most `max` bytes that are understood later, if ever; 0 is the end.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn more(&mut self, max: usize) -> usize {
        self.seen.drain(..std::mem::take(&mut self.at));
        self.seen.reserve(max);
        let mut some = (&mut self.stream).take(max as u64);
        let read = within("bytes of the server", STEP, some.read_buf(&mut self.seen)).await;
        // A reset is an end too.
        read.unwrap_or(0)
    }

    /// Whether a message is here in part: whoever goes now breaks off a message of the server.
    pub fn is_inside_a_message(&self) -> bool {
        self.at < self.seen.len()
    }

    /// Ends the sending side, then the whole socket.
    pub async fn fin(mut self) {
        // The peer may be gone: there is nobody to tell.
        let _ = self.stream.shutdown().await;
    }

    /// Breaks the connection off by a reset.
    pub fn reset(self) {
        reset(self.stream);
    }

    fn split(&mut self) -> Option<(u8, Vec<u8>)> {
        let split = split_frame(&self.seen[self.at..]).unwrap_or_else(|problem| panic!("{problem}"));
        let (first, payload, used) = split?;
        self.at += used;
        Some((first, payload))
    }
}

/// The first byte and the payload of a server's frame that is here whole, and how many bytes it takes.
///
/// # Errors
/// When no server sends such a frame: it is masked.
pub fn split_frame(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, String> {
    Ok(whole_frame(bytes)?.map(|(first, payload, used)| (first, payload.to_vec(), used)))
}

/// A frame's first byte, its payload, and how many bytes it takes.
pub type WholeFrame<'a> = (u8, &'a [u8], usize);

/// The same, and the payload stays where it is.
///
/// # Errors
/// As [`split_frame`].
pub fn whole_frame(bytes: &[u8]) -> Result<Option<WholeFrame<'_>>, String> {
    let (Some(&first), Some(&second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    if second >= 0x80 {
        return Err("the server masks a frame".to_owned());
    }
    let (head, length) = match second {
        126 => (4, bytes.get(2..4).and_then(|two| Some(u64::from(u16::from_be_bytes(two.try_into().ok()?))))),
        127 => (10, bytes.get(2..10).and_then(|eight| Some(u64::from_be_bytes(eight.try_into().ok()?)))),
        short => (2, Some(u64::from(short))),
    };
    let Some(end) = length.and_then(|length| usize::try_from(length).ok()?.checked_add(head)) else { return Ok(None) };
    Ok(bytes.get(head..end).map(|payload| (first, payload, end)))
}
