//! A driver's output, decoded as Go's `json.Unmarshal` decodes it into the kubelet's `DriverStatus`
//! (pkg/volume/flexvolume/driver-call.go).

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

/// An answer as the kubelet sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// `Success`, `Failure`, `Not supported`, or anything else; empty if missing.
    pub status: String,
    /// For people.
    pub message: String,
    /// The calls that the driver wants. `None` is a nil pointer, which the kubelet dereferences.
    #[serde(default = "some_default")]
    pub capabilities: Option<Capabilities>,
    device: String,
    #[serde(rename = "volumename")]
    volume_name: String,
    attached: bool,
    #[serde(rename = "volumenewsize")]
    volume_new_size: i64,
}

/// The calls that a driver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The kubelet calls attach before each mount.
    pub attach: bool,
    /// The kubelet changes SELinux labels.
    #[serde(rename = "selinuxrelabel")]
    pub selinux_relabel: bool,
    /// The kubelet calls statfs on the volume.
    #[serde(rename = "supportsmetrics")]
    pub supports_metrics: bool,
    /// The kubelet changes the owner of every file of a writable volume.
    #[serde(rename = "fsgroup")]
    pub fs_group: bool,
    /// The kubelet calls `expandfs`.
    #[serde(rename = "requiresfsresize")]
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
        let mut fields = match serde_json::from_slice(output).map_err(|error| error.to_string())? {
            Value::Null => Map::new(),
            Value::Object(fields) => as_go_matches(fields),
            other => return Err(format!("json: cannot unmarshal {other} into Go value of type DriverStatus")),
        };
        match fields.get_mut("capabilities") {
            Some(Value::Object(capabilities)) => *capabilities = as_go_matches(std::mem::take(capabilities)),
            None | Some(Value::Null) => {}
            Some(other) => return Err(format!("json: cannot unmarshal {other} into DriverStatus.capabilities")),
        }
        serde_json::from_value(fields.into()).map_err(|error| format!("json: cannot unmarshal DriverStatus: {error}"))
    }
}

fn some_default() -> Option<Capabilities> {
    Some(Capabilities::default())
}

/// Go compares keys without case. Null leaves a field unchanged that is not a pointer, as `capabilities` is.
fn as_go_matches(fields: Map<String, Value>) -> Map<String, Value> {
    let fields = fields.into_iter().map(|(key, value)| (key.to_lowercase(), value));
    fields.filter(|(key, value)| !value.is_null() || key == "capabilities").collect()
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
