//! The language of scenarios: what its files may hold, and nothing else. `tests/conformance/README.md` explains it.

mod lexer;
mod lines;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::pattern::Pattern;
use super::template::Template;

/// What a server must have, beyond the WebSocket endpoint in its default settings, for a scenario to be run against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The HTTP API beside the endpoint.
    Http,
    /// One-time tickets turned on, and the HTTP API that issues them.
    Tickets,
    /// The cookie `token`, and `https://app.example` in the list of origins.
    Cookie,
    /// No application of the process answers: producers over the wire are the only ones.
    NoAgent,
    /// The manager reads the requests itself: no web stack before it has limits of its own for those that are unfinished.
    OwnHttp,
    /// The suite started the server for this scenario alone, and can tell it to stop.
    Stop,
    /// The suite started the server for this scenario alone: it changes what everybody meets.
    Own,
    /// It takes minutes by the default limits: only where time is virtual.
    VirtualTime,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Http,
        Self::Tickets,
        Self::Cookie,
        Self::NoAgent,
        Self::OwnHttp,
        Self::Stop,
        Self::Own,
        Self::VirtualTime,
    ];

    /// As files and flags spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tickets => "tickets",
            Self::Cookie => "cookie",
            Self::NoAgent => "no_agent",
            Self::OwnHttp => "own_http",
            Self::Stop => "stop",
            Self::Own => "own",
            Self::VirtualTime => "virtual_time",
        }
    }
}

/// One scenario: it holds a server to one rule of the protocol.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub area: String,
    /// Unique among all.
    pub name: String,
    /// What a server must do.
    pub rule: String,
    /// Without these it is skipped.
    pub needs: BTreeSet<Need>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// The file, from the root of the workspace.
    pub file: String,
}

impl Scenario {
    /// About how long it must wait for a server that does all in time.
    pub fn lasts(&self) -> Duration {
        let patience = |action: &Action| {
            if let Action::Expect { patience, .. } | Action::Closes { patience, .. } | Action::Ends { patience, .. } =
                action
            {
                return patience.not_before;
            }
            Duration::ZERO
        };
        self.steps.iter().map(|step| patience(&step.action)).sum()
    }
}

/// One step, and the line where it stands.
#[derive(Clone, Debug)]
pub struct Step {
    /// From 1.
    pub line: usize,
    /// As it is written.
    pub text: String,
    /// What it does.
    pub action: Action,
}

/// Whose token, and what it says.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// Without the run's prefix.
    pub user: String,
    /// Without the run's prefix.
    pub tenant: Option<String>,
    /// Words between blanks.
    pub scope: Option<Template>,
    /// Seconds from `iat` to `exp`.
    pub ttl: i64,
    /// How many seconds ago it was issued.
    pub age: i64,
    /// The id by which it can be revoked.
    pub jti: Option<Template>,
    /// Claims that replace those above; `null` leaves one out.
    pub claims: Value,
    /// Which key signs it.
    pub key: Key,
}

/// What a token is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The server's secret.
    Shared,
    /// Another one.
    Wrong,
    /// Nothing: `alg` is `none`.
    None,
}

/// How a token comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `bearer.<JWT>` among the subprotocols.
    Subprotocol,
    /// `Authorization: Bearer`.
    Authorization,
    /// The cookie `token`, from a listed origin.
    Cookie,
    /// `?ticket=`.
    Ticket,
    /// The first frame.
    Hello,
}

/// How long is waited for something, and what would be too early.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The longest time.
    pub within: Duration,
    /// The shortest, since the last step of this peer that waited for something.
    pub not_before: Duration,
}

/// The head of an upgrade.
#[derive(Clone, Debug)]
pub struct UpgradeHead {
    /// Each with the text that it carries.
    pub carriers: Vec<(Carrier, Template)>,
    /// The target; the endpoint where nothing else is said.
    pub target: Template,
    /// More header lines.
    pub with: Vec<Template>,
    /// Names of usual header lines that are left out.
    pub without: Vec<String>,
    /// With a receive buffer of a few KiB.
    pub narrow: bool,
}

/// What a step does. `peer` is the name of a connection.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Action {
    /// Makes a token, under a name.
    Token { name: String, spec: Box<TokenSpec> },
    /// Gives a name to a value.
    Let { name: String, value: Template },
    /// Comes in whole: connection, upgrade, `hello`, `welcome`.
    Open { peer: String, spec: Box<TokenSpec>, carrier: Carrier, hello: Template, narrow: bool },
    /// Opens a connection, and no more.
    Connect { peer: String, narrow: bool },
    /// Sends the head of an upgrade, on a new connection where there is none.
    Upgrade { peer: String, head: Box<UpgradeHead> },
    /// Sends bytes as they are; backslash escapes are read.
    Bytes { peer: String, bytes: Template, times: usize },
    /// Sends bytes that are no text.
    Raw { peer: String, bytes: Vec<u8> },
    /// The head of an HTTP answer; after 101 frames follow.
    Status { peer: String, status: u16, headers: Pattern, patience: Patience },
    /// Sends a text frame, padded to so many bytes.
    Send { peer: String, frame: Template, padded: Option<usize> },
    /// Sends a text frame that need be no JSON.
    SendText { peer: String, text: Template },
    /// Sends one frame, whatever it is worth.
    Frame { peer: String, first: u8, masked: bool, payload: Payload },
    /// The next frame of its lane is such a one; or, `seek`, one after it is.
    Expect { peer: String, pattern: Pattern, seek: bool, patience: Patience },
    /// The next WebSocket pong carries this.
    Pong { peer: String, payload: Template },
    /// The welcome, which `open` has taken, is such a one.
    Welcomed { peer: String, pattern: Pattern },
    /// Reads on to where the welcome says that the stream of the user ended; what comes up to there is taken.
    CatchesUp { peer: String },
    /// Nothing is there, nor comes before the answer to a ping.
    Quiet { peer: String },
    /// The server closes with this code, and then the socket; `dropping`, whatever came before it.
    Closes { peer: String, code: u16, dropping: bool, patience: Patience },
    /// The socket ends without a close frame.
    Ends { peer: String, patience: Patience },
    /// A text of a run stands so to this client.
    Shows { peer: String, run: Template, part: String, text: Template },
    /// Answers no WebSocket ping from now on.
    Mute { peer: String },
    /// Breaks the socket off.
    Cut { peer: String },
    /// Ends the sending side.
    Fin { peer: String },
    /// Closes by the rules, with this code or none, and waits for the answer.
    Leave { peer: String, code: Option<u16> },
    /// One request of the HTTP API and its answer.
    Http { request: Template, token: Option<String>, body: Option<Template>, status: u16, pattern: Pattern },
    /// Tells the server to stop, in its way.
    Stop,
    /// Steps again and again; the variable counts from 1.
    Repeat { times: usize, variable: Option<String>, steps: Vec<Step> },
}

/// The payload of a frame made by hand.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Text in which variables stand.
    Text(Template),
    /// Bytes.
    Hex(Vec<u8>),
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    scenario: Vec<RawScenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: Spanned<String>,
    rule: String,
    #[serde(default)]
    needs: BTreeSet<Need>,
    steps: Spanned<String>,
}

/// Reads every file `*.toml` of a folder, in the order of their names.
///
/// # Errors
/// The first fault; one without a line where a file cannot be read.
pub fn load(folder: &Path) -> Result<Vec<Scenario>, Fault> {
    let unreadable = |problem: String| Fault { file: folder.display().to_string(), line: 0, problem };
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(error.to_string()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let mut all: Vec<Scenario> = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        all.extend(parse(name, &text)?);
    }
    let mut names = BTreeSet::new();
    match all.iter().find(|scenario| !names.insert(&scenario.name)) {
        Some(twice) => Err(unreadable(format!("two scenarios are called {:?}", twice.name))),
        None => Ok(all),
    }
}

/// Reads one file's text.
///
/// # Errors
/// The first fault, with its line.
pub fn parse(area: &str, text: &str) -> Result<Vec<Scenario>, Fault> {
    let file = format!("tests/conformance/{area}.toml");
    let line_of = |at: usize| 1 + text.get(..at).unwrap_or_default().matches('\n').count();
    let fault = |line, problem: String| Fault { file: file.clone(), line, problem };
    let raw: RawFile = toml::from_str(text)
        .map_err(|error| fault(error.span().map_or(1, |span| line_of(span.start)), error.message().to_owned()))?;
    let scenario = |raw: RawScenario| {
        let at = line_of(raw.name.span().start);
        let name = raw.name.into_inner();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(fault(at, format!("the name {name:?} is not of lower-case words joined by `_`")));
        }
        if !raw.rule.ends_with('.') {
            return Err(fault(at, "the rule is no sentence".to_owned()));
        }
        // The text begins after the three quotes, whose line's end TOML leaves out.
        let begin = raw.steps.span().start;
        let opening = text.get(begin..).unwrap_or_default();
        let skipped = usize::from(opening.starts_with("'''\n") || opening.starts_with("\"\"\"\n"));
        let steps = lines::parse(raw.steps.get_ref(), line_of(begin) + skipped)
            .map_err(|(line, problem)| fault(line, problem))?;
        Ok(Scenario { area: area.to_owned(), name, rule: raw.rule, needs: raw.needs, steps, file: file.clone() })
    };
    raw.scenario.into_iter().map(scenario).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(steps: &str) -> Result<Vec<Scenario>, Fault> {
        parse("x", &format!("[[scenario]]\nname = \"a\"\nrule = \"It is.\"\nsteps = '''\n{steps}\n'''\n"))
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_line() {
        let cases = [
            ("open a as ann\nnonsense b", 6, "\"b\""),
            ("open a as ann wronng", 5, "wronng"),
            ("open a as ann\n\na < {\"type\": \"<anny>\"}", 7, "<anny>"),
            ("open a as ann\na < {\"type\": }", 6, "JSON"),
            ("a closes soon", 5, "soon"),
            ("repeat 3\nopen a as ann", 5, "end"),
            ("open a as ann\nend", 6, "end"),
            ("a > {\"type\": \"${what:x}\"}", 5, "what"),
            ("a < {\"type\": \"pong\"} within", 5, "within"),
        ];
        for (steps, line, word) in cases {
            let fault = with(steps).expect_err(steps);
            assert_eq!(fault.line, line, "{steps}: {fault}");
            assert!(fault.problem.contains(word), "{steps}: {fault}");
            assert!(fault.to_string().starts_with("tests/conformance/x.toml:"), "{fault}");
        }
    }

    #[test]
    fn unknown_keys_of_a_file_are_refused_with_their_line() {
        let text = "[[scenario]]\nname = \"a\"\nrule = \"It is.\"\nsteps = ''\nstep = 1\n";
        let fault = parse("x", text).expect_err("an unknown key");
        assert!(fault.line == 5 && fault.problem.contains("step"), "{fault}");
        let text = text.replace("step = 1", "needs = [\"magic\"]");
        let fault = parse("x", &text).expect_err("an unknown need");
        assert!(fault.line == 5 && fault.problem.contains("magic"), "{fault}");
    }

    #[test]
    fn steps_know_their_lines_and_blocks_hold_theirs() {
        let scenarios = with("# why\nrepeat 2 i\n  a > {\"n\": \"${i}\"}\nend\na closes 1000 within 3").expect("steps");
        let [repeat, closes] = &scenarios[0].steps[..] else { panic!("two steps") };
        let Action::Repeat { times: 2, steps, .. } = &repeat.action else { panic!("{repeat:?}") };
        assert_eq!((repeat.line, steps[0].line, closes.line), (6, 7, 9));
        assert!(
            matches!(&closes.action, Action::Closes { code: 1000, patience, .. } if patience.within.as_secs() == 3)
        );
    }
}
