//! From a name to a welcome.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::codec::upgrade::client_request;
use trunkline_core::id::UserId;
use trunkline_core::limits::Limits;
use trunkline_core::protocol::Position;
use trunkline_core::time::UnixTime;

use super::clock::Clock;
use super::link::{Ending, Reader, Scratch, scratch};
use super::marker::shown;

/// How long one connect may take, from the first packet to the welcome.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a run.
const TOKEN_LIFE: Duration = Duration::from_secs(86_400);
/// One address of this machine has some 28,000 ports for connections to one server.
const PORTS_OF_AN_ADDRESS: u32 = 20_000;
/// The answer to an upgrade has some 200 bytes.
const HEAD: usize = 4 << 10;

/// The server, and the way in.
pub(super) struct Target {
    addr: SocketAddr,
    host: String,
    keys: Hs256,
    limits: Limits,
    scratch: Scratch,
    clock: Clock,
    dialed: Cell<u32>,
}

/// Who comes in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user: String,
    token: String,
    /// The first frame.
    pub(super) hello: String,
    /// Takes little into its receive buffer.
    pub(super) narrow: bool,
}

/// A connection that is in.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub(super) reader: Reader,
    welcome: Value,
    /// Messages that came in the same read as the welcome, and when.
    pub(super) early: Vec<(Vec<u8>, u64)>,
}

impl Target {
    pub(super) fn new(addr: SocketAddr, host: String, secret: &[u8], clock: Clock) -> Result<Self, String> {
        let keys = Hs256::new(secret, ClaimRules::default()).map_err(|error| format!("--secret-file: {error}"))?;
        Ok(Self { addr, host, keys, limits: Limits::default(), scratch: scratch(), clock, dialed: Cell::new(0) })
    }

    /// Somebody with a token of its own, who may publish and read every topic.
    pub(super) fn caller(&self, user: String, hello: &Value) -> Result<Caller, String> {
        let id = UserId::new(None, &user).map_err(|error| error.to_string())?;
        let since = SystemTime::UNIX_EPOCH.elapsed().map_err(|error| error.to_string())?;
        let issued_at = UnixTime::from_secs(since.as_secs());
        let new = NewToken { user: &id, issued_at, ttl: TOKEN_LIFE, scope: "publish topic:*", token_id: None };
        let token = self.keys.issue(&new).map_err(|error| error.to_string())?;
        Ok(Caller { user, token, hello: hello.to_string(), narrow: false })
    }

    /// Connects, upgrades with the token, says hello and waits for the welcome.
    ///
    /// # Errors
    /// When the caller is not let in, in words.
    pub(super) async fn dial(&self, caller: &Caller) -> Result<Welcomed, String> {
        let dialing = tokio::time::timeout(PATIENCE, self.try_dial(caller));
        let dialed = dialing.await.unwrap_or_else(|_| Err(format!("no welcome within {PATIENCE:?}")));
        dialed.map_err(|problem| format!("{}: {problem}", caller.user))
    }

    async fn try_dial(&self, caller: &Caller) -> Result<Welcomed, String> {
        let stream = self.connect(caller.narrow).await.map_err(|error| format!("no connection: {error}"))?;
        let mut reader = self.upgrade(stream, &caller.token).await?;
        reader.link.put_text(&caller.hello);
        reader.link.flush();
        let mut frames = Vec::new();
        reader.kept(|frame, now| frames.push((frame.to_vec(), now))).map_err(|ending| ending.to_string())?;
        while frames.is_empty() {
            let turned = reader.turn(|frame, now| frames.push((frame.to_vec(), now))).await;
            turned.map_err(|ending: Ending| ending.to_string())?;
        }
        let (first, _) = frames.remove(0);
        let welcome: Value = serde_json::from_slice(&first).map_err(|error| format!("the first frame: {error}"))?;
        if welcome["type"] != "welcome" {
            return Err(format!("the first frame is no welcome: {}", shown(&first)));
        }
        Ok(Welcomed { reader, welcome, early: frames })
    }

    async fn connect(&self, narrow: bool) -> std::io::Result<TcpStream> {
        let dialed = self.dialed.replace(self.dialed.get().wrapping_add(1));
        let socket = if self.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if narrow {
            socket.set_recv_buffer_size(4 << 10)?;
        }
        if let (IpAddr::V4(addr), further @ 1..) = (self.addr.ip(), dialed / PORTS_OF_AN_ADDRESS)
            && addr.is_loopback()
        {
            let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + further % 250);
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn upgrade(&self, mut stream: TcpStream, token: &str) -> Result<Reader, String> {
        let nonce = u128::from(self.clock.now()).to_le_bytes();
        let bearer = format!("Bearer {token}");
        let handshake = client_request(&self.host, "/ws", nonce, &["trunkline.v1"], Some(&bearer));
        let handshake = handshake.map_err(|error| error.to_string())?;
        let failed = |error: std::io::Error| format!("the upgrade failed: {error}");
        stream.write_all(handshake.request_bytes()).await.map_err(failed)?;
        let mut answer = Vec::with_capacity(HEAD);
        let head = loop {
            if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
                return Err("the server ended the stream before it answered the upgrade".to_owned());
            }
            if let Some((len, _)) =
                handshake.parse_response(&answer, &self.limits).map_err(|error| error.to_string())?
            {
                break len;
            }
        };
        let mut reader = Reader::new(stream, &self.scratch, self.clock);
        reader.keep(answer.get(head..).unwrap_or_default());
        Ok(reader)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Welcomed {
    /// Where a stream goes on, and how.
    pub(super) fn stands(&self, stream: &str) -> Result<(Position, &str), String> {
        let entries = self.welcome["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        let entry = entries.iter().find(|entry| entry["stream"] == stream);
        let read = entry.and_then(|entry| Some((entry["event_id"].as_str()?.parse().ok()?, entry["mode"].as_str()?)));
        read.ok_or_else(|| format!("the welcome says nothing of {stream}: {}", self.welcome))
    }

    /// The session that a later socket may continue.
    pub(super) fn session(&self) -> Result<String, String> {
        let session = self.welcome["session_id"].as_str();
        session.map(str::to_owned).ok_or_else(|| format!("the welcome names no session: {}", self.welcome))
    }
}
