//! The parser of repository URLs, in front of git's: on any input it does not panic, and a URL that it accepts has one
//! canonical form that parses to the same URL.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd tests/fuzz && cargo +nightly fuzz run repository_url -- -max_len=512 -max_total_time=60
//! ```
//!
//! A failing input is kept under `artifacts/repository_url/`, and `cargo +nightly fuzz run repository_url FILE` repeats
//! it. Then add it to the tables of `gitrepo-core/src/spec/url/tests.rs`, which check the same properties on stable
//! Rust with every `cargo test`.

#![no_main]

use gitrepo_core::spec::RepositoryUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(url) = RepositoryUrl::parse(text) else { return };
    let canonical = url.canonical();
    assert_eq!(RepositoryUrl::parse(&canonical).as_ref(), Ok(&url), "{canonical}");
    assert!(!canonical.contains(|character: char| character.is_control() || character.is_whitespace()));
    assert!(!url.path().starts_with('-') && !url.path().split('/').any(|part| part == ".."));
    assert!(url.host().is_none_or(|host| !host.starts_with('-') && host.is_ascii()));
    assert!(!url.path().contains('\0'));
});
