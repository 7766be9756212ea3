//! Secrets that must not appear anywhere, in any encoding.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Byte strings to look for.
pub struct Canaries(Vec<Vec<u8>>);

impl Canaries {
    /// These words, plain and in base64.
    pub fn new(words: &[&str]) -> Self {
        let plain = words.iter().map(|word| word.as_bytes().to_vec());
        let encoded = words.iter().map(|word| BASE64_STANDARD.encode(word).trim_end_matches('=').as_bytes().to_vec());
        Self(plain.chain(encoded).collect())
    }

    /// Also as HTTP login credentials.
    #[must_use]
    pub fn with_login(mut self, username: &str, password: &str) -> Self {
        self.0.push(BASE64_STANDARD.encode(format!("{username}:{password}")).into_bytes());
        self
    }

    /// Also every line of a private key, plain and as part of a secret in base64.
    #[must_use]
    pub fn with_key(mut self, private: &str) -> Self {
        let lines = private.lines().filter(|line| !line.starts_with("-----"));
        self.0.extend(lines.map(|line| line.as_bytes().to_vec()));
        let encoded = BASE64_STANDARD.encode(private);
        self.0.extend(encoded.as_bytes().chunks_exact(64).map(<[u8]>::to_vec));
        self
    }

    /// Fails if `bytes` contain any of them.
    pub fn assert_absent(&self, what: &str, bytes: &[u8]) {
        for canary in &self.0 {
            let found = bytes.windows(canary.len()).position(|window| window == canary);
            let around =
                |at: usize| bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())].escape_ascii().to_string();
            assert!(found.is_none(), "{what} has {}: …{}…", canary.escape_ascii(), found.map(around).unwrap());
        }
    }

    /// Fails if a file below `directory` contains any of them, in its content or name.
    pub fn assert_absent_below(&self, directory: &Path) {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = entry.path();
            self.assert_absent("a name", path.as_os_str().as_encoded_bytes());
            // Ignore files that disappear meanwhile: they are checked another time, or never existed for long.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.assert_absent_below(&path),
                Ok(kind) if kind.is_file() => {
                    self.assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
}
