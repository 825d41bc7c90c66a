//! The command line: three commands, and `serve --dev` when there is none.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// One WebSocket manager: people on one side, agents on the other, every event in order and nobody else's.
///
/// Without a command: `serve --dev`, on a loopback port.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, arg_required_else_help = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the WebSocket endpoint /ws, the pages / and /operators, /metrics, /healthz and /readyz
    Serve(ServeArgs),
    /// Print a token for a user, signed with the server's secret
    Token(TokenArgs),
    /// Talk to an agent from the terminal
    Chat(ChatArgs),
}

/// Every flag but `--config` overrules a setting of the same name; the settings check the values.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SettingFlags {
    /// Settings in TOML; also TRUNKLINE_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The file with the secret that signs tokens, at least 32 bytes; instead of TRUNKLINE_SECRET
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<String>,
    /// The `iss` that tokens must carry
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
    /// The `aud` that tokens must carry
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<String>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen, as 127.0.0.1:8787
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Development: loopback only, a secret of its own, log in by name, a built-in agent
    #[arg(long)]
    pub(crate) dev: bool,
    /// Leave the built-in agent out: producers that connect are the only ones to answer
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// The file with the public keys (JWKS) of whoever signs tokens; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks_file: Option<String>,
    /// The address of the public keys (JWKS) of whoever signs tokens, https://…; fetched again and again
    #[arg(long, value_name = "URL")]
    pub(crate) jwks_url: Option<String>,
    /// The file with the one public key (PEM) of whoever signs tokens
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key_file: Option<String>,
    /// The file with the server's certificate and those up to its root (PEM): serve over TLS; read again when it changes
    #[arg(long, alias = "tls-certificate", value_name = "FILE")]
    pub(crate) tls_certificate_file: Option<String>,
    /// The file with the private key of that certificate (PEM)
    #[arg(long, alias = "tls-key", value_name = "FILE")]
    pub(crate) tls_key_file: Option<String>,
    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user the token speaks for
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// The user's tenant
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// How long the token holds, as 90s, 15m or 1h
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) ttl: String,
    /// What the token allows beyond being the user, separated by spaces
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The server's endpoint; by default where `trunkline serve --dev` usually listens
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8787/ws")]
    pub(crate) url: String,
    /// The certificates (PEM) to trust at a wss:// address instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Log in under this name, at a server in development mode on this machine; by default, without a token, under
    /// the name of the system's user
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token", "token_file"])]
    pub(crate) user: Option<String>,
    /// A token; better out of sight of other users in --token-file or TRUNKLINE_TOKEN
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// The file with the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The conversation
    #[arg(long, value_name = "ID", default_value = "main")]
    pub(crate) thread: String,
    /// Send this, show the run, and end with it: status 0 only when the agent completed
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Print the server's frames as compact, re-encoded JSON, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_allowed() {
        assert!(Cli::try_parse_from(["trunkline"]).unwrap().command.is_none());
    }

    #[test]
    fn chat_needs_no_flag_where_a_server_in_development_mode_usually_is() {
        let Some(Command::Chat(args)) = Cli::try_parse_from(["trunkline", "chat"]).unwrap().command else { panic!() };
        let listen =
            crate::config::Settings::of_serve(&ServeArgs { dev: true, ..ServeArgs::default() }).unwrap().listen;
        assert_eq!(args.url, format!("ws://{listen}/ws"));
        assert!(Cli::try_parse_from(["trunkline", "chat", "--user", "ann", "--token", "t"]).is_err());
    }

    #[test]
    fn the_secret_itself_is_no_flag() {
        assert!(Cli::try_parse_from(["trunkline", "serve", "--secret", "x"]).is_err());
    }
}
