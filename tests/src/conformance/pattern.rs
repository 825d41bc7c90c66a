//! What a frame must look like: JSON in which some texts have a meaning.
//!
//! | text | what may stand there |
//! |---|---|
//! | `<any>` | anything, but something |
//! | `<none>` | nothing: the field is absent |
//! | `<let name>` | anything, which `${name}` is from then on |
//! | `<num 1..60>` | a number of this range, ends included; either may be left out |
//! | `<text>` | a text that is not empty |
//! | `<has word>` | a text with this in it |
//! | `<not x>` | anything but this text |
//! | `<size 3>` | a list of so many |
//!
//! Objects may have more fields than the pattern's, lists may not have more items.

use serde_json::Value;

use super::template::{Variables, check_text, fill};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Pattern(Value);

impl Pattern {
    /// # Errors
    /// When a text with a meaning has none of those above.
    pub fn new(value: Value) -> Result<Self, String> {
        check(&value)?;
        Ok(Self(value))
    }

    /// A field of the pattern that has one value, variables filled in.
    pub fn field(&self, name: &str, variables: &Variables) -> Option<Value> {
        let value = fill(self.0.get(name)?, variables).ok()?;
        (!value.as_str().is_some_and(|text| text.starts_with('<'))).then_some(value)
    }

    /// Whether the pattern wants this field to be absent.
    pub fn is_absent(&self, name: &str) -> bool {
        self.0[name] == "<none>"
    }

    /// Whether a value is such a one; what it names is set.
    ///
    /// # Errors
    /// Where and how the two differ.
    pub fn matches(&self, value: &Value, variables: &mut Variables) -> Result<(), String> {
        let mut named = Vec::new();
        let wanted = fill(&self.0, variables)?;
        compare(&wanted, Some(value), "", &mut named)?;
        named.into_iter().for_each(|(name, value)| variables.set(&name, value));
        Ok(())
    }
}

fn compare(wanted: &Value, value: Option<&Value>, path: &str, named: &mut Vec<(String, Value)>) -> Result<(), String> {
    if let Some(meaning) = wanted.as_str().and_then(meaning) {
        return meaning.compare(value, path, named);
    }
    let value = value.ok_or_else(|| format!("{} is missing, {wanted} was expected", place(path)))?;
    match (wanted, value) {
        (Value::Object(wanted), Value::Object(object)) => wanted
            .iter()
            .try_for_each(|(key, wanted)| compare(wanted, object.get(key), &format!("{path}.{key}"), named)),
        (Value::Array(wanted), Value::Array(items)) if wanted.len() == items.len() => {
            let mut pairs = wanted.iter().zip(items).enumerate();
            pairs.try_for_each(|(at, (wanted, item))| compare(wanted, Some(item), &format!("{path}[{at}]"), named))
        }
        (Value::Number(wanted), Value::Number(number)) if wanted.as_f64() == number.as_f64() => Ok(()),
        _ if wanted == value => Ok(()),
        _ => Err(format!("{} is {value}, {wanted} was expected", place(path))),
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { "the whole".to_owned() } else { format!("`{}`", path.trim_start_matches('.')) }
}

/// A text that stands for more than itself.
#[derive(Debug)]
enum Meaning<'a> {
    Any,
    Absent,
    Let(&'a str),
    Number(f64, f64),
    Text,
    Has(&'a str),
    Not(&'a str),
    Size(usize),
}

fn meaning(text: &str) -> Option<Meaning<'_>> {
    let inner = text.strip_prefix('<')?.strip_suffix('>')?;
    let (word, argument) = inner.split_once(' ').unwrap_or((inner, ""));
    Some(match (word, argument) {
        ("any", "") => Meaning::Any,
        ("none", "") => Meaning::Absent,
        ("text", "") => Meaning::Text,
        ("let", name) if !name.is_empty() => Meaning::Let(name),
        ("has", part) if !part.is_empty() => Meaning::Has(part),
        ("not", text) if !text.is_empty() => Meaning::Not(text),
        ("size", number) => Meaning::Size(number.parse().ok()?),
        ("num", "") => Meaning::Number(f64::NEG_INFINITY, f64::INFINITY),
        ("num", range) => {
            let (low, high) = range.split_once("..")?;
            let end = |text: &str, open| if text.is_empty() { Some(open) } else { text.parse().ok() };
            Meaning::Number(end(low, f64::NEG_INFINITY)?, end(high, f64::INFINITY)?)
        }
        _ => return None,
    })
}

impl Meaning<'_> {
    fn compare(&self, value: Option<&Value>, path: &str, named: &mut Vec<(String, Value)>) -> Result<(), String> {
        let Some(value) = value else {
            let absent = matches!(self, Self::Absent);
            return if absent { Ok(()) } else { Err(format!("{} is missing", place(path))) };
        };
        let holds = match self {
            Self::Any => true,
            Self::Absent => false,
            Self::Let(name) => {
                named.push(((*name).to_owned(), value.clone()));
                true
            }
            Self::Number(low, high) => value.as_f64().is_some_and(|number| (*low..=*high).contains(&number)),
            Self::Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::Has(part) => value.as_str().is_some_and(|text| text.contains(part)),
            Self::Not(text) => value.as_str() != Some(text),
            Self::Size(size) => value.as_array().is_some_and(|items| items.len() == *size),
        };
        if holds { Ok(()) } else { Err(format!("{} is {value}, {self:?} was expected", place(path))) }
    }
}

fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if text.starts_with('<') && meaning(text).is_none() => {
            Err(format!("{text:?} has no meaning in a pattern"))
        }
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => map.values().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(pattern: Value, value: Value) -> Result<Variables, String> {
        let mut variables = Variables::new("p-".into());
        variables.set("known", json!(7));
        Pattern::new(pattern)?.matches(&value, &mut variables).map(|()| variables)
    }

    #[test]
    fn patterns_hold_for_what_they_say_and_for_nothing_else() {
        let good = [
            (json!({"a": 1}), json!({"a": 1.0, "b": 2})),
            (json!({"a": "<none>"}), json!({"b": 2})),
            (json!({"a": "<num 1..3>", "b": "<num ..3>"}), json!({"a": 3, "b": -1.5})),
            (json!({"a": ["<any>", "${known}"]}), json!({"a": [null, 7]})),
            (json!({"a": "<not x>", "b": "<has yz>"}), json!({"a": "y", "b": "xyz"})),
        ];
        for (pattern, value) in good {
            assert!(matches(pattern.clone(), value.clone()).is_ok(), "{pattern} {value}");
        }
        let bad = [
            (json!({"a": 1}), json!({})),
            (json!({"a": "<none>"}), json!({"a": null})),
            (json!({"a": "<num 1..3>"}), json!({"a": 4})),
            (json!({"a": ["<any>"]}), json!({"a": []})),
            (json!({"a": "${known}"}), json!({"a": 8})),
            (json!({"a": "<text>"}), json!({"a": ""})),
            (json!({"a": "<size 2>"}), json!({"a": [1]})),
        ];
        for (pattern, value) in bad {
            let problem = matches(pattern.clone(), value.clone()).expect_err(&pattern.to_string());
            assert!(problem.contains("`a"), "{problem}");
        }
    }

    #[test]
    fn what_is_named_is_known_afterwards_but_only_where_all_holds() {
        let variables = matches(json!({"a": "<let run>"}), json!({"a": "r"})).unwrap();
        assert_eq!(variables.get("run").unwrap(), "r");
        let mut variables = Variables::default();
        let pattern = Pattern::new(json!({"a": "<let run>", "b": 1})).unwrap();
        assert!(pattern.matches(&json!({"a": "r", "b": 2}), &mut variables).is_err());
        assert!(variables.get("run").is_err());
    }
}
