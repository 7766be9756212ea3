//! How much the drivers log, and in which format.

use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

/// The field `log` of the configuration. `gitrepo-cli` does not use it: it has `--verbose`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogConfig {
    /// Which messages are logged.
    pub level: LogLevel,
    /// How they are formatted.
    pub format: LogFormat,
}

/// Log level. Each level includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures
    Error,
    /// Unusual events
    Warn,
    /// Completed operations
    #[default]
    Info,
    /// Details of operations
    Debug,
    /// Every step
    Trace,
}

/// Log format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For machines: one JSON object per line
    #[default]
    Json,
    /// For people
    Text,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Longest name in a line, in characters.
const LONGEST: usize = 256;

/// Makes a name that others chose safe for a line of a log.
pub fn printable(text: &str) -> String {
    let start = text.chars().take(LONGEST);
    start.map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_name_are_replaced() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(printable(&"ä".repeat(1000)).chars().count(), LONGEST);
    }
}
