//! Reads a configuration file: one JSON object with fields of core, and possibly of a frontend.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error as _;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Error;
use serde_json::Value;

use crate::spec::nearest::nearest;

/// Reads two sets of fields. Missing fields keep the given values; fields in neither set are rejected.
pub(super) fn parse<A, B>(text: &str, one: A, other: B) -> Result<(A, B), Error>
where
    A: Serialize + DeserializeOwned,
    B: Serialize + DeserializeOwned,
{
    let (one, other) = (serde_json::to_value(one)?, serde_json::to_value(other)?);
    let known = [&one, &other].into_iter().filter_map(Value::as_object).flat_map(|fields| fields.keys());
    let known = Known(known.map(String::as_str).collect());
    known.deserialize(&mut serde_json::Deserializer::from_str(text))?;
    Ok((fields(text, one)?, fields(text, other)?))
}

/// Reads one set of fields and ignores others.
fn fields<T: DeserializeOwned>(text: &str, mut defaults: Value) -> Result<T, Error> {
    // Parsed once for errors with line and column, which a merged value no longer has.
    serde_json::from_str::<T>(text)?;
    merge(&mut defaults, serde_json::from_str(text)?)?;
    serde_json::from_value(defaults)
}

/// Overwrites the fields of `base` with those of `over`, object by object.
///
/// # Errors
/// If an object is expected and an array is found, which serde alone would accept as the fields' values.
fn merge(base: &mut Value, over: Value) -> Result<(), Error> {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.into_iter().try_for_each(|(field, value)| merge(base.entry(field).or_insert(Value::Null), value))
        }
        (Value::Object(base), Value::Array(_)) => {
            let fields: Vec<&str> = base.keys().map(String::as_str).collect();
            Err(Error::custom(format!("an object with the fields {} is expected", fields.join(", "))))
        }
        (base, over) => {
            *base = over;
            Ok(())
        }
    }
}

/// The names of all fields. Reads an object, and rejects it for any other name.
struct Known<'a>(Vec<&'a str>);

impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Known<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<String>()? {
            if !self.0.contains(&field.as_str()) {
                return Err(A::Error::custom(self.unknown(&field)));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Known<'_> {
    fn unknown(&self, field: &str) -> String {
        match nearest(field, self.0.iter().copied()) {
            Some(name) => format!("unknown field `{field}`, did you mean `{name}`?"),
            None => format!("unknown field `{field}`, expected one of `{}`", self.0.join("`, `")),
        }
    }
}
