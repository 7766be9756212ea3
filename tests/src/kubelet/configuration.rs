//! The driver's configuration file in tests.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::snapshot_format;

/// Writes a configuration for servers on the loopback and small file systems, with these fields instead or in addition.
pub(super) fn write(file: &Path, fields: &Value) {
    let mut configuration = json!({
        "allowLoopback": true,
        "credentialsOverHttp": true,
        "cache": { "reserveBytes": "0" },
        "log": { "level": "trace" },
    });
    merge(&mut configuration, fields);
    snapshot_format::add_to(&mut configuration);
    std::fs::write(file, configuration.to_string()).unwrap();
}

/// Overrides fields of `base` with those of `over`, object by object, as the driver does with its defaults.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.iter().for_each(|(field, value)| merge(base.entry(field).or_insert(Value::Null), value));
        }
        (base, over) => *base = over.clone(),
    }
}
