//! The driver's configuration to install, combined from a file, options and the environment.

use std::path::Path;

use gitrepo_core::policy::Config;
use gitrepo_core::policy::ConfigError;
use gitrepo_frontend::configuration::Configuration;
use gitrepo_frontend::log::LogFormat;
use gitrepo_frontend::log::LogLevel;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::arguments;
use crate::error::InstallError;

/// The environment variable that enables debug logging, as in the bash driver's installer.
const DEBUG: &str = "DEBUG";

/// A configuration and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The parsed configuration.
    pub(crate) configuration: Configuration,
    /// The content of the file. It has only the given fields: a later version may change the defaults of others.
    pub(crate) content: Vec<u8>,
}

/// Reads the configuration, and overrides it with the options and the environment.
pub(crate) fn read(arguments: &arguments::Settings) -> Result<Settings, InstallError> {
    let debug = std::env::var(DEBUG).is_ok_and(|value| value == "true");
    let level = arguments.log_level.or(debug.then_some(LogLevel::Debug));
    let format = arguments.log_format;
    let (path, text) = match &arguments.config {
        Some(path) => {
            let source = std::fs::read_to_string(path);
            (path.as_path(), source.map_err(|source| ConfigError::Read { path: path.clone(), source })?)
        }
        None => (Path::new("of the options"), "{}".to_owned()),
    };
    Ok(combine(path, &text, level, format)?)
}

fn combine(
    path: &Path,
    text: &str,
    level: Option<LogLevel>,
    format: Option<LogFormat>,
) -> Result<Settings, ConfigError> {
    // Parse the original text only to get errors with line and column.
    Configuration::parse(text, path, Config::for_drivers())?;
    let refused = |source| ConfigError::Parse { path: path.to_owned(), source };
    let mut fields: Value = serde_json::from_str(text).map_err(refused)?;
    set(&mut fields, "level", level).map_err(refused)?;
    set(&mut fields, "format", format).map_err(refused)?;
    let content = format!("{fields:#}\n");
    let configuration = Configuration::parse(&content, path, Config::for_drivers())?;
    Ok(Settings { configuration, content: content.into_bytes() })
}

/// Sets a field of `log`.
fn set(fields: &mut Value, field: &str, value: Option<impl Serialize>) -> Result<(), serde_json::Error> {
    let Some(value) = value else { return Ok(()) };
    if let Value::Object(fields) = fields
        && let Value::Object(log) = fields.entry("log").or_insert_with(|| json!({}))
    {
        log.insert(field.to_owned(), serde_json::to_value(value)?);
    }
    Ok(())
}
