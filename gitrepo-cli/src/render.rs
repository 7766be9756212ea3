//! Prints results to stdout and errors to stderr; with `--json`, either as one object on stdout.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io;
use std::io::Write;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use serde::Serialize;

use crate::error::CommandError;

/// Prints a result as text, or with `--json` as one object.
pub(crate) fn result<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CommandError> {
    let line = if json {
        serde_json::to_string(value).map_err(|error| CommandError::Output(error.into()))?
    } else {
        text(value)
    };
    if line.is_empty() {
        return Ok(());
    }
    raw(format!("{line}\n").as_bytes())
}

/// Prints bytes as they are. A reader that closes the pipe early, such as `head`, causes no error.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(error)),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    kind: Kind,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Prints why a command failed and how to fix it.
pub(crate) fn error(error: &CommandError, json: bool) {
    let message = chain(error);
    if json {
        let failure = Failure { kind: error.kind(), message, hint: error.hint() };
        if let Ok(line) = serde_json::to_string(&BTreeMap::from([("error", failure)])) {
            raw(format!("{line}\n").as_bytes()).ok();
        }
        return;
    }
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "error: {message}").ok();
    if let Some(hint) = error.hint() {
        writeln!(stderr, "hint: {hint}").ok();
    }
}
