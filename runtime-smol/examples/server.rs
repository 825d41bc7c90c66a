//! A small server on smol whose agent says every message again, word by word.
//!
//! ```text
//! cargo run -p trunkline-smol --example server -- --dev
//! cargo run -p trunkline-smol --example server -- --listen 0.0.0.0:8787 --secret-file secret
//! ```
//!
//! With `--dev` it makes a secret of its own, prints a token for `ann`, and listens on loopback only. Otherwise tokens
//! are HS256 under the secret in the file. It stops on SIGINT and SIGTERM, after its clients were told; a
//! second signal ends it at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use smol::net::TcpListener;
use smol::stream::StreamExt;
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::hub::{Hub, HubConfig, Request, Requests, UserMessage};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::stream::RunError;
use trunkline_core::time::Clock;
use trunkline_smol::{NoWeb, SystemClock, SystemEntropy, serve};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let keys = options.keys()?;
    let clock = SystemClock::new();
    if options.dev {
        let user = UserId::new(None, "ann")?;
        let token = NewToken {
            user: &user,
            issued_at: clock.now().unix,
            ttl: Duration::from_secs(3600),
            scope: "",
            token_id: None,
        };
        println!("token for ann, for an hour: {}", keys.issue(&token)?);
    }
    let (hub, housekeeper) = Hub::new(HubConfig::default(), Arc::new(keys), Arc::new(clock), Arc::new(SystemEntropy))?;
    smol::block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        println!("listening on ws://{}/ws", listener.local_addr()?);
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        let stop = async move {
            signals.next().await;
            // Once more ends it at once.
            smol::spawn(async move {
                signals.next().await;
                std::process::exit(1);
            })
            .detach();
        };
        if let Some(requests) = hub.requests() {
            smol::spawn(answer_all(requests)).detach();
        }
        serve(listener, hub, housekeeper, NoWeb, stop).await?;
        Ok(())
    })
}

/// One task per message, so that a slow answer keeps nobody waiting.
async fn answer_all(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        match request {
            // A run that fails to take an event has ended, and its user was told.
            Request::UserMessage(message) => smol::spawn(async { drop(echo(message).await) }).detach(),
            Request::Command(command) => command.refuse("this server has no commands"),
        }
    }
}

async fn echo(message: UserMessage) -> Result<(), RunError> {
    let content = message.content().to_owned();
    let run = message.start("echo")?;
    for word in content.split_inclusive(' ') {
        if let Some(by) = run.cancel_requested() {
            run.cancelled(by, "asked to stop")?;
            return Ok(());
        }
        run.delta(word)?;
        smol::Timer::after(Duration::from_millis(50)).await;
    }
    run.completed(Some(content))?;
    Ok(())
}

struct Options {
    listen: SocketAddr,
    secret_file: Option<String>,
    dev: bool,
}

const USAGE: &str = "usage: server [--listen ADDRESS] (--dev | --secret-file FILE)";

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { listen: SocketAddr::from(([127, 0, 0, 1], 8787)), secret_file: None, dev: false };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--dev" => options.dev = true,
                "--listen" => options.listen = args.next().ok_or(USAGE)?.parse()?,
                "--secret-file" => options.secret_file = Some(args.next().ok_or(USAGE)?),
                _ => return Err(USAGE.into()),
            }
        }
        if options.dev == options.secret_file.is_some() {
            return Err(USAGE.into());
        }
        if options.dev && !options.listen.ip().is_loopback() {
            return Err("--dev listens on loopback only: use --secret-file".into());
        }
        Ok(options)
    }

    fn keys(&self) -> Outcome<Hs256> {
        let secret = match &self.secret_file {
            // A line's end is the editor's, not the secret's.
            Some(file) => std::fs::read(file)?.trim_ascii_end().to_vec(),
            None => {
                let mut secret = vec![0; 32];
                SystemEntropy.fill(&mut secret);
                secret
            }
        };
        Ok(Hs256::new(&secret, ClaimRules::default())?)
    }
}
