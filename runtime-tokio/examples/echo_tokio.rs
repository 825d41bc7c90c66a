//! Says every WebSocket message again: what holds the codec and this adapter to conformance suites such as Autobahn
//! (`tests/autobahn/run.sh`). It lets anybody in and has no users, so keep it on this machine.
//!
//! ```text
//! cargo run -p trunkline-tokio --example echo_tokio -- [--plain] [ADDRESS]
//! ```
//!
//! It listens on `127.0.0.1:0` where no address is given, and its first line says where. With `--plain` it agrees on no compression;
//! without it, whatever becomes shorter is compressed, for whoever offers that.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use trunkline_core::codec::deflate::Deflate;
use trunkline_core::connection::Echo;
use trunkline_core::drive::Driver;
use trunkline_core::limits::Limits;
use trunkline_core::time::Clock;
use trunkline_tokio::{SystemClock, TokioTimer, TokioTransport};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (flags, addresses): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word == "--plain");
    let address = addresses.first().map_or("127.0.0.1:0", String::as_str);
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}/", listener.local_addr()?);
    let deflate_from = flags.is_empty().then_some(1);
    let limits = Arc::new(Limits { message_bytes: MESSAGE_BYTES, deflate_from, ..Limits::default() });
    let deflate = Deflate::default();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream, Arc::clone(&limits), deflate.clone()));
    }
}

/// The largest messages that a suite sends: 16 MiB.
const MESSAGE_BYTES: usize = 16 << 20;

async fn echo(stream: TcpStream, limits: Arc<Limits>, deflate: Deflate) {
    // Where the system refuses it, small frames only come later.
    let _ = stream.set_nodelay(true);
    let clock = SystemClock::new();
    let machine = Echo::new(clock.now(), limits).with_deflate(deflate);
    let (_, TokioTransport(mut stream)) =
        Driver::new(machine, TokioTransport(stream), TokioTimer::new(clock), clock).await;
    // A peer that is gone does not make the end any different.
    let _ = stream.shutdown().await;
}
