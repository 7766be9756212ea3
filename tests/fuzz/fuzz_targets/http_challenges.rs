//! The values of `WWW-Authenticate`, one a line: no other challenge hides Basic. The properties are those of
//! `gitrepo_core::testing::fuzz::challenges`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run http_challenges -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::challenges(bytes));
