//! The snapshot format that whole runs of the suites use.

use std::env;

use serde_json::Value;

/// `image` or `directory`: the `snapshotFormat` of every configuration that tests give to the programs and that names
/// none. Unset: `auto`.
pub const FORMAT: &str = "GITREPO_TEST_SNAPSHOT_FORMAT";

/// The format of the snapshots of read-only volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain files.
    Directory,
    /// EROFS images.
    Image,
}

/// Adds this format to a configuration, unless that names one.
pub(crate) fn set(configuration: &mut Value, format: Format) {
    let format = match format {
        Format::Directory => "directory",
        Format::Image => "image",
    };
    let fields = configuration.as_object_mut().expect("a configuration is an object");
    fields.entry("snapshotFormat").or_insert_with(|| format.into());
}

/// Adds the chosen format to a configuration, unless that names one.
pub(crate) fn add_to(configuration: &mut Value) {
    let Some(format) = env::var_os(FORMAT) else { return };
    let format = format.to_str().filter(|format| ["image", "directory"].contains(format));
    let format = format.unwrap_or_else(|| panic!("{FORMAT} is neither image nor directory"));
    let fields = configuration.as_object_mut().expect("a configuration is an object");
    fields.entry("snapshotFormat").or_insert_with(|| format.into());
}
