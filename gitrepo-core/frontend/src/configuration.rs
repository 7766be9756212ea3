//! The configuration file: one JSON object with one schema for all frontends. They all apply the same checks, so a file
//! is valid for all of them or for none.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::policy::Config;
use gitrepo_core::policy::ConfigError;
use gitrepo_core::spec::Writable;
use gitrepo_core::spec::duration;
use serde::Deserialize;
use serde::Serialize;

use crate::log::LogConfig;

/// Everything that an admin can set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The fields of core.
    pub core: Config,
    /// The fields of the frontends.
    pub frontend: FrontendConfig,
}

/// The fields of the frontends, beside core's in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendConfig {
    /// How the drivers log.
    pub log: LogConfig,
    /// Directories that the FlexVolume option `hostTarget` may select.
    pub host_target_roots: Vec<PathBuf>,
    /// How long a FlexVolume mount may run before it fails.
    #[serde(with = "duration")]
    pub flex_timeout: Duration,
    /// Which pods share a writable FlexVolume without the option `writable`: one copy for all targets of the volume on
    /// this node, or a private one for each. The kubelet tells the driver a volume's name, but not whether it names a
    /// PersistentVolume, which pods share, or an inline volume, which belongs to one pod.
    pub flex_writable: Writable,
}

impl Default for FrontendConfig {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            host_target_roots: vec!["/data/images".into(), "/var/tmp/images".into()],
            flex_timeout: Duration::from_secs(10 * 60),
            flex_writable: Writable::Shared,
        }
    }
}

impl Configuration {
    /// Reads a file. Missing fields keep their values in `core`, or the defaults of the frontends.
    pub fn read(path: &Path, core: Config) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path);
        Self::parse(&text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?, path, core)
    }

    /// Parses the text of a file, like [`Configuration::read`]. Errors name `path`.
    pub fn parse(text: &str, path: &Path, core: Config) -> Result<Self, ConfigError> {
        let (core, frontend) = Config::parse_with(text, path, core, FrontendConfig::default())?;
        let configuration = Self { core, frontend };
        match configuration.invalid_field() {
            Some((field, reason)) => Err(ConfigError::Invalid { path: path.to_owned(), field, reason }),
            None => Ok(configuration),
        }
    }

    /// Returns a field of the frontends whose value is invalid, and the reason.
    fn invalid_field(&self) -> Option<(&'static str, &'static str)> {
        let (store, roots) = (&self.core.store, &self.frontend.host_target_roots);
        if !roots.iter().all(|root| is_clean(root)) {
            return Some(("hostTargetRoots", "must be absolute paths without `..`"));
        }
        if roots.iter().any(|root| root != store && root.starts_with(store)) {
            return Some(("hostTargetRoots", "must not lie inside the store"));
        }
        if self.frontend.flex_writable == Writable::Copy {
            return Some(("flexWritable", "must be shared or private"));
        }
        self.frontend.flex_timeout.is_zero().then_some(("flexTimeout", "is 0, so that no volume could be mounted"))
    }
}

/// Whether the path is absolute, without `..`.
fn is_clean(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use gitrepo_core::error::Kind;
    use serde_json::Value;

    use super::*;
    use crate::log::LogFormat;
    use crate::log::LogLevel;

    fn parse(text: &str) -> Result<Configuration, ConfigError> {
        Configuration::parse(text, Path::new("/etc/gitrepo.json"), Config::for_drivers())
    }

    /// The reference documentation.
    fn documentation() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        std::fs::read_to_string(path).unwrap()
    }

    /// Returns the paths of all fields that are not objects, such as `limits.entries`.
    fn fields(prefix: &str, value: &Value) -> Vec<String> {
        let Some(object) = value.as_object() else { return vec![prefix.to_owned()] };
        let path = |name: &String| if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        object.iter().flat_map(|(name, value)| fields(&path(name), value)).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let documentation = documentation();
        let (_, after) = documentation.split_once("```json\n").unwrap();
        let (defaults, _) = after.split_once("```").unwrap();
        // Check that every field is named: a missing one would silently keep its default.
        let named: serde_json::Map<String, Value> = serde_json::from_str(defaults).unwrap();
        let own = serde_json::to_value(FrontendConfig::default()).unwrap();
        assert!(own.as_object().unwrap().keys().all(|field| named.contains_key(field)), "{own}");
        assert_eq!(parse(defaults).unwrap(), Configuration::default());
        assert_eq!(parse("{}").unwrap(), Configuration::default());
    }

    #[test]
    fn every_field_is_documented() {
        let documentation = documentation();
        let Configuration { core, frontend } = Configuration::default();
        let values = [serde_json::to_value(core).unwrap(), serde_json::to_value(frontend).unwrap()];
        for field in values.iter().flat_map(|value| fields("", value)) {
            assert!(documentation.contains(&format!("`{field}`")), "{field}");
        }
    }

    #[test]
    fn core_and_the_frontends_read_one_file() {
        let text = r#"{
            "store": "/s", "hostTargetRoots": [], "limits": { "entries": 5 },
            "log": { "level": "debug", "format": "text" }, "flexTimeout": "90s", "flexWritable": "private"
        }"#;
        let configuration = Configuration::parse(text, Path::new("c"), Config::for_person()).unwrap();
        assert_eq!((configuration.core.store.as_path(), configuration.core.limits.entries), (Path::new("/s"), 5));
        assert!(configuration.core.allow_loopback, "as in the given defaults");
        let frontend = FrontendConfig {
            log: LogConfig { level: LogLevel::Debug, format: LogFormat::Text },
            host_target_roots: Vec::new(),
            flex_timeout: Duration::from_secs(90),
            flex_writable: Writable::Private,
        };
        assert_eq!(configuration.frontend, frontend);
    }

    #[test]
    fn invalid_values_are_refused() {
        for text in [
            r#"{ "store": "relative" }"#,
            r#"{ "hostTargetRoots": ["x"] }"#,
            r#"{ "hostTargetRoots": ["/data/../etc"] }"#,
            r#"{ "hostTargetRoots": ["/var/lib/gitrepo/images"] }"#,
            r#"{ "flexTimeout": "0s" }"#,
            r#"{ "flexTimeout": 600 }"#,
            r#"{ "flexTimeout": "1m", "flexTimeout": "1m" }"#,
            r#"{ "flexWritable": "copy" }"#,
            r#"{ "log": { "level": "verbose" } }"#,
            r#"{ "log": { "format": "xml" } }"#,
            r#"{ "log": ["debug", "text"] }"#,
            r#"{ "log": null }"#,
            "[]",
            "{",
        ] {
            assert_eq!(parse(text).map_err(|error| error.kind()), Err(Kind::InvalidRequest), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_and_errors_name_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let missing = Configuration::read(&path, Config::for_drivers()).unwrap_err();
        assert!(missing.to_string().contains("config.json") && missing.kind() == Kind::InvalidRequest, "{missing}");
        std::fs::write(&path, r#"{ "flexWritable": "private" }"#).unwrap();
        let configuration = Configuration::read(&path, Config::for_drivers()).unwrap();
        assert_eq!(configuration.frontend.flex_writable, Writable::Private);
    }
}
