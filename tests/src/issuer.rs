//! Whoever signs tokens elsewhere: keys of its own, and the server that gives the public halves away.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A key that signs.
#[derive(Debug)]
pub struct Signer {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// A new key for ES256.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { kid: kid.to_owned(), pair: Pair::Ec(pair) }
    }

    /// A new key for EdDSA.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn ed25519(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: Pair::Ed(Ed25519KeyPair::generate().expect("a key")) }
    }

    /// Its public half, as in a JWKS.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Ec(pair) => {
                // SEC 1 section 2.3.3: 4, then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": text(x), "y": text(y)})
            }
            Pair::Ed(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x})
            }
        }
    }

    /// A token for an hour.
    pub fn token(&self, user: &str) -> String {
        self.token_with(user, &json!({}))
    }

    /// The same, but it says that another key signed it.
    pub fn token_named(&self, kid: &str, user: &str) -> String {
        self.token_with(user, &json!({"kid": kid}))
    }

    /// The same with more in its header.
    ///
    /// # Panics
    /// When the calendar is before 1970.
    pub fn token_with(&self, user: &str, more: &Value) -> String {
        let alg = match self.pair {
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        };
        let mut header = json!({"typ": "JWT", "alg": alg, "kid": self.kid});
        for (name, value) in more.as_object().into_iter().flatten() {
            header[name] = value.clone();
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a calendar after 1970").as_secs();
        let claims = json!({"sub": user, "iat": now, "exp": now + 3600});
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature"),
            Pair::Ed(pair) => pair.sign(message.as_bytes()),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The document with the public halves of these keys.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What a [`KeyServer`] does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200, and this.
    Document(String),
    /// 302, to this address.
    Redirect(String),
    /// 200, and this many bytes, or as many of them as somebody reads.
    Bytes(usize),
    /// 200, and one byte after the other, slowly and for ever.
    Drip,
    /// This, byte for byte.
    Raw(String),
    /// Nothing, ever.
    Silence,
    /// No TLS, no answer: the connection ends.
    Nothing,
}

/// An HTTPS server on this machine, for `localhost`, under an authority of its own. It counts what it is asked.
#[derive(Debug)]
pub struct KeyServer {
    scheme: &'static str,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The certificate of its authority, in PEM.
    pub authority: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    connections: AtomicUsize,
    fetches: AtomicUsize,
    sent: AtomicUsize,
}

impl KeyServer {
    /// Answers with the document of these keys.
    ///
    /// # Panics
    /// When no port is free, or no certificate is made.
    pub async fn start(signers: &[&Signer]) -> Self {
        let (tls, authority) = certificate();
        Self::listen("https", Some(tls), authority, signers).await
    }

    /// The same without TLS.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn plain(signers: &[&Signer]) -> Self {
        Self::listen("http", None, String::new(), signers).await
    }

    async fn listen(scheme: &'static str, tls: Option<TlsAcceptor>, authority: String, signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let answer = Mutex::new(Answer::Document(jwks(signers)));
        let count = || AtomicUsize::new(0);
        let shared = Arc::new(Shared { answer, connections: count(), fetches: count(), sent: count() });
        tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { scheme, addr, authority, shared }
    }

    /// Where its document is.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}/jwks.json", self.scheme, self.addr.port())
    }

    /// From now on it does this.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// From now on it has these keys.
    pub fn rotate(&self, signers: &[&Signer]) {
        self.answer(Answer::Document(jwks(signers)));
    }

    /// How many requests have come.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// How many bytes of [`Answer::Bytes`] somebody has taken.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// How many connections have come, of which each may be a request.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn answer(&self) -> Answer {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// For `localhost`, and the authority it stands on.
fn certificate() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let chain = vec![CertificateDer::from(certificate)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(chain, key).expect("a configuration");
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // Whoever asks may leave in the middle.
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) -> io::Result<()> {
    if matches!(shared.answer(), Answer::Nothing) {
        return Ok(());
    }
    match tls {
        Some(tls) => exchange(tls.accept(stream).await?, &shared).await,
        None => exchange(stream, &shared).await,
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    read_head(&mut stream).await?;
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    match shared.answer() {
        Answer::Document(document) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
            stream.write_all((head + &document).as_bytes()).await?;
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Answer::Bytes(mut left) => {
            // Without a length, so that only reading shows how much it is.
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            while left > 0 {
                let piece = left.min(16 << 10);
                stream.write_all(&vec![b' '; piece]).await?;
                left -= piece;
                shared.sent.fetch_add(piece, Ordering::SeqCst);
            }
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Answer::Raw(answer) => stream.write_all(answer.as_bytes()).await?,
        Answer::Silence => std::future::pending().await,
        Answer::Nothing => {}
    }
    stream.shutdown().await
}

async fn read_head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}
