//! The driver's configuration file in tests.

use serde_json::Value;

/// Overrides fields of `base` with those of `over`, object by object, as the driver does with its defaults.
pub(super) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.iter().for_each(|(field, value)| merge(base.entry(field).or_insert(Value::Null), value));
        }
        (base, over) => *base = over.clone(),
    }
}
