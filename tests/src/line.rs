//! A bad line between a device and a server: what the server sends comes through slowly, or not at all for a while.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::wire::{STEP, tcp, within};

/// How much of what the server sends comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All at once.
    Free,
    /// So many bytes a second.
    Bytes(usize),
    /// Nothing.
    Stopped,
}

/// The line. Once it is dropped, its pace stays as it is; it ends with either side.
#[derive(Debug)]
pub struct Line {
    pace: watch::Sender<Pace>,
}

/// How often a slow line takes some.
const TICKS_PER_SECOND: usize = 10;

impl Line {
    /// A line to `server` that holds about `buffer` bytes at its far end, and the device's end of it.
    ///
    /// # Panics
    /// When it cannot be laid.
    pub async fn lay(server: SocketAddr, buffer: u32) -> (Self, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let device = tcp(listener.local_addr().expect("an address")).await;
        let (near, _) = listener.accept().await.expect("the device's end");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(buffer).expect("a receive buffer");
        let far = within("a TCP connection", STEP, socket.connect(server)).await.expect("the server accepts");
        let (pace, paced) = watch::channel(Pace::Free);
        tokio::spawn(carry(near, far, paced));
        (Self { pace }, device)
    }

    /// From now on, but for what is on its way.
    pub fn set(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }
}

async fn carry(near: TcpStream, far: TcpStream, mut pace: watch::Receiver<Pace>) {
    let ((mut from_device, mut to_device), (mut from_server, mut to_server)) = (near.into_split(), far.into_split());
    let down = async {
        loop {
            let now = *pace.borrow_and_update();
            let most = match now {
                Pace::Free => 16 << 10,
                Pace::Bytes(bytes) => bytes / TICKS_PER_SECOND,
                Pace::Stopped => {
                    if pace.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    continue;
                }
            };
            let mut some = Vec::with_capacity(most);
            let read = (&mut from_server).take(most as u64).read_buf(&mut some).await;
            if read.unwrap_or(0) == 0 || to_device.write_all(&some).await.is_err() {
                return;
            }
            if now != Pace::Free {
                tokio::time::sleep(Duration::from_secs(1) / TICKS_PER_SECOND as u32).await;
            }
        }
    };
    tokio::select! {
        () = down => {}
        _ = copy(&mut from_device, &mut to_server) => {}
    }
}
