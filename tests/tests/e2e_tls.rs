//! TLS on both adapters, spoken to by rustls over plain blocking sockets.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use trunkline_core::auth::{ClaimRules, Hs256};
use trunkline_core::hub::{Hub, HubConfig};
use trunkline_core::id::UserId;
use trunkline_core::limits::Limits;
use trunkline_core::tls::{Certificates, TlsError};
use trunkline_tests::server::{SECRET, token};
use trunkline_tests::wire::text_frame;

/// How long anything here may take; everything takes far less.
const STEP: Duration = Duration::from_secs(30);
/// How often these servers look at their files.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Tokio,
    Smol,
}

const BOTH: [Adapter; 2] = [Adapter::Tokio, Adapter::Smol];

type Reports = Arc<Mutex<Vec<Result<(), TlsError>>>>;

/// A server on a thread of its own, stopped when dropped.
struct Server {
    addr: SocketAddr,
    hub: Hub,
    dir: PathBuf,
    reports: Reports,
    stop: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(adapter: Adapter, name: &str, limits: Limits) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{name}-{adapter:?}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        pair("first").write(&dir);
        let (files, reports) = ((dir.join("cert.pem"), dir.join("key.pem")), Reports::default());
        let verifier = Arc::new(Hs256::new(SECRET, ClaimRules::default()).unwrap());
        let config = HubConfig { limits, ..HubConfig::default() };
        let clock = Arc::new(trunkline_tokio::SystemClock::new());
        let (hub, keeper) = Hub::new(config, verifier, clock, Arc::new(trunkline_tokio::SystemEntropy)).unwrap();
        let (said, heard) = mpsc::channel();
        let (served, kept) = (hub.clone(), Arc::clone(&reports));
        let thread = std::thread::spawn(move || match adapter {
            Adapter::Tokio => tokio_server(files, served, keeper, kept, &said),
            Adapter::Smol => smol_server(files, served, keeper, kept, &said),
        });
        let (addr, stop) = heard.recv_timeout(STEP).expect("the server listens");
        Self { addr, hub, dir, reports, stop: Some(stop), thread: Some(thread) }
    }

    fn tls(&self) -> Tls {
        self.tls_by(&[&TLS13, &TLS12])
    }

    fn tls_by(&self, versions: &[&'static SupportedProtocolVersion]) -> Tls {
        Tls::connect(self.addr, versions).expect("a handshake")
    }

    /// The name in the certificate that a new handshake sees.
    fn shown(&self) -> CertificateDer<'static> {
        let tls = self.tls();
        tls.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    fn empties(&self) {
        until("all sockets are gone", || self.hub.sockets() == 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

type Said = mpsc::Sender<(SocketAddr, Box<dyn FnOnce() + Send>)>;
type Keeper = trunkline_core::hub::Housekeeper;

fn tokio_server(files: (PathBuf, PathBuf), hub: Hub, keeper: Keeper, reports: Reports, said: &Said) {
    use trunkline_tokio::tls::{CertificateFiles, TlsListener};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let files = CertificateFiles::load(files.0, files.1).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = TlsListener::new(listener, files.certificates()).unwrap();
        tokio::spawn(files.watch(LOOK, move |report| reports.lock().unwrap().push(report)));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        said.send((addr, Box::new(move || drop(stop)))).unwrap();
        let stopped = async { drop(stopped.await) };
        trunkline_tokio::serve(listener, hub, keeper, trunkline_tokio::NoWeb, stopped).await.unwrap();
    });
    runtime.shutdown_background();
}

fn smol_server(files: (PathBuf, PathBuf), hub: Hub, keeper: Keeper, reports: Reports, said: &Said) {
    use trunkline_smol::tls::{CertificateFiles, TlsListener};
    smol::block_on(async {
        let files = CertificateFiles::load(files.0, files.1).await.unwrap();
        let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = TlsListener::new(listener, files.certificates()).unwrap();
        let _watch = smol::spawn(files.watch(LOOK, move |report| reports.lock().unwrap().push(report)));
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        said.send((addr, Box::new(move || drop(stop)))).unwrap();
        let stopped = async {
            let _ = stopped.recv().await;
        };
        trunkline_smol::serve(listener, hub, keeper, trunkline_smol::NoWeb, stopped).await.unwrap();
    });
}

struct Pair {
    certificate: String,
    key: String,
}

fn pair(name: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), name.to_owned()]).unwrap();
    Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Pair {
    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("cert.pem"), &self.certificate).unwrap();
        std::fs::write(dir.join("key.pem"), &self.key).unwrap();
    }

    fn der(&self) -> CertificateDer<'static> {
        use rustls::pki_types::pem::PemObject as _;
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// Trusts whatever the server shows: which certificate that is, is what these tests look at.
#[derive(Debug)]
struct Anything(rustls::crypto::CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client that has shaken hands, and what it has read beyond what was asked for.
struct Tls {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

fn session(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> ClientConnection {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config =
        ClientConfig::builder_with_provider(Arc::new(provider.clone())).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Anything(provider)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(STEP)).unwrap();
    stream.set_write_timeout(Some(STEP)).unwrap();
    stream
}

impl Tls {
    fn connect(addr: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> io::Result<Self> {
        let mut stream = StreamOwned::new(session(versions, &[b"h2", b"http/1.1"]), tcp(addr));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// One frame of the server's: opcode and payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.exactly(2);
        let length = match head[1] {
            126 => self.exactly(2).iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
            127 => self.exactly(8).iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
            short => short.into(),
        };
        (head[0] & 15, self.exactly(length))
    }

    /// The next text that holds this one.
    fn text(&mut self, wanted: &str) -> String {
        loop {
            let (opcode, payload) = self.frame();
            let text = String::from_utf8_lossy(&payload).into_owned();
            assert_eq!(opcode, 1, "waiting for {wanted}: {text}");
            if text.contains(wanted) {
                return text;
            }
        }
    }

    /// Upgrades with this origin, and answers the status.
    fn upgrade(&mut self, host: &str, origin: Option<&str>) -> String {
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{origin}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: trunkline.v1\r\n\r\n"
        );
        self.send(request.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.exactly(1));
        }
        String::from_utf8(head).unwrap()[9..12].to_owned()
    }

    fn join(&mut self, user: &str) {
        assert_eq!(self.upgrade("localhost", None), "101");
        self.send(&text_frame(&format!(r#"{{"type":"hello","token":"{}"}}"#, token(user))));
        self.text(r#""type":"welcome""#);
    }

    fn ping(&mut self) {
        self.send(&text_frame(r#"{"type":"ping","id":"p"}"#));
        self.text(r#""pong""#);
    }

    /// Everything up to the end, which must be announced: without a `close_notify` it is an error.
    fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.stream.read_to_end(&mut all).expect("an end that nobody can have cut off");
        all
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < STEP, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_versions_of_tls_carry_a_conversation_to_its_announced_end() {
    for adapter in BOTH {
        let server = Server::start(adapter, "golden", Limits::default());
        for version in [&TLS13, &TLS12] {
            let mut tls = server.tls_by(&[version]);
            assert_eq!(tls.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]), "{adapter:?}");
            assert_eq!(tls.stream.conn.protocol_version(), Some(version.version));
            tls.join("ann");
            tls.ping();
            // Close 1000, masked with zeros.
            tls.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
            let rest = tls.rest();
            assert!(rest.starts_with(&[0x88]), "{adapter:?}: {rest:?}");
        }
        server.empties();
    }
}

#[test]
fn certificates_are_replaced_under_those_who_are_connected_and_never_by_bad_ones() {
    for adapter in BOTH {
        let server = Server::start(adapter, "rotation", Limits::default());
        let mut old = server.tls();
        old.join("ann");
        let first = server.shown();
        let second = pair("second");
        second.write(&server.dir);
        until("the second certificate is shown", || server.shown() == second.der());
        assert_ne!(first, second.der());
        old.ping();

        let reports = |n: usize| {
            until("a report", || server.reports.lock().unwrap().len() >= n);
            server.reports.lock().unwrap()[n - 1].clone()
        };
        assert_eq!(reports(1), Ok(()), "{adapter:?}");
        let third = pair("third");
        // Half of a file, the key of another, and no file at all.
        std::fs::write(server.dir.join("cert.pem"), &third.certificate[..third.certificate.len() / 2]).unwrap();
        assert!(matches!(reports(2), Err(TlsError::Certificates(_))), "{adapter:?}");
        std::fs::write(server.dir.join("cert.pem"), &third.certificate).unwrap();
        assert_eq!(reports(3), Err(TlsError::Mismatch), "{adapter:?}");
        std::fs::remove_file(server.dir.join("key.pem")).unwrap();
        assert!(matches!(reports(4), Err(TlsError::File(_))), "{adapter:?}");
        assert_eq!(server.shown(), second.der(), "{adapter:?}");
        third.write(&server.dir);
        until("the third certificate is shown", || server.shown() == third.der());
        old.ping();
        // Each fault was told once.
        until("the last report", || server.reports.lock().unwrap().len() >= 5);
        assert_eq!(server.reports.lock().unwrap().last(), Some(&Ok(())), "{adapter:?}");
    }
}

#[test]
fn a_file_that_is_no_pair_starts_no_server() {
    let (one, other) = (pair("one"), pair("other"));
    let refused = Certificates::new(one.certificate.as_bytes(), other.key.as_bytes());
    assert_eq!(refused.map(drop), Err(TlsError::Mismatch));
}

#[test]
fn a_peer_that_speaks_no_tls_gets_no_answer_and_keeps_no_socket() {
    for adapter in BOTH {
        let server = Server::start(adapter, "plain", Limits::default());
        let mut plain = tcp(server.addr);
        plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut said = Vec::new();
        // The end may be a reset.
        let _ = plain.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP"), "{adapter:?}: {said:?}");
        // Somebody who only speaks another protocol within TLS.
        let mut other = StreamOwned::new(session(&[&TLS13], &[b"h2"]), tcp(server.addr));
        assert!(other.conn.complete_io(&mut other.sock).is_err(), "{adapter:?}");
        server.empties();
        server.tls().join("ann");
    }
}

#[test]
fn a_silent_peer_and_one_that_drips_its_hello_are_gone_at_the_handshake_deadline() {
    for adapter in BOTH {
        let limits = Limits { handshake_deadline: Duration::from_millis(500), ..Limits::default() };
        let server = Server::start(adapter, "silent", limits);
        let started = Instant::now();
        let mut silent = tcp(server.addr);
        let mut dripping = tcp(server.addr);
        let mut hello = Vec::new();
        session(&[&TLS13], &[b"http/1.1"]).write_tls(&mut hello).unwrap();
        until("both are admitted", || server.hub.unauthenticated() == 2);
        // It has shaken hands, and then says nothing.
        let mut quiet = server.tls();
        let mut dripped = 0;
        for byte in &hello[..hello.len() - 1] {
            if dripping.write_all(&[*byte]).is_err() {
                break;
            }
            dripped += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(dripped < hello.len() - 1, "{adapter:?}: it was let drip for {:?}", started.elapsed());
        assert!(matches!(silent.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(quiet.stream.read(&mut [0; 1]).map_or(true, |n| n == 0 || n == 1));
        server.empties();
        assert!(started.elapsed() >= Duration::from_millis(500));
    }
}

#[test]
fn a_peer_without_room_is_closed_before_any_handshake() {
    for adapter in BOTH {
        let server = Server::start(adapter, "room", Limits { connections: 1, ..Limits::default() });
        let mut first = server.tls();
        first.join("ann");
        let second = Tls::connect(server.addr, &[&TLS13]);
        let kind = second.map(drop).unwrap_err().kind();
        let ends =
            [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
        assert!(ends.contains(&kind), "{adapter:?}: {kind:?}");
        first.ping();
    }
}

#[test]
fn large_frames_arrive_whole_at_a_peer_that_reads_late() {
    for adapter in BOTH {
        let server = Server::start(adapter, "large", Limits::default());
        let mut tls = server.tls();
        tls.join("ann");
        let ann = UserId::new(None, "ann").unwrap();
        // More than the sockets and TLS hold together, so that the last bytes wait for the peer.
        let data = "x".repeat(60_000);
        for n in 0..16 {
            server.hub.publish(&ann, None, "large", &format!("{n}{data}")).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        for n in 0..16 {
            assert!(tls.text(&format!("\"{n}xxx")).contains(&data), "{adapter:?} {n}");
        }
        // The other way, in one message as long as may be.
        let message = format!(
            r#"{{"type":"user_message","id":"1","thread_id":"t","content":"{}"}}"#,
            "y".repeat(Limits::default().message_bytes - 100)
        );
        tls.send(&text_frame(&message));
        tls.text(r#""id":"1""#);
    }
}

#[test]
fn a_peer_that_has_ended_its_side_still_hears_the_answer() {
    for adapter in BOTH {
        let server = Server::start(adapter, "half", Limits::default());
        for version in [&TLS13, &TLS12] {
            let mut tls = server.tls_by(&[version]);
            tls.send(b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n");
            tls.stream.conn.send_close_notify();
            tls.stream.flush().unwrap();
            let answer = tls.rest();
            assert!(answer.starts_with(b"HTTP/1.1 404 ") && answer.ends_with(b"\n"), "{adapter:?} {answer:?}");
        }
        server.empties();
    }
}

#[test]
fn the_servers_own_page_is_one_of_https() {
    for adapter in BOTH {
        let server = Server::start(adapter, "origin", Limits::default());
        let host = format!("localhost:{}", server.addr.port());
        for (scheme, status) in [("https", "101"), ("http", "403")] {
            let origin = format!("{scheme}://{host}");
            assert_eq!(server.tls().upgrade(&host, Some(&origin)), status, "{adapter:?} {scheme}");
        }
    }
}
