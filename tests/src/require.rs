//! Requirements of tests on the machine: without them a test is visibly skipped, or fails where everything must run.
//!
//! ```ignore
//! if !require::root("to mount") {
//!     return;
//! }
//! ```

use std::env;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// If this variable is `1` (continuous integration), a missing requirement fails the test instead of skipping it.
pub const REQUIRE_ALL: &str = "GITREPO_REQUIRE_ALL";

/// Whether the test runs as root, which it needs for `purpose` ("to mount").
pub fn root(purpose: &str) -> bool {
    nix::unistd::geteuid().is_root() || missing(&format!("root is needed {purpose}"))
}

/// Whether the program `name` is installed.
pub fn tool(name: &str) -> bool {
    find(name).is_some() || missing(&format!("{name} is not installed"))
}

/// Whether the kernel or machine has a feature, as detected by the test.
pub fn feature(present: bool, what: &str) -> bool {
    present || missing(&format!("this machine lacks {what}"))
}

/// Whether the kernel has a feature that few kernels have: without it the test is skipped everywhere.
pub fn rare_feature(present: bool, what: &str) -> bool {
    if !present {
        skipped(&format!("this kernel lacks {what}"));
    }
    present
}

/// The path of the program `name`. Searches system directories too, which an ordinary user's `PATH` may lack.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| Path::is_file(file))
}

/// Always `false`. Bypasses the test runner's capture, which would hide the message of a passing test.
fn missing(what: &str) -> bool {
    assert!(
        env::var_os(REQUIRE_ALL).is_none_or(|value| value != "1"),
        "{what}, and {REQUIRE_ALL}=1 allows no skipping"
    );
    skipped(what);
    false
}

fn skipped(what: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "SKIPPED {name}: {what}").expect("standard error is open");
}
