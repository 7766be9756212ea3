//! A driver's output, decoded as Go's `json.Unmarshal` decodes it into the kubelet's `DriverStatus`
//! (pkg/volume/flexvolume/driver-call.go).

use serde_json::Map;
use serde_json::Value;

/// An answer as the kubelet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Success`, `Failure`, `Not supported`, or anything else; empty if missing.
    pub status: String,
    /// For people.
    pub message: String,
    /// The calls that the driver wants. `None` is a nil pointer, which the kubelet dereferences.
    pub capabilities: Option<Capabilities>,
}

/// The calls that a driver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The kubelet calls attach before each mount.
    pub attach: bool,
    /// The kubelet changes SELinux labels.
    pub selinux_relabel: bool,
    /// The kubelet calls statfs on the volume.
    pub supports_metrics: bool,
    /// The kubelet changes the owner of every file of a writable volume.
    pub fs_group: bool,
    /// The kubelet calls `expandfs`.
    pub requires_fs_resize: bool,
}

impl Default for Capabilities {
    /// The values if left out.
    fn default() -> Self {
        Self { attach: true, selinux_relabel: true, supports_metrics: false, fs_group: true, requires_fs_resize: true }
    }
}

impl Answer {
    /// Decodes the whole output of a driver.
    ///
    /// # Errors
    /// The decoder's message: not exactly one JSON value, or a known key of the wrong type.
    pub fn decode(output: &[u8]) -> Result<Self, String> {
        if output.trim_ascii().is_empty() {
            return Err("unexpected end of JSON input".to_owned());
        }
        let value: Value = serde_json::from_slice(output).map_err(|error| error.to_string())?;
        let mut answer =
            Self { status: String::new(), message: String::new(), capabilities: Some(Capabilities::default()) };
        match value {
            Value::Null => Ok(answer),
            Value::Object(fields) => answer.read(&fields).map(|()| answer),
            other => Err(format!("json: cannot unmarshal {} into Go value of type DriverStatus", kind(&other))),
        }
    }

    fn read(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        let (mut text, mut number) = (String::new(), 0);
        for (key, value) in fields {
            match key.to_lowercase().as_str() {
                "status" => string(key, value, &mut self.status)?,
                "message" => string(key, value, &mut self.message)?,
                "device" | "volumename" => string(key, value, &mut text)?,
                "attached" => boolean(key, value, &mut false)?,
                "volumenewsize" => integer(key, value, &mut number)?,
                "capabilities" => self.read_capabilities(key, value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_capabilities(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let fields = match value {
            Value::Null => {
                self.capabilities = None;
                return Ok(());
            }
            Value::Object(fields) => fields,
            other => return Err(mismatch(key, other, "DriverCapabilities")),
        };
        let mut capabilities = self.capabilities.unwrap_or_default();
        for (key, value) in fields {
            match key.to_lowercase().as_str() {
                "attach" => boolean(key, value, &mut capabilities.attach)?,
                "selinuxrelabel" => boolean(key, value, &mut capabilities.selinux_relabel)?,
                "supportsmetrics" => boolean(key, value, &mut capabilities.supports_metrics)?,
                "fsgroup" => boolean(key, value, &mut capabilities.fs_group)?,
                "requiresfsresize" => boolean(key, value, &mut capabilities.requires_fs_resize)?,
                _ => {}
            }
        }
        self.capabilities = Some(capabilities);
        Ok(())
    }
}

// Null leaves a field that is not a pointer unchanged.

fn string(key: &str, value: &Value, field: &mut String) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => {
            text.clone_into(field);
            Ok(())
        }
        other => Err(mismatch(key, other, "string")),
    }
}

fn boolean(key: &str, value: &Value, field: &mut bool) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::Bool(value) => {
            *field = *value;
            Ok(())
        }
        other => Err(mismatch(key, other, "bool")),
    }
}

fn integer(key: &str, value: &Value, field: &mut i64) -> Result<(), String> {
    match (value, value.as_i64()) {
        (Value::Null, _) => Ok(()),
        (_, Some(value)) => {
            *field = value;
            Ok(())
        }
        (other, None) => Err(mismatch(key, other, "int64")),
    }
}

fn mismatch(key: &str, value: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go struct field DriverStatus.{key} of type {wanted}", kind(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(output: &str) -> Result<Answer, String> {
        Answer::decode(output.as_bytes())
    }

    #[test]
    fn what_is_left_out_has_the_kubelets_defaults() {
        let answer = decode(r#"{"status":"Success"}"#).unwrap();
        let capabilities = answer.capabilities.unwrap();
        assert!(capabilities.attach && capabilities.fs_group && !capabilities.supports_metrics);
        let some = decode(r#"{"status":"Success","capabilities":{"attach":false}}"#).unwrap().capabilities.unwrap();
        assert!(!some.attach && some.fs_group && some.selinux_relabel && some.requires_fs_resize);
        assert_eq!(decode(r#"{"capabilities":null}"#).unwrap().capabilities, None);
        assert_eq!(decode("{}").unwrap().status, "");
    }

    #[test]
    fn keys_are_compared_without_case_and_unknown_ones_ignored() {
        let answer = decode("\n{\"STATUS\":\"Failure\",\"Message\":\"why\",\"more\":[1]}\n").unwrap();
        assert_eq!((answer.status.as_str(), answer.message.as_str()), ("Failure", "why"));
    }

    #[test]
    fn what_go_does_not_unmarshal_is_an_error() {
        for output in [
            "",
            "hello",
            "warning: x\n{\"status\":\"Success\"}",
            r#"{"status":"Success"}{"status":"Success"}"#,
            r#"{"status":"Success","message":3}"#,
            r#"{"status":"Success","attached":"true"}"#,
            r#"{"status":"Success","volumeNewSize":1.5}"#,
            r#"{"status":"Success","capabilities":[]}"#,
            r#"["Success"]"#,
            r#"{"status":"Success""#,
        ] {
            decode(output).unwrap_err();
        }
    }
}
