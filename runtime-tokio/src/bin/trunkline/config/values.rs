//! From a value as it was given to a value of the right type, or what was expected instead.

use std::net::SocketAddr;
use std::time::Duration;

use config::{Value, ValueKind};
use tracing::level_filters::LevelFilter;
use trunkline_core::admission::{ForwardedHeader, TrustedProxies};
use trunkline_core::auth::{Access, Algorithm, CookieName, Origin};
use trunkline_core::limits::AtCapacity;

pub(super) fn text(value: &Value) -> Result<String, String> {
    match string(value) {
        None => Err(expected("a string", value)),
        Some("") => Err("must not be empty".into()),
        Some(text) => Ok(text.to_owned()),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    if let ValueKind::Boolean(flag) = value.kind {
        return Ok(flag);
    }
    match untyped(value) {
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) | None => Err(expected("true or false", value)),
    }
}

pub(super) fn whole(value: &Value) -> Result<u64, String> {
    let whole = if let ValueKind::I64(number) = value.kind {
        u64::try_from(number).ok()
    } else {
        untyped(value).and_then(|text| text.parse().ok())
    };
    whole.ok_or_else(|| expected("a whole number", value))
}

pub(super) fn in_range<T: TryFrom<u64>>(number: u64) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{number} is too large"))
}

pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    let parsed = string(value).and_then(|text| humantime::parse_duration(text).ok());
    parsed.ok_or_else(|| expected("a time such as \"10s\" or \"5min\"", value))
}

pub(super) fn maybe_duration(value: &Value) -> Result<Option<Duration>, String> {
    if string(value) == Some("off") {
        return Ok(None);
    }
    duration(value).map(Some).map_err(|problem| format!("{problem}; \"off\" is never"))
}

pub(super) fn maybe_whole(value: &Value) -> Result<Option<usize>, String> {
    if string(value) == Some("off") {
        return Ok(None);
    }
    whole(value).and_then(in_range).map(Some).map_err(|problem| format!("{problem}; \"off\" is never"))
}

pub(super) fn address(value: &Value) -> Result<SocketAddr, String> {
    text(value)?.parse().map_err(|_| expected("an address and a port such as \"127.0.0.1:8787\"", value))
}

/// A list of origins, or `*` alone for any.
pub(super) fn origins(value: &Value) -> Result<Access, String> {
    let texts = list(value)?;
    if texts == ["*"] {
        return Ok(Access::any_origin());
    }
    let parse = |text: &String| match text.as_str() {
        "*" => Err("\"*\" is every origin: let it stand alone".to_owned()),
        text => Origin::parse(text).map_err(|problem| format!("the origin {}: {problem}", shown(text))),
    };
    texts.iter().map(parse).collect::<Result<Vec<_>, _>>().map(Access::with_origins)
}

pub(super) fn cookie(value: &Value) -> Result<CookieName, String> {
    CookieName::parse(&text(value)?).map_err(|problem| problem.to_string())
}

/// The texts of a list; in a flag or a variable commas separate them.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || expected("a list of strings", value);
    if let ValueKind::Array(items) = &value.kind {
        return items.iter().map(|item| string(item).map(str::to_owned).ok_or_else(wrong)).collect();
    }
    let text = untyped(value).ok_or_else(wrong)?;
    Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// A list of addresses and networks.
pub(super) fn proxies(value: &Value) -> Result<TrustedProxies, String> {
    let texts = list(value)?;
    let parsed = TrustedProxies::new(texts.iter().map(String::as_str));
    parsed.map_err(|_| expected("addresses or networks such as \"10.0.0.0/8\"", value))
}

pub(super) fn at_capacity(value: &Value) -> Result<AtCapacity, String> {
    match string(value) {
        Some("supersede") => Ok(AtCapacity::Supersede),
        Some("refuse") => Ok(AtCapacity::Refuse),
        Some(_) | None => Err(expected("\"supersede\" or \"refuse\"", value)),
    }
}

pub(super) fn forwarded_header(value: &Value) -> Result<ForwardedHeader, String> {
    let header = text(value)?.parse().ok();
    header.ok_or_else(|| expected("\"x-forwarded-for\" or \"forwarded\"", value))
}

pub(super) fn level(value: &Value) -> Result<LevelFilter, String> {
    let text = text(value)?;
    // The parser of the filter also takes numbers and capitals.
    let named = text.bytes().all(|byte| byte.is_ascii_lowercase());
    text.parse().ok().filter(|_| named).ok_or_else(|| expected("off, error, warn, info, debug or trace", value))
}

pub(super) fn algorithm(value: &Value) -> Result<Algorithm, String> {
    let named = Algorithm::from_name(&text(value)?);
    named.ok_or_else(|| expected("the name of a signature algorithm such as \"RS256\"", value))
}

fn string(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind { Some(text) } else { None }
}

/// The text of a flag or a variable, which is one whatever it means; in a file a number is a number.
fn untyped(value: &Value) -> Option<&str> {
    value.origin().and_then(|_| string(value))
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn expected(what: &str, found: &Value) -> String {
    let found = match &found.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::String(text) => shown(text),
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a large number".to_owned(),
    };
    format!("expected {what}, found {found}")
}
