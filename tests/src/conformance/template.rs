//! JSON in which variables stand: `${name}`. A text that is nothing but one takes the value as it is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// What names stand for while a scenario runs.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// What keeps this run of the scenario apart from all others; `${@ann}` is this and `ann`.
    pub prefix: String,
    values: BTreeMap<String, Value>,
}

impl Variables {
    /// None yet.
    pub fn new(prefix: String) -> Self {
        Self { prefix, values: BTreeMap::new() }
    }

    /// Gives a name a value, another one than before perhaps.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// The value of a name.
    ///
    /// # Errors
    /// When it has none.
    pub fn get(&self, name: &str) -> Result<Value, String> {
        self.values.get(name).cloned().ok_or_else(|| format!("no earlier step has given `{name}` a value"))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        Ok(plain(&self.get(name)?))
    }
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// JSON to be filled in.
#[derive(Clone, Debug)]
pub struct Template(Value);

impl Template {
    /// # Errors
    /// When what stands between `${` and `}` is nothing that can be filled in.
    pub fn new(value: Value) -> Result<Self, String> {
        check(&value)?;
        Ok(Self(value))
    }

    /// # Errors
    /// As [`Template::new`].
    pub fn text(text: &str) -> Result<Self, String> {
        Self::new(Value::String(text.to_owned()))
    }

    /// With every variable's value.
    ///
    /// # Errors
    /// When a variable has none.
    pub fn fill(&self, variables: &Variables) -> Result<Value, String> {
        fill(&self.0, variables)
    }

    /// The same as text.
    ///
    /// # Errors
    /// As [`Template::fill`].
    pub fn fill_text(&self, variables: &Variables) -> Result<String, String> {
        Ok(plain(&self.fill(variables)?))
    }
}

/// Fills in a value; patterns do so too.
pub(super) fn fill(value: &Value, variables: &Variables) -> Result<Value, String> {
    match value {
        Value::String(text) => fill_text(text, variables),
        Value::Array(items) => items.iter().map(|item| fill(item, variables)).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| Ok((key_of(key, variables)?, fill(value, variables)?))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

/// Keys may be variables, such as names of topics in `resume`.
fn key_of(key: &str, variables: &Variables) -> Result<String, String> {
    Ok(plain(&fill_text(key, variables)?))
}

fn fill_text(text: &str, variables: &Variables) -> Result<Value, String> {
    if let Some(inner) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        && !inner.contains("${")
    {
        return value_of(inner, variables);
    }
    let mut out = String::new();
    for (literal, expression) in split(text)? {
        out.push_str(literal);
        if let Some(expression) = expression {
            out.push_str(&plain(&value_of(expression, variables)?));
        }
    }
    Ok(Value::String(out))
}

/// Literals, each with the expression that follows it.
fn split(text: &str) -> Result<Vec<(&str, Option<&str>)>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once("${") {
        let (inner, after) = after.split_once('}').ok_or_else(|| format!("`${{` in {text:?} has no end"))?;
        parts.push((literal, Some(inner)));
        rest = after;
    }
    parts.push((rest, None));
    Ok(parts)
}

/// Every function, as `${function:argument}`.
fn value_of(expression: &str, variables: &Variables) -> Result<Value, String> {
    if let Some(name) = expression.strip_prefix('@') {
        return Ok(Value::String(format!("{}{name}", variables.prefix)));
    }
    let Some((function, argument)) = expression.split_once(':') else { return variables.get(expression) };
    let text = match function {
        "fill" => "x".repeat(argument.parse().map_err(|_| format!("`fill:{argument}` names no number"))?),
        "b64" => URL_SAFE_NO_PAD.encode(variables.text(argument)?),
        "tampered" => tampered(&variables.text(argument)?),
        "epoch" => variables.text(argument)?.split('-').next().unwrap_or_default().to_owned(),
        other => return Err(format!("there is no function `{other}`")),
    };
    Ok(Value::String(text))
}

/// A token whose signature is another one.
fn tampered(token: &str) -> String {
    let Some((head, mac)) = token.rsplit_once('.') else { return token.to_owned() };
    let swapped = if mac.starts_with('A') { "B" } else { "A" };
    format!("{head}.{swapped}{}", mac.get(1..).unwrap_or_default())
}

fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| check_text(key).and_then(|()| check(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// That it can be filled in, as far as that is known before anything runs.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    for expression in split(text)?.into_iter().filter_map(|(_, expression)| expression) {
        match expression.split_once(':') {
            Some(("fill", number)) if number.parse::<usize>().is_ok() => {}
            Some(("b64" | "tampered" | "epoch", name)) if !name.is_empty() => {}
            Some((function, _)) => return Err(format!("there is no function `{function}` in {text:?}")),
            None if expression.trim_start_matches('@').is_empty() => {
                return Err(format!("a name is missing in {text:?}"));
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_are_filled_in_whole_or_as_text() {
        let mut variables = Variables::new("p-".into());
        variables.set("n", json!(3));
        variables.set("at", json!("17-4"));
        let template = json!({"topic:${@news}": "${n}", "a": ["${n}${n}", "${epoch:at}-9"], "b": "${fill:3}", "c": 1});
        let filled = Template::new(template).unwrap().fill(&variables).unwrap();
        assert_eq!(filled, json!({"topic:p-news": 3, "a": ["33", "17-9"], "b": "xxx", "c": 1}));
        assert!(Template::text("${x}").unwrap().fill(&variables).unwrap_err().contains("`x`"));
        assert!(Template::text("${x").is_err() && Template::text("${@}").is_err());
    }
}
