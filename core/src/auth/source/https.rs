//! Keys from an address: which of a name's addresses are tried and when, and the one request on the connection.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::{FetchError, KeyUrl};
use crate::auth::MAX_JWKS_BYTES;
use crate::codec::response::ResponseReader;
use crate::drive::{Transport, write_all};

/// How long it may take from the name to a connection, its certificate checked.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How much later each further address of a name is tried beside those before it. RFC 8305 section 5.
pub const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How many addresses of a name are tried.
pub const MAX_ADDRESSES: usize = 8;
/// An answer's line and headers, and those of a trailer, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// How much is read at once.
const READ_BYTES: usize = 8 << 10;

impl KeyUrl {
    /// The first connection to one of the name's addresses. `connect` waits for so long, and then tries one of them; attempts that
    /// still run then are dropped. Give it [`CONNECT_DEADLINE`].
    ///
    /// # Errors
    /// When all attempts have failed: as the last of them. When there is no address that keys may come from.
    pub async fn dial<S, F: Future<Output = io::Result<S>>>(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
        mut connect: impl FnMut(Duration, SocketAddr) -> F,
    ) -> io::Result<S> {
        let may_be = addresses.into_iter().filter(|address| self.may_be(*address)).take(MAX_ADDRESSES);
        let waits = std::iter::successors(Some(Duration::ZERO), |wait| Some(wait.saturating_add(NEXT_ADDRESS)));
        let mut dialling: Vec<_> = waits.zip(may_be).map(|(wait, address)| Box::pin(connect(wait, address))).collect();
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        poll_fn(|cx| {
            let mut index = 0;
            while let Some(attempt) = dialling.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        failed = error;
                        drop(dialling.remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            if !dialling.is_empty() {
                return Poll::Pending;
            }
            Poll::Ready(Err(std::mem::replace(&mut failed, io::ErrorKind::NotFound.into())))
        })
        .await
    }

    /// Asks for the document on a connection of its own. No redirect is followed, and an answer is read only as far as a key set may
    /// be long. It ends no sooner than the server answers: give it a deadline, as [`Keeper`](super::Keeper) does.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not 200 with a whole document.
    pub async fn get<T: Transport + Unpin>(&self, mut transport: T) -> Result<Vec<u8>, FetchError> {
        write_all(&mut transport, self.request().as_bytes()).await.map_err(|error| FetchError::of(&error))?;
        let mut reader = ResponseReader::new(MAX_HEAD_BYTES, MAX_JWKS_BYTES);
        let mut buf = vec![0; READ_BYTES];
        loop {
            let read = poll_fn(|cx| Pin::new(&mut transport).poll_read(cx, &mut buf)).await;
            let outcome = match read.map_err(|error| FetchError::of(&error))? {
                0 => reader.handle_eof().map(Some),
                n => reader.handle_bytes(buf.get(..n).unwrap_or_default()),
            };
            if let Some(document) = outcome.map_err(|error| FetchError::of(&error))? {
                return Ok(document);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// What a future that waits for nothing comes to.
    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// A server that has answered already.
    struct Answered {
        asked: Vec<u8>,
        answer: Vec<u8>,
        piece: usize,
        /// At the end of the answer; else the connection ends well.
        broken: bool,
        read: usize,
    }

    impl Transport for &mut Answered {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            let n = self.piece.min(buf.len()).min(self.answer.len() - self.read);
            if n == 0 && self.broken {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            buf[..n].copy_from_slice(&self.answer[self.read..][..n]);
            self.read += n;
            Poll::Ready(Ok(n))
        }

        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let n = self.piece.min(bytes.len());
            self.asked.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn get(answer: &str, piece: usize, broken: bool) -> (Result<Vec<u8>, String>, Answered) {
        let answer = answer.as_bytes().to_vec();
        let mut server = Answered { asked: Vec::new(), answer, piece, broken, read: 0 };
        let url = KeyUrl::parse("https://login.example/jwks.json").unwrap();
        let got = now(url.get(&mut server)).expect("nothing is waited for");
        (got.map_err(|error| error.to_string()), server)
    }

    #[test]
    fn one_request_is_made_and_its_document_is_taken() {
        for piece in [1, 10, usize::MAX] {
            let (got, server) = get("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}", piece, true);
            assert_eq!(got.as_deref(), Ok(&b"{\"keys\":[]}"[..]));
            let asked = String::from_utf8(server.asked).unwrap();
            assert!(asked.starts_with("GET /jwks.json HTTP/1.1\r\nHost: login.example\r\n"), "{asked}");
        }
    }

    #[test]
    fn a_connection_that_breaks_ends_no_document() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n{}";
        assert_eq!(get(answer, 3, false).0.as_deref(), Ok(&b"{}"[..]));
        get(answer, 3, true).0.expect_err("it may go on");
    }

    #[test]
    fn an_answer_is_read_only_as_far_as_a_key_set_may_be_long() {
        let answer = |length: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(length));
        assert_eq!(get(&answer(MAX_JWKS_BYTES), usize::MAX, false).0.unwrap().len(), MAX_JWKS_BYTES);
        let (got, server) = get(&answer(MAX_JWKS_BYTES * 4), usize::MAX, false);
        assert_eq!(got, Err(format!("answers more than {MAX_JWKS_BYTES} bytes")));
        assert!(server.read < MAX_JWKS_BYTES + 2 * READ_BYTES, "{} bytes", server.read);
        let (got, server) = get("HTTP/1.1 302 Found\r\nLocation: https://other.example/\r\n\r\n", usize::MAX, false);
        assert_eq!(got, Err("answers 302".to_owned()));
        assert_eq!(String::from_utf8(server.asked).unwrap().matches("GET").count(), 1);
    }

    fn dial(
        url: &str,
        addresses: &[&str],
        connects: impl Fn(&str) -> io::Result<u8>,
    ) -> (io::Result<u8>, Vec<Duration>) {
        let tried = RefCell::new(Vec::new());
        let parsed = addresses.iter().map(|address| address.parse().unwrap());
        let url = KeyUrl::parse(url).unwrap();
        let dialled = now(url.dial(parsed, |wait, address: SocketAddr| {
            tried.borrow_mut().push(wait);
            ready(connects(&address.to_string()))
        }));
        let dialled = dialled.expect("nothing is waited for");
        (dialled, tried.into_inner())
    }

    #[test]
    fn addresses_are_tried_one_beside_the_other_until_one_answers() {
        let refuse = |_: &str| Err(io::ErrorKind::ConnectionRefused.into());
        let addresses: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}:443")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let url = "https://login.example/";
        let (dialled, waits) = dial(url, &addresses, refuse);
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let expected: Vec<Duration> = (0..8).map(|n| NEXT_ADDRESS * n).collect();
        assert_eq!((waits, MAX_ADDRESSES), (expected, 8));
        let third = |address: &str| if address == addresses[2] { Ok(3) } else { refuse(address) };
        assert_eq!(dial(url, &addresses, third).0.unwrap(), 3);
        let (dialled, waits) = dial(url, &[], refuse);
        assert_eq!((dialled.unwrap_err().kind(), waits.len()), (io::ErrorKind::NotFound, 0));
    }

    #[test]
    fn without_tls_no_other_machine_is_tried() {
        let (dialled, waits) = dial("http://localhost/", &["192.0.2.1:80", "[::1]:80", "127.0.0.1:80"], |_| Ok(1));
        assert_eq!((dialled.unwrap(), waits), (1, vec![Duration::ZERO, NEXT_ADDRESS]));
        assert!(dial("http://localhost/", &["192.0.2.1:80"], |_| Ok(1)).0.is_err());
        assert_eq!(dial("https://localhost/", &["192.0.2.1:443"], |_| Ok(1)).0.unwrap(), 1);
    }

    #[test]
    fn an_address_that_never_answers_holds_up_no_other() {
        let url = KeyUrl::parse("https://login.example/").unwrap();
        let addresses = ["192.0.2.1:443", "192.0.2.2:443"].map(|address| address.parse().unwrap());
        let first = addresses[0];
        let dialled = url.dial(addresses, |_, address| async move {
            if address == first { std::future::pending().await } else { Ok(2) }
        });
        assert_eq!(now(dialled).unwrap().unwrap(), 2);
    }
}
