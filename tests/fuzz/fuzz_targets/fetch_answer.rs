//! The answer to a fetch: what comes before the pack, and the pack out of its side bands. The properties are those of
//! `gitrepo_core::testing::fuzz::fetch`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run fetch_answer -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::fetch(bytes));
