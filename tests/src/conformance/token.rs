//! Tokens for scenarios, good and bad: JWTs by HS256, made by hand so that they can say anything.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::language::{Key, TokenSpec};
use super::template::Variables;

/// Whoever signs the tokens that a server takes.
#[derive(Clone)]
pub enum Issuer {
    /// The server's secret for HS256.
    Secret(Vec<u8>),
    /// A command of the shell that is given the claims as JSON on its standard input, and prints a token.
    Command(String),
}

/// Shows no secret.
impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(..)"),
            Self::Command(command) => f.debug_tuple("Command").field(command).finish(),
        }
    }
}

/// How every fault of a command begins.
pub const COMMAND_FAULT: &str = "the token command";

/// As long as the server's, and another one.
const WRONG: &[u8] = b"another secret of the conformance suite, long enough";

impl Issuer {
    /// A token as the scenario wants it, at this time.
    ///
    /// # Errors
    /// When a variable has no value, or the command prints none.
    pub fn issue(&self, spec: &TokenSpec, variables: &Variables, unix_secs: i64) -> Result<String, String> {
        let claims = claims(spec, variables, unix_secs)?;
        match (spec.key, self) {
            (Key::None, _) => Ok(format!("{}.", unsigned("none", &claims))),
            (Key::Wrong, _) => Ok(signed(WRONG, &claims)),
            (Key::Shared, Self::Secret(secret)) => Ok(signed(secret, &claims)),
            (Key::Shared, Self::Command(command)) => run(command, &claims),
        }
    }
}

fn claims(spec: &TokenSpec, variables: &Variables, unix_secs: i64) -> Result<Value, String> {
    let named = |name: &str| format!("{}{name}", variables.prefix);
    let issued = unix_secs - spec.age;
    let mut claims = Map::new();
    claims.insert("sub".into(), json!(named(&spec.user)));
    claims.insert("iat".into(), json!(issued));
    claims.insert("exp".into(), json!(issued + spec.ttl));
    if let Some(tenant) = &spec.tenant {
        claims.insert("tenant".into(), json!(named(tenant)));
    }
    for (name, template) in [("scope", &spec.scope), ("jti", &spec.jti)] {
        if let Some(template) = template {
            claims.insert(name.into(), json!(template.fill_text(variables)?));
        }
    }
    for (name, value) in spec.claims.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(claims.remove(name)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                claims.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(Value::Object(claims))
}

fn unsigned(algorithm: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(&header), encode(claims))
}

/// These claims as a token by HS256.
pub fn signed(secret: &[u8], claims: &Value) -> String {
    let unsigned = unsigned("HS256", claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), unsigned.as_bytes());
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
}

fn run(command: &str, claims: &Value) -> Result<String, String> {
    let fault = |what: String| format!("{COMMAND_FAULT} {what}");
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| fault(format!("does not start: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read its input may be gone already.
        let _ = input.write_all(claims.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| fault(error.to_string()))?;
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || token.is_empty() {
        return Err(fault(format!("ends with {} and prints {} bytes", output.status, token.len())));
    }
    Ok(token)
}
