//! A server that is broken on purpose: a sound one behind a line that changes one thing. What it breaks, some scenario must see.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::raw::split_frame;
use crate::wire::frame;

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the line alone changes nothing.
    None,
    /// The second event of every connection does not come.
    DropsAnEvent,
    /// The second event of every connection comes twice.
    DoublesAnEvent,
    /// Two neighbouring events change places.
    SwapsTwoEvents,
    /// An event of another user comes in.
    SendsAForeignEvent,
    /// Events name another user.
    NamesAnotherUser,
    /// Every close says 1000.
    ClosesWith1000,
    /// The answer to an upgrade names the token that was offered.
    EchoesTheToken,
    /// A frame comes before the welcome.
    SpeaksBeforeTheWelcome,
    /// A ping of the application is not answered.
    AnswersNoPing,
    /// The socket stays open after the close.
    StaysAfterTheClose,
    /// A reply says that all went well.
    AlwaysSaysOk,
    /// Frames of text say where they stand in another text.
    ShiftsOffsets,
    /// HTTP refusals have another status.
    RefusesWith500,
    /// Server frames are masked.
    Masks,
    /// A close comes without a code.
    ClosesWithoutACode,
}

impl Fault {
    /// All that are faults.
    pub const ALL: [Self; 15] = [
        Self::DropsAnEvent,
        Self::DoublesAnEvent,
        Self::SwapsTwoEvents,
        Self::SendsAForeignEvent,
        Self::NamesAnotherUser,
        Self::ClosesWith1000,
        Self::EchoesTheToken,
        Self::SpeaksBeforeTheWelcome,
        Self::AnswersNoPing,
        Self::StaysAfterTheClose,
        Self::AlwaysSaysOk,
        Self::ShiftsOffsets,
        Self::RefusesWith500,
        Self::Masks,
        Self::ClosesWithoutACode,
    ];
}

/// Puts a fault before a server, and answers where it is then.
///
/// # Panics
/// When no port is free.
pub async fn break_server(server: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, server, fault));
        }
    });
    addr
}

async fn carry(client: TcpStream, server: SocketAddr, fault: Fault) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    // The request's head is looked at for the token that it offers.
    let mut request = vec![0; 16 << 10];
    let Ok(read) = from_client.read(&mut request).await else { return };
    request.truncate(read);
    let up = async {
        to_server.write_all(&request).await?;
        tokio::io::copy(&mut from_client, &mut to_server).await
    };
    let down = async {
        let mut line = Line::new(fault, &request);
        let mut some = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut some).await {
            let changed = line.take(some.get(..read).unwrap_or_default());
            if to_client.write_all(&changed).await.is_err() {
                return;
            }
        }
        if fault == Fault::StaysAfterTheClose {
            std::future::pending::<()>().await;
        }
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = down => {}
        _ = async { let _ = up.await; std::future::pending::<()>().await } => {}
    }
}

/// What comes from the server of one connection.
struct Line {
    fault: Fault,
    token: String,
    seen: Vec<u8>,
    framed: bool,
    events: usize,
    held: Option<Vec<u8>>,
}

impl Line {
    fn new(fault: Fault, request: &[u8]) -> Self {
        let request = String::from_utf8_lossy(request);
        let token = request.split("bearer.").nth(1).and_then(|rest| rest.split("\r\n").next());
        let token = token.unwrap_or_default().to_owned();
        Self { fault, token, seen: Vec::new(), framed: false, events: 0, held: None }
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.seen.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.framed {
            let Some(end) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") else { return out };
            let head: Vec<u8> = self.seen.drain(..end + 4).collect();
            self.framed = head.starts_with(b"HTTP/1.1 101");
            out.extend(self.head(head));
            if !self.framed {
                out.append(&mut self.seen);
                return out;
            }
        }
        while let Ok(Some((first, payload, used))) = split_frame(&self.seen) {
            self.seen.drain(..used);
            self.frame(first, &payload, &mut out);
        }
        out
    }

    fn head(&self, head: Vec<u8>) -> Vec<u8> {
        let text = String::from_utf8_lossy(&head).into_owned();
        if self.fault == Fault::EchoesTheToken && self.framed && !self.token.is_empty() {
            return text.replace("Protocol: trunkline.v1", &format!("Protocol: bearer.{}", self.token)).into_bytes();
        }
        if self.fault == Fault::RefusesWith500 && !self.framed {
            return format!("HTTP/1.1 500 {}", text.get(13..).unwrap_or_default()).into_bytes();
        }
        if self.fault == Fault::SpeaksBeforeTheWelcome && self.framed {
            return [&head[..], &frame(0x81, br#"{"type":"pong"}"#, None)].concat();
        }
        head
    }

    fn frame(&mut self, first: u8, payload: &[u8], out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(payload).into_owned();
        let event = first == 0x81 && is_event(&text);
        self.events += usize::from(event);
        let fault = self.fault;
        let (second, close) = (event && self.events == 2, first == 0x88);
        let (asked, refused, piece) = (r#""type":"pong""#, r#""ok":false"#, r#""offset":"#);
        let whole = frame(first, payload, None);
        let say = |text: &str| frame(0x81, text.as_bytes(), None);
        let named = |name: &str| say(&text.replace("\"user_id\":\"", &format!("\"user_id\":\"{name}")));
        out.extend(if fault == Fault::SwapsTwoEvents && second {
            self.held = Some(whole);
            return;
        } else if (fault == Fault::DropsAnEvent && second) || (fault == Fault::AnswersNoPing && text.contains(asked)) {
            Vec::new()
        } else if fault == Fault::DoublesAnEvent && second {
            [&whole[..], &whole].concat()
        } else if fault == Fault::SendsAForeignEvent && second {
            [whole, named("mallory-")].concat()
        } else if fault == Fault::NamesAnotherUser && event {
            named("x")
        } else if fault == Fault::ClosesWith1000 && close {
            frame(first, &1000_u16.to_be_bytes(), None)
        } else if fault == Fault::ClosesWithoutACode && close {
            frame(first, &[], None)
        } else if fault == Fault::AlwaysSaysOk && text.contains(refused) {
            say(&text.replace(refused, r#""ok":true"#))
        } else if fault == Fault::ShiftsOffsets && text.contains(piece) {
            say(&text.replace(piece, r#""offset":1"#))
        } else if fault == Fault::Masks && first == 0x81 {
            frame(first, payload, Some([1, 2, 3, 4]))
        } else {
            whole
        });
        out.extend(self.held.take().unwrap_or_default());
    }
}

fn is_event(text: &str) -> bool {
    let others = [r#"{"type":"welcome""#, r#"{"type":"reply""#, r#"{"type":"snapshot""#];
    text.contains("\"event_id\"") && !others.iter().any(|other| text.starts_with(other))
}
