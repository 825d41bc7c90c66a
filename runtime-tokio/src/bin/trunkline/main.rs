//! The program `trunkline`: a server with a development mode, a maker of tokens, and a terminal client.

mod agent;
mod chat;
mod cli;
mod config;
mod http;
mod keys;
mod page;
mod serve;
mod tls;
mod token;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ServeArgs};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = match command {
        None => serve::main(&ServeArgs { dev: true, ..ServeArgs::default() }),
        Some(Command::Serve(args)) => serve::main(&args),
        Some(Command::Token(args)) => token::main(&args),
        Some(Command::Chat(args)) => chat::main(args),
    };
    outcome.unwrap_or_else(|fault| {
        eprintln!("trunkline: {}", one_line(&fault.message));
        ExitCode::from(fault.status)
    })
}

/// Why a command ends early: one line for standard error, and the status to exit with.
#[derive(Debug)]
pub(crate) struct Fault {
    message: String,
    status: u8,
}

impl Fault {
    /// The caller's mistake: a flag, a setting, a file that is not there. Status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 2 }
    }

    /// The world's: an address in use, a server that cannot be reached. Status 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 1 }
    }
}

/// Text of others, as it may be shown on a terminal: no control character and nothing that reorders a line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

/// Control characters, line separators, and the marks that change the direction of text.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(printable("grüße, 世界"), "grüße, 世界");
    }

    #[test]
    fn a_fault_is_one_line() {
        assert_eq!(one_line("a\n  b\r\n\u{7}c"), "a b \\u{7}c");
    }
}
