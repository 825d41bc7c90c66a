//! The flags of the example servers, and the line by which they say where they listen.

use std::net::SocketAddr;
use std::time::Duration;

use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::time::Now;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// With `--dev` a server makes a secret of its own, prints a token for `ann`, and listens on loopback only. Otherwise tokens
/// are HS256 under the secret in the file.
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    secret_file: Option<String>,
    dev: bool,
}

const USAGE: &str = "usage: [--listen ADDRESS] (--dev | --secret-file FILE)";

impl Options {
    pub(crate) fn of_process() -> Outcome<Self> {
        Self::parse(std::env::args().skip(1))
    }

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

    pub(crate) fn keys(&self, entropy: &impl Entropy) -> Outcome<Hs256> {
        let secret = match &self.secret_file {
            // A line's end is the editor's, not the secret's.
            Some(file) => std::fs::read(file)?.trim_ascii_end().to_vec(),
            None => {
                let mut secret = vec![0; 32];
                entropy.fill(&mut secret);
                secret
            }
        };
        Ok(Hs256::new(&secret, ClaimRules::default())?)
    }

    /// Says where the server listens, and in development mode how to get in.
    pub(crate) fn announce(&self, listens: SocketAddr, keys: &Hs256, now: Now) -> Outcome<()> {
        if self.dev {
            let user = UserId::new(None, "ann")?;
            let ttl = Duration::from_secs(3600);
            let token = NewToken { user: &user, issued_at: now.unix, ttl, scope: "", token_id: None };
            println!("token for ann, for an hour: {}", keys.issue(&token)?);
        }
        println!("listening on ws://{listens}/ws");
        Ok(())
    }
}
