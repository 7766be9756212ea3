//! A server's first words, of every version of git's protocol: capabilities, and before version 2 its refs. The properties are those of
//! `gitrepo_core::testing::fuzz::hello`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run server_hello -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::hello(bytes));
