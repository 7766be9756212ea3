//! The value of `Location`: what is followed stays on its host, and a message shows no secret. The properties are those of
//! `gitrepo_core::testing::fuzz::location`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run redirect_location -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::location(bytes));
