//! Reading a JSON object whose values are all texts.
//!
//! Serde's own errors quote what they stumble over, which may be a secret; these name the key and the type.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::Texts;
use super::shown;

/// Why an argument is no object of texts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// Broken, or cut off.
    #[error("the options are no JSON: line {line}, column {column}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// Something else than an object.
    #[error("the options are no JSON object")]
    NotAnObject,
    /// A value of another type. The kubelet passes texts only.
    #[error("the value of the option {key:?} is {found}, not a text")]
    NotText {
        /// Its key.
        key: String,
        /// Its type.
        found: &'static str,
    },
    /// One key twice.
    #[error("the option {key:?} is given twice")]
    Twice {
        /// Which.
        key: String,
    },
}

/// Reads the whole argument.
pub(super) fn read(argument: &[u8]) -> Result<Texts, JsonError> {
    let Object(members) = serde_json::from_slice(argument).map_err(|error| match error.classify() {
        Category::Data => JsonError::NotAnObject,
        Category::Syntax | Category::Eof | Category::Io => {
            JsonError::Syntax { line: error.line(), column: error.column() }
        }
    })?;
    let mut texts = BTreeMap::new();
    for (key, value) in members {
        let text = match value {
            Value::Text(text) => text,
            Value::Other(found) => return Err(JsonError::NotText { key: shown(&key), found }),
        };
        let key_shown = shown(&key);
        if texts.insert(key, text).is_some() {
            return Err(JsonError::Twice { key: key_shown });
        }
    }
    Ok(texts)
}

struct Object(Vec<(String, Value)>);

enum Value {
    Text(Zeroizing<String>),
    /// The name of its type.
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(Zeroizing::new(text)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other("true or false"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other("null"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other("a list"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other("an object"))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
