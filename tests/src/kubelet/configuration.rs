//! The driver's configuration file as a test writes it.

use serde_json::Value;

/// Puts the fields of `over` over those of `base`, object by object, as the driver itself does with its defaults.
pub(super) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.iter().for_each(|(field, value)| merge(base.entry(field).or_insert(Value::Null), value));
        }
        (base, over) => *base = over.clone(),
    }
}
