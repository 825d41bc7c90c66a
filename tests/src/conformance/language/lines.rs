//! Steps from lines.

use std::time::Duration;

use serde_json::{Value, json};

use super::lexer::Pieces;
use super::{Action, Carrier, Key, Patience, Payload, Step, TokenSpec, UpgradeHead};
use crate::conformance::pattern::Pattern;
use crate::conformance::template::Template;

/// How long is waited where a step says nothing.
const WITHIN: Duration = Duration::from_secs(30);

type Parsed<T> = Result<T, String>;

/// The steps of a scenario whose first line has this number.
pub(super) fn parse(text: &str, first_line: usize) -> Result<Vec<Step>, (usize, String)> {
    // The outermost block is the scenario itself.
    let mut blocks: Vec<(usize, Option<Open>, Vec<Step>)> = vec![(first_line, None, Vec::new())];
    for (line, text) in (first_line..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let at = |problem| (line, problem);
        let mut pieces = Pieces::of(text).map_err(at)?;
        if pieces.take("repeat") {
            let times = pieces.number("how often").map_err(at)?;
            let variable = (!pieces.is_empty()).then(|| pieces.word("a variable")).transpose().map_err(at)?;
            pieces.done().map_err(at)?;
            blocks.push((line, Some(Open { times, variable, text: text.to_owned() }), Vec::new()));
            continue;
        }
        let step = if pieces.take("end") {
            pieces.done().map_err(at)?;
            match blocks.pop() {
                Some((line, Some(Open { times, variable, text }), steps)) => {
                    Step { line, text, action: Action::Repeat { times, variable, steps } }
                }
                Some((_, None, _)) | None => return Err((line, "there is no block to end".to_owned())),
            }
        } else {
            Step { line, text: text.to_owned(), action: action(pieces).map_err(at)? }
        };
        if let Some((_, _, steps)) = blocks.last_mut() {
            steps.push(step);
        }
    }
    match blocks.pop() {
        Some((_, None, steps)) => Ok(steps),
        Some((line, Some(_), _)) => Err((line, "this block has no `end`".to_owned())),
        None => Ok(Vec::new()),
    }
}

/// The head of a block.
struct Open {
    times: usize,
    variable: Option<String>,
    text: String,
}

fn action(mut pieces: Pieces) -> Parsed<Action> {
    let first = pieces.word("a step")?;
    let action = match first.as_str() {
        "token" => token(&mut pieces)?,
        "let" => Action::Let { name: pieces.word("a name")?, value: Template::new(pieces.json("a value")?)? },
        "open" => open(&mut pieces)?,
        "connect" => Action::Connect { peer: peer(pieces.word("a connection")?)?, narrow: pieces.take("narrow") },
        "upgrade" => upgrade(&mut pieces)?,
        "http" => http(&mut pieces)?,
        "stop" => Action::Stop,
        _ => of_peer(peer(first)?, &mut pieces)?,
    };
    pieces.done()?;
    Ok(action)
}

/// The name of a connection has letters and digits.
fn peer(word: String) -> Parsed<String> {
    let plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if plain { Ok(word) } else { Err(format!("{word:?} is neither a step nor the name of a connection")) }
}

fn token(pieces: &mut Pieces) -> Parsed<Action> {
    let name = pieces.word("a name")?;
    if !pieces.take("for") {
        return Err("`for` and a user are missing".to_owned());
    }
    let mut spec = spec_for(pieces.word("a user")?);
    while !pieces.is_empty() {
        let word = pieces.word("what the token says")?;
        if !of_token(&mut spec, &word, pieces)? {
            return Err(format!("{word:?} has no meaning for a token"));
        }
    }
    Ok(Action::Token { name, spec: Box::new(spec) })
}

fn spec_for(user: String) -> TokenSpec {
    TokenSpec { user, tenant: None, scope: None, ttl: 3_600, age: 0, jti: None, claims: json!({}), key: Key::Shared }
}

/// Takes what concerns a token; says whether the word did.
fn of_token(spec: &mut TokenSpec, word: &str, pieces: &mut Pieces) -> Parsed<bool> {
    match word {
        "tenant" => spec.tenant = Some(pieces.word("a tenant")?),
        "scope" => spec.scope = Some(Template::text(&pieces.text("a scope")?)?),
        "ttl" => spec.ttl = pieces.number("seconds")?,
        "age" => spec.age = pieces.number("seconds")?,
        "jti" => spec.jti = Some(Template::text(&pieces.text("an id")?)?),
        "claims" => spec.claims = pieces.json("claims")?,
        "wrong" => spec.key = Key::Wrong,
        "unsigned" => spec.key = Key::None,
        _ => return Ok(false),
    }
    Ok(true)
}

fn open(pieces: &mut Pieces) -> Parsed<Action> {
    let peer = peer(pieces.word("a connection")?)?;
    if !pieces.take("as") {
        return Err("`as` and a user are missing".to_owned());
    }
    let mut spec = spec_for(pieces.word("a user")?);
    let (mut carrier, mut hello, mut narrow) = (Carrier::Subprotocol, json!({}), false);
    while !pieces.is_empty() {
        if let Some(more) = pieces.maybe_json() {
            hello = more;
            continue;
        }
        let word = pieces.word("more")?;
        match word.as_str() {
            "by" => carrier = carrier_of(pieces)?,
            "narrow" => narrow = true,
            _ if of_token(&mut spec, &word, pieces)? => {}
            _ => return Err(format!("{word:?} has no meaning for `open`")),
        }
    }
    Ok(Action::Open { peer, spec: Box::new(spec), carrier, hello: Template::new(hello)?, narrow })
}

fn carrier_of(pieces: &mut Pieces) -> Parsed<Carrier> {
    Ok(match pieces.word("a carrier")?.as_str() {
        "subprotocol" => Carrier::Subprotocol,
        "authorization" => Carrier::Authorization,
        "cookie" => Carrier::Cookie,
        "ticket" => Carrier::Ticket,
        "hello" => Carrier::Hello,
        other => return Err(format!("{other:?} is no carrier")),
    })
}

fn upgrade(pieces: &mut Pieces) -> Parsed<Action> {
    let peer = peer(pieces.word("a connection")?)?;
    let mut head = UpgradeHead {
        carriers: Vec::new(),
        target: Template::text("${path}")?,
        with: Vec::new(),
        without: Vec::new(),
        narrow: false,
    };
    while !pieces.is_empty() {
        match pieces.word("more")?.as_str() {
            "by" => {
                let carrier = carrier_of(pieces)?;
                head.carriers.push((carrier, Template::text(&pieces.text("what is carried")?)?));
            }
            "at" => head.target = Template::text(&pieces.text("a target")?)?,
            "with" => head.with.push(Template::text(&pieces.text("a header line")?)?),
            "without" => head.without.push(pieces.word("a header's name")?.to_ascii_lowercase()),
            "narrow" => head.narrow = true,
            other => return Err(format!("{other:?} has no meaning for `upgrade`")),
        }
    }
    Ok(Action::Upgrade { peer, head: Box::new(head) })
}

fn http(pieces: &mut Pieces) -> Parsed<Action> {
    let request = Template::text(&pieces.text("method and path")?)?;
    let token = if pieces.take("by") { Some(pieces.word("a token")?) } else { None };
    let body = pieces.maybe_json().map(Template::new).transpose()?;
    if !pieces.take("gives") {
        return Err("`gives` and a status are missing".to_owned());
    }
    let status = pieces.number("a status")?;
    let pattern = Pattern::new(pieces.maybe_json().unwrap_or(json!({})))?;
    Ok(Action::Http { request, token, body, status, pattern })
}

fn of_peer(peer: String, pieces: &mut Pieces) -> Parsed<Action> {
    let verb = pieces.word("what the connection does")?;
    Ok(match verb.as_str() {
        ">" => send(peer, pieces)?,
        "<" | "<<" => Action::Expect {
            peer,
            pattern: Pattern::new(object(pieces.json("a frame")?)?)?,
            seek: verb == "<<",
            patience: patience(pieces)?,
        },
        "bytes" => Action::Bytes {
            peer,
            bytes: Template::text(&pieces.text("bytes")?)?,
            times: if pieces.take("times") { pieces.number("how often")? } else { 1 },
        },
        "raw" => Action::Raw { peer, bytes: hex(&pieces.word("digits")?)? },
        "frame" => frame(peer, pieces)?,
        "status" => Action::Status {
            peer,
            status: pieces.number("a status")?,
            headers: Pattern::new(pieces.maybe_json().unwrap_or(json!({})))?,
            patience: patience(pieces)?,
        },
        "pong" => Action::Pong { peer, payload: Template::text(&pieces.text("a payload")?)? },
        "welcomed" => Action::Welcomed { peer, pattern: Pattern::new(object(pieces.json("a frame")?)?)? },
        "catches_up" => Action::CatchesUp { peer },
        "quiet" => Action::Quiet { peer },
        "closes" => Action::Closes {
            peer,
            code: pieces.number("a close code")?,
            dropping: pieces.take("dropping"),
            patience: patience(pieces)?,
        },
        "ends" => Action::Ends { peer, patience: patience(pieces)? },
        "shows" => Action::Shows {
            peer,
            run: Template::text(&pieces.text("a run")?)?,
            part: pieces.text("a part")?,
            text: Template::text(&pieces.text("a text")?)?,
        },
        "mute" => Action::Mute { peer },
        "cut" => Action::Cut { peer },
        "fin" => Action::Fin { peer },
        "leave" => {
            Action::Leave { peer, code: if pieces.is_empty() { None } else { Some(pieces.number("a close code")?) } }
        }
        other => return Err(format!("{other:?} is nothing that a connection does")),
    })
}

fn object(value: Value) -> Parsed<Value> {
    if value.is_object() { Ok(value) } else { Err(format!("a frame is an object, not {value}")) }
}

fn send(peer: String, pieces: &mut Pieces) -> Parsed<Action> {
    let frame = pieces.json("a frame")?;
    if let Some(text) = frame.as_str() {
        return Ok(Action::SendText { peer, text: Template::text(text)? });
    }
    let padded = if pieces.take("padded") { Some(pieces.number("bytes")?) } else { None };
    Ok(Action::Send { peer, frame: Template::new(object(frame)?)?, padded })
}

/// `frame 0x89 masked "text"` or `frame 0x82 unmasked hex c328`.
fn frame(peer: String, pieces: &mut Pieces) -> Parsed<Action> {
    let word = pieces.word("the first byte")?;
    let first = word.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let first = first.ok_or_else(|| format!("{word:?} is no byte such as 0x81"))?;
    let masked = !pieces.take("unmasked");
    let payload = if pieces.take("hex") {
        Payload::Hex(hex(&pieces.word("digits")?)?)
    } else {
        Payload::Text(Template::text(&pieces.text("a payload")?)?)
    };
    Ok(Action::Frame { peer, first, masked, payload })
}

fn hex(digits: &str) -> Parsed<Vec<u8>> {
    let bytes = (0..digits.len()).step_by(2);
    let bytes = bytes.map(|at| digits.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()));
    bytes.collect::<Option<_>>().ok_or_else(|| format!("{digits:?} are no pairs of hexadecimal digits"))
}

fn patience(pieces: &mut Pieces) -> Parsed<Patience> {
    let mut patience = Patience { within: WITHIN, not_before: Duration::ZERO };
    while !pieces.is_empty() {
        if pieces.take("within") {
            patience.within = Duration::from_secs(pieces.number("seconds after `within`")?);
        } else if pieces.take("not_before") {
            patience.not_before = Duration::from_secs(pieces.number("seconds after `not_before`")?);
        } else {
            return Err(format!("{:?} has no meaning here", pieces.word("`within`")?));
        }
    }
    Ok(patience)
}
