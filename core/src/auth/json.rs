//! JSON as a token may hold it: an object without a name twice, at any level, and without deep nesting.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep objects and lists may nest, the outermost included. Identity providers use up to 5.
pub(super) const MAX_DEPTH: usize = 16;

/// The members of an object, by name.
pub(super) type Object<'a> = BTreeMap<String, Json<'a>>;

/// A value, as far as claims need to tell.
#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// An integer from zero.
    Unsigned(u64),
    /// Any other number; finite.
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
    /// `null`, `true`, `false`: no claim has such a value.
    Other,
}

/// Why a text is not such an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NotAnObject,
    Duplicate,
    TooDeep,
}

/// Reads one object and nothing after it.
pub(super) fn parse(bytes: &[u8]) -> Result<Object<'_>, Fault> {
    let fault = Cell::new(Fault::NotAnObject);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Value { depth: 0, fault: &fault }.deserialize(&mut deserializer).map_err(|_| fault.get())?;
    deserializer.end().map_err(|_| Fault::NotAnObject)?;
    if let Json::Object(object) = value { Ok(object) } else { Err(Fault::NotAnObject) }
}

/// Serde's errors are texts that may quote the token, so the reason travels beside them.
#[derive(Clone, Copy)]
struct Value<'f> {
    depth: usize,
    fault: &'f Cell<Fault>,
}

impl Value<'_> {
    fn refuse<E: Error>(self, fault: Fault) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.refuse(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(u64::try_from(number).map_or(Json::Float(number as f64), Json::Unsigned))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut object = Object::new();
        while let Some(name) = map.next_key::<String>()? {
            if object.insert(name, map.next_value_seed(inner)?).is_some() {
                return Err(self.refuse(Fault::Duplicate));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn values_keep_their_kind() {
        let object = parse(br#" {"a":1,"b":-1,"c":1.5,"d":"x\n","e":[null,{}],"f":true} "#).unwrap();
        assert_eq!(object["a"], Json::Unsigned(1));
        assert_eq!(object["b"], Json::Float(-1.0));
        assert_eq!(object["c"], Json::Float(1.5));
        assert_eq!(object["d"], Json::Text("x\n".into()));
        assert_eq!(object["e"], Json::List(vec![Json::Other, Json::Object(Object::new())]));
        assert_eq!(object["f"], Json::Other);
    }

    #[test]
    fn a_name_twice_is_refused_at_any_level_and_in_any_spelling() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#] {
            assert_eq!(parse(twice.as_bytes()), Err(Fault::Duplicate), "{twice}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(Fault::TooDeep));
        assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(Fault::TooDeep));
    }

    #[test]
    fn only_one_object_and_nothing_else() {
        for wrong in ["", "1", "[]", "{}{}", "{} x", "{", r#"{"a":1e999}"#, "{'a':1}", "\u{feff}{}"] {
            assert_eq!(parse(wrong.as_bytes()), Err(Fault::NotAnObject), "{wrong:?}");
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}"), Err(Fault::NotAnObject));
    }
}
