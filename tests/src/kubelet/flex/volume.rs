//! A FlexVolume in a manifest, and the options for the driver.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::kubelet::Pod;

/// A volume of a FlexVolume driver.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The name of the volume in the pod, or of the PersistentVolume.
    pub name: String,
    fs_type: String,
    options: BTreeMap<String, String>,
    secret: BTreeMap<String, Vec<u8>>,
    read_only: bool,
}

impl Volume {
    /// A volume in a pod spec: `volumes[].flexVolume`.
    pub fn inline(name: &str, options: &[(&str, &str)]) -> Self {
        let none = Self {
            name: name.to_owned(),
            fs_type: String::new(),
            options: BTreeMap::new(),
            secret: BTreeMap::new(),
            read_only: false,
        };
        options.iter().fold(none, |volume, (key, value)| volume.with_option(key, value))
    }

    /// A volume behind a claim. The driver sees only its name, and that people set `fsType`.
    pub fn persistent(name: &str, options: &[(&str, &str)]) -> Self {
        Self { fs_type: "git".to_owned(), ..Self::inline(name, options) }
    }

    /// `readOnly: true`, inline or at the pod's claim.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Adds an option that the API server accepts.
    #[must_use]
    pub fn with_option(self, key: &str, value: &str) -> Self {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let reserved = ["kubernetes.io", "k8s.io"].iter().any(|reserved| domain.ends_with(reserved));
        assert!(!reserved, "the API server refuses the option {key}");
        self.with_forged_option(key, value)
    }

    /// Adds an option that the API server would refuse.
    #[must_use]
    pub fn with_forged_option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a secret with these keys.
    #[must_use]
    pub fn with_secret(mut self, keys: &[(&str, &str)]) -> Self {
        self.secret = keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        self
    }

    /// Whether the kubelet treats it as read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The options for a mount, in the order of `NewOptionsForDriver`: the user's last.
    pub fn options(&self, pod: &Pod) -> BTreeMap<String, String> {
        let mut options: BTreeMap<String, String> = [
            ("fsType", self.fs_type.as_str()),
            ("readwrite", if self.read_only { "ro" } else { "rw" }),
            ("pvOrVolumeName", &self.name),
            ("pod.name", &pod.name),
            ("pod.namespace", &pod.namespace),
            ("pod.uid", &pod.uid),
            ("serviceAccount.name", &pod.service_account),
        ]
        .into_iter()
        .map(|(key, value)| (format!("kubernetes.io/{key}"), value.to_owned()))
        .collect();
        let secret = self.secret.iter();
        options
            .extend(secret.map(|(key, value)| (format!("kubernetes.io/secret/{key}"), BASE64_STANDARD.encode(value))));
        let group = pod.fs_group.iter();
        options.extend(group.map(|group| ("kubernetes.io/mounterArgs.FsGroup".to_owned(), group.to_string())));
        options.extend(self.options.clone());
        options
    }

    /// The options as the JSON argument.
    pub fn json(&self, pod: &Pod) -> String {
        go_json(&self.options(pod))
    }
}

/// A map as Go's `json.Marshal` writes it: sorted keys, and escaped HTML characters.
fn go_json(options: &BTreeMap<String, String>) -> String {
    let mut json = serde_json::to_string(options).unwrap();
    // None of these occurs outside of strings.
    for (character, escaped) in
        [("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")]
    {
        json = json.replace(character, escaped);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recorded call of a kubelet.
    #[test]
    fn an_inline_volumes_options_are_those_of_a_real_call() {
        let pod = Pod { uid: "8a435348-0000".to_owned(), ..Pod::new("flex-b").with_fs_group(2000) };
        let options = [
            ("repository", "git://git.example.org/small.git"),
            ("revision", "v1"),
            ("weird key/with \"quotes\" & <x>", "välue € <&>"),
        ];
        let volume = Volume { fs_type: "git".to_owned(), ..Volume::inline("gitdata", &options) };
        assert_eq!(
            volume.with_secret(&[("username", "me"), ("password", "pass")]).json(&pod),
            concat!(
                r#"{"kubernetes.io/fsType":"git","kubernetes.io/mounterArgs.FsGroup":"2000","#,
                r#""kubernetes.io/pod.name":"flex-b","kubernetes.io/pod.namespace":"default","#,
                r#""kubernetes.io/pod.uid":"8a435348-0000","kubernetes.io/pvOrVolumeName":"gitdata","#,
                r#""kubernetes.io/readwrite":"rw","kubernetes.io/secret/password":"cGFzcw==","#,
                r#""kubernetes.io/secret/username":"bWU=","kubernetes.io/serviceAccount.name":"default","#,
                r#""repository":"git://git.example.org/small.git","revision":"v1","#,
                r#""weird key/with \"quotes\" \u0026 \u003cx\u003e":"välue € \u003c\u0026\u003e"}"#,
            )
        );
    }

    #[test]
    #[should_panic(expected = "refuses the option")]
    fn reserved_keys_do_not_get_past_the_api_server() {
        drop(Volume::inline("v", &[("kubernetes.io/pod.namespace", "other")]));
    }
}
