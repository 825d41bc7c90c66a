//! A whole server on smol, spoken to over sockets with the core's client.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smol::channel::Sender;
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{Task, Timer};
use trunkline_core::admission::TrustedProxies;
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::client::{ClientConfig, ClientEvent, Closed, Handle};
use trunkline_core::hub::{Hub, HubConfig, Request, Requests};
use trunkline_core::id::{FrameId, ThreadId, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::protocol::{ClientFrame, Position, ServerFrame};
use trunkline_core::sync::Gate;
use trunkline_core::time::Clock;
use trunkline_smol::{NoWeb, Rewound, SystemClock, SystemEntropy, Web, connect, serve, serve_connection_from};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

struct Server {
    address: SocketAddr,
    keys: Arc<Hs256>,
    hub: Hub,
    stop: Sender<()>,
    serving: Task<io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::with(limits, NoWeb).await
    }

    async fn with(limits: Limits, web: impl Web) -> Self {
        Self::of(HubConfig { limits, ..HubConfig::default() }, web).await
    }

    async fn of(config: HubConfig, web: impl Web) -> Self {
        let keys = Arc::new(Hs256::new(SECRET, ClaimRules::default()).unwrap());
        let clock = Arc::new(SystemClock::new());
        let (hub, housekeeper) = Hub::new(config, keys.clone(), clock, Arc::new(SystemEntropy)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        smol::spawn(agent(hub.requests().unwrap())).detach();
        let shutdown = async move {
            let _ = stopped.recv().await;
        };
        let serving = smol::spawn(serve(listener, hub.clone(), housekeeper, web, shutdown));
        Self { address, keys, hub, stop, serving }
    }

    fn token(&self, user: &str) -> String {
        let user = UserId::new(None, user).unwrap();
        let (issued_at, ttl) = (SystemClock::new().now().unix, Duration::from_secs(60));
        self.keys.issue(&NewToken { user: &user, issued_at, ttl, scope: "", token_id: None }).unwrap()
    }

    /// A client with this token, which asks for all that is kept.
    async fn client(&self, token: String) -> Client {
        let config = ClientConfig {
            host: self.address.to_string(),
            target: "/ws".into(),
            token,
            session: None,
            resume: Some(Position::NONE),
            threads: Vec::new(),
            producer: None,
            name: "test".into(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        Client { handle: connect(stream, config).unwrap() }
    }

    async fn welcomed(&self, user: &str) -> Client {
        let mut client = self.client(self.token(user)).await;
        assert!(matches!(client.next().await, Ok(ClientEvent::Welcome(_))));
        client
    }

    async fn stop(self) -> io::Result<()> {
        self.stop.send(()).await.unwrap();
        self.serving.await
    }
}

/// Thinks, uses a tool, answers in words.
async fn agent(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        let Request::UserMessage(message) = request else { continue };
        let content = message.content().to_owned();
        let run = message.start("echo").unwrap();
        run.thinking("I say it again.").unwrap();
        run.tool("count", &content).unwrap().completed(&content.len()).unwrap();
        for word in content.split_inclusive(' ') {
            run.delta(word).unwrap();
        }
        run.completed(Some(content)).unwrap();
    }
}

struct Client {
    handle: Handle,
}

impl Client {
    async fn next(&mut self) -> Result<ClientEvent, Closed> {
        self.handle.next().await
    }

    fn say(&self, content: &str) {
        let (id, thread_id) = (FrameId::new("1").unwrap(), ThreadId::new("t").unwrap());
        let content = content.to_owned();
        self.handle.send(ClientFrame::UserMessage { id, key: None, thread_id, content, metadata: None }).unwrap();
    }

    /// The events up to the run's end, each as `seq type`.
    async fn run(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            if let ClientEvent::Event(event) = self.next().await.unwrap() {
                let kind = event.body.type_name();
                seen.push(format!("{} {kind}", event.position.seq));
                if kind == "agent_completed" {
                    return seen;
                }
            }
        }
    }

    /// The close frame's code, and whether the end was announced.
    async fn end(&mut self) -> (u16, bool) {
        let mut announced = false;
        loop {
            match self.next().await {
                Ok(ClientEvent::Frame(frame)) => announced |= matches!(*frame, ServerFrame::GoingAway { .. }),
                Ok(ClientEvent::Welcome(_) | ClientEvent::Event(_)) => {}
                Err(end) => return (end.unwrap().0, announced),
            }
        }
    }
}

/// Runs a test, and fails it where it takes longer than anything here may.
fn test(future: impl Future<Output = ()>) {
    smol::block_on(or(future, async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("the test hangs");
    }));
}

#[test]
fn the_golden_path_reaches_both_devices_of_a_user_and_nobody_else() {
    test(async {
        let server = Server::start(Limits::default()).await;
        let (mut phone, mut laptop) = (server.welcomed("ann").await, server.welcomed("ann").await);
        let mut other = server.welcomed("bob").await;
        phone.say("two words");
        let expected = [
            "1 user_message",
            "2 agent_started",
            "3 agent_thinking",
            "4 tool_executing",
            "5 tool_completed",
            "6 agent_delta",
            "7 agent_delta",
            "8 agent_completed",
        ];
        assert_eq!(phone.run().await, expected);
        assert_eq!(laptop.run().await, expected);
        // Whoever comes later gets the same by replay.
        assert_eq!(server.welcomed("ann").await.run().await, expected);
        // What bob sees first is his own.
        other.say("hello");
        assert_eq!(other.run().await.first().map(String::as_str), Some("1 user_message"));
        server.stop().await.unwrap();
    });
}

#[test]
fn a_shutdown_says_so_and_closes_with_1012() {
    test(async {
        let server = Server::start(Limits::default()).await;
        let mut clients = [server.welcomed("ann").await, server.welcomed("bob").await];
        let hub = server.hub.clone();
        let address = server.address;
        let stopping = smol::spawn(server.stop());
        for client in &mut clients {
            assert_eq!(client.end().await, (1012, true));
        }
        stopping.await.unwrap();
        assert!(hub.is_draining());
        // The listener is gone with the server.
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn a_socket_that_never_ends_is_cut_at_the_drain_deadline() {
    test(async {
        let (drain_deadline, close_deadline) = (Duration::from_millis(200), Duration::from_secs(3600));
        let server = Server::start(Limits { drain_deadline, close_deadline, ..Limits::default() }).await;
        // It takes the close frame and does not answer it: only the drain's deadline can end this.
        let mut deaf = TcpStream::connect(server.address).await.unwrap();
        let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: trunkline.v1\r\n\r\n";
        deaf.write_all(upgrade.as_bytes()).await.unwrap();
        let hello = format!(r#"{{"type":"hello","token":"{}"}}"#, server.token("ann"));
        let mut frame = Vec::new();
        let opcode = trunkline_core::codec::frame::Opcode::Text;
        trunkline_core::codec::frame::encode(&mut frame, opcode, hello.as_bytes(), Some([1, 2, 3, 4]));
        deaf.write_all(&frame).await.unwrap();
        while server.hub.counts().connections == 0 {
            Timer::after(Duration::from_millis(1)).await;
        }
        let hub = server.hub.clone();
        server.stop().await.unwrap();
        let mut all = Vec::new();
        // The end may be a reset: what counts is that it comes.
        let _ = deaf.read_to_end(&mut all).await;
        while hub.sockets() > 0 {
            Timer::after(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_request_for_another_path_gets_404() {
    test(async {
        let server = Server::start(Limits::default()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        server.stop().await.unwrap();
    });
}

#[test]
fn a_bad_token_gets_no_welcome() {
    test(async {
        let server = Server::start(Limits::default()).await;
        let mut stranger = server.client("e30.e30.e30".into()).await;
        let end = stranger.next().await.unwrap_err();
        assert_eq!(end.unwrap().0, 4400);
        server.stop().await.unwrap();
    });
}

#[test]
fn a_socket_beyond_the_limit_gets_503() {
    test(async {
        let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
        let _ann = server.welcomed("ann").await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        server.stop().await.unwrap();
    });
}

/// Takes a request, and answers it once the second gate is shut.
#[derive(Clone)]
struct Slow(Gate, Gate);

impl Web for Slow {
    async fn serve<S>(&self, mut stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _asked = self.0.enter();
        std::future::poll_fn(|cx| self.1.poll_empty(cx)).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwhole").await.unwrap();
    }
}

#[test]
fn a_peer_that_has_all_its_sockets_hears_so_and_another_is_served() {
    test(async {
        let server = Server::start(Limits { connections_per_address: 1, ..Limits::default() }).await;
        let _held = server.hub.session_from([192, 0, 2, 1].into()).unwrap();
        for (peer, answer) in [([192, 0, 2, 1], "HTTP/1.1 503 "), ([192, 0, 2, 2], "HTTP/1.1 426 ")] {
            let (mut client, stream) = smol::net::unix::UnixStream::pair().unwrap();
            client.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            serve_connection_from(&server.hub, stream, peer.into()).await;
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with(answer), "{said}");
        }
    });
}

#[test]
fn behind_a_trusted_proxy_each_client_has_sockets_of_its_own() {
    test(async {
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let trusted_proxies = TrustedProxies::new(["127.0.0.0/8"]).unwrap();
        let server = Server::of(HubConfig { limits, trusted_proxies, ..HubConfig::default() }, NoWeb).await;
        let mut held = Vec::new();
        for (client, answer) in [("198.51.100.1", "101"), ("198.51.100.1", "503"), ("198.51.100.2", "101")] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let request = format!(
                "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 X-Forwarded-For: 1.1.1.1, {client}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut said = [0; 12];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(std::str::from_utf8(&said[9..]), Ok(answer), "{client}");
            held.push(stream);
        }
    });
}

#[test]
fn an_exchange_under_way_outlives_the_last_connection() {
    test(async {
        let web = Slow(Gate::new(), Gate::new());
        let server = Server::with(Limits::default(), web.clone()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        while web.0.inside() == 0 {
            Timer::after(Duration::from_millis(1)).await;
        }
        let stopping = smol::spawn(server.stop());
        // Nobody is connected, so that nothing but the exchange keeps the server.
        Timer::after(Duration::from_millis(100)).await;
        assert!(!stopping.is_finished());
        web.1.shut();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nwhole");
        stopping.await.unwrap();
    });
}

#[test]
fn a_socket_without_room_hears_why_although_it_speaks_late() {
    test(async {
        let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
        let _ann = server.welcomed("ann").await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).await.unwrap();
        for _ in 0..10 {
            stream.write_all(&[b'x'; 1_000]).await.unwrap();
            Timer::after(Duration::from_millis(5)).await;
        }
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.expect("no reset");
        assert_eq!(&answer, b"HTTP/1.1 ");
        assert!(rest.starts_with("503 "), "{rest}");
        server.stop().await.unwrap();
    });
}
