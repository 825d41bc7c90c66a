//! Any futures-io stream as the core's transport, and a stream that yields bytes read before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};
use trunkline_core::drive::Transport;
use trunkline_core::serve::Unread;

/// A futures-io stream for the core's loop.
#[derive(Debug)]
pub struct SmolTransport<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for SmolTransport<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A stream whose first bytes were read already: it yields them again, then the rest. `Debug` shows
/// how many they are: a request may carry a token.
#[derive(Debug)]
pub struct Rewound<S> {
    pub(crate) head: Unread,
    pub(crate) stream: S,
}

impl<S> Rewound<S> {
    /// `head`, then what `stream` has.
    pub const fn new(head: Vec<u8>, stream: S) -> Self {
        Self { head: Unread::new(head), stream }
    }

    /// The stream itself.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        Poll::Ready(Ok(self.head.take(buf)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use smol::io::AsyncReadExt;

    use super::*;

    #[test]
    fn the_bytes_read_before_come_first_whatever_the_buffer() {
        for size in [1, 4, 6, 64] {
            let mut rewound = Rewound::new(b"GET / ".to_vec(), &b"HTTP/1.1"[..]);
            assert!(!format!("{rewound:?}").contains("71, 69, 84") && !format!("{rewound:?}").contains("GET"));
            let mut all = Vec::new();
            let mut buf = vec![0; size];
            loop {
                let n = smol::block_on(rewound.read(&mut buf)).unwrap();
                if n == 0 {
                    break;
                }
                all.extend_from_slice(&buf[..n]);
            }
            assert_eq!(all, b"GET / HTTP/1.1");
        }
    }
}
