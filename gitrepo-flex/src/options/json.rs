//! Parses a JSON object whose values are all strings. Keys and values are wiped when dropped.
//!
//! `serde_json` does the parsing. Its errors quote the input, which may be secret; the errors of this module contain
//! only the position, or the key and the type. Of two values with the same key a `serde_json` object would keep only
//! the last, so [`Members`] keeps both.

use std::fmt;
use std::mem;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroize;
use zeroize::Zeroizing;

use super::beginning;

/// Keys and values, sorted by key, without duplicates. All are wiped when dropped.
pub(super) type Texts = Vec<(Zeroizing<String>, Zeroizing<String>)>;

/// Why the options are refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// The text is malformed or truncated.
    #[error("the options are not valid JSON (line {line}, column {column})")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The text is not an object.
    #[error("the options are not a JSON object")]
    NotAnObject,
    /// The value is not a string. The kubelet passes only strings.
    #[error("the value of the option {key:?} is {found}, not a string")]
    NotText {
        /// The key.
        key: String,
        /// The type found.
        found: &'static str,
    },
    /// A key occurs twice.
    #[error("the option {key:?} is given twice")]
    Twice {
        /// The key.
        key: String,
    },
}

/// Parses the argument.
pub(super) fn read(argument: &[u8]) -> Result<Texts, JsonError> {
    let Members(members) = serde_json::from_slice(argument).map_err(|error| match error.classify() {
        Category::Data => JsonError::NotAnObject,
        Category::Syntax | Category::Eof | Category::Io => {
            JsonError::Syntax { line: error.line(), column: error.column() }
        }
    })?;
    let mut texts = members.into_iter().map(|(key, value)| text(key, value)).collect::<Result<Texts, _>>()?;
    texts.sort_by(|(one, _), (other, _)| one.cmp(other));
    match texts.windows(2).find(|two| two[0].0 == two[1].0) {
        Some(two) => Err(JsonError::Twice { key: beginning(&two[0].0) }),
        None => Ok(texts),
    }
}

fn text(key: Zeroizing<String>, mut value: Wiped) -> Result<(Zeroizing<String>, Zeroizing<String>), JsonError> {
    let found = match &mut value.0 {
        Value::String(text) => return Ok((key, Zeroizing::new(mem::take(text)))),
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Err(JsonError::NotText { key: beginning(&key), found })
}

/// A value, wiped when dropped.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Wipes a value. The recursion is bounded: `serde_json` refuses more than 128 nested values.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => {
            for (mut key, mut value) in mem::take(members) {
                key.zeroize();
                wipe(&mut value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// All members of an object, in order. If parsing fails, the members read before are wiped, too.
struct Members(Vec<(Zeroizing<String>, Wiped)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key().map(|key| key.map(Zeroizing::new))? {
                    members.push((key, Wiped(map.next_value()?)));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wiped_value_contains_nothing_that_was_read() {
        let mut value = json!(["canary", {"canary": ["canary", {"canary": "canary"}]}, 1, null]);
        wipe(&mut value);
        assert_eq!(value, json!(["", {}, 1, null]));
    }

    #[test]
    fn an_error_has_its_line_and_column() {
        let refused = read(b"{\n\"a\": \"canary\",\n\"b\" \"canary\"}").unwrap_err();
        assert_eq!(refused.to_string(), "the options are not valid JSON (line 3, column 5)");
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(nested(100).as_bytes()), Err(JsonError::NotText { key: "a".into(), found: "a list" }));
        assert!(matches!(read(nested(200).as_bytes()), Err(JsonError::Syntax { .. })));
    }
}
