//! Features that libgit2 offers only as process-wide switches, or only through its C interface.
//!
//! libgit2 keeps its options in plain C globals. They are all set once, before this process uses libgit2 for anything
//! else.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use git2::ConfigLevel;
use git2::ErrorClass;
use git2::ErrorCode;
use git2::opts;
use libc::c_int;
use libgit2_sys as raw;

/// A path where nothing exists.
const NOWHERE: &str = "/nonexistent";

/// Size of one mapped part of a pack. A pack of one revision fits in a few.
const WINDOW_BYTES: usize = 32 << 20;

/// Limit for all mapped parts together; libgit2's default of 8 GiB exceeds the worker's memory limit.
const MAPPED_BYTES: usize = 256 << 20;

/// Limit for the cache of parsed objects. Trees and commits are read once each, so a large cache is useless.
const CACHE_BYTES: isize = 32 << 20;

/// Sets the options for every use of libgit2 in this process: nothing of the host is read, and memory is bounded. Must
/// be called before any other use of libgit2.
pub(crate) fn isolate() -> Result<(), git2::Error> {
    static DONE: Once = OnceLock::new();
    once(&DONE, || {
        // Code that reads a tree for a volume verifies hashes itself, in hardware: `snapshot::object`. The object ids
        // of a received pack are computed from its content in any case.
        opts::strict_hash_verification(false);
        // SAFETY: the setters write C globals without a lock. `once` runs this a single time, and every user of libgit2
        // in this crate waits here until it has.
        unsafe {
            for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
                opts::set_search_path(level, "")?;
            }
            opts::set_mwindow_size(WINDOW_BYTES)?;
            opts::set_mwindow_mapped_limit(MAPPED_BYTES)?;
            opts::set_cache_max_size(CACHE_BYTES)?;
            // The worker's uid differs from the owner of the store that it reads, and libgit2 runs nothing from it.
            opts::set_verify_owner_validation(false)?;
        }
        set_text(raw::GIT_OPT_SET_TEMPLATE_PATH, Path::new(NOWHERE))
    })
}

/// The result of setting options once.
type Once = OnceLock<Result<(), (ErrorCode, ErrorClass, String)>>;

fn once(done: &Once, set: impl FnOnce() -> Result<(), git2::Error>) -> Result<(), git2::Error> {
    done.get_or_init(|| set().map_err(|error| (error.code(), error.class(), error.message().to_owned())))
        .clone()
        .map_err(|(code, class, message)| git2::Error::new(code, class, message))
}

/// Sets an option that takes one string.
fn set_text(option: raw::git_libgit2_opt_t, text: &Path) -> Result<(), git2::Error> {
    let text = CString::new(text.as_os_str().as_bytes())?;
    // SAFETY: all options passed here take one `const char *`, which libgit2 copies; for the globals that they write,
    // see the callers.
    let code = unsafe { raw::git_libgit2_opts(option as c_int, text.as_ptr()) };
    succeeded(code)
}

fn succeeded(code: c_int) -> Result<(), git2::Error> {
    if code < 0 { Err(git2::Error::last_error(code)) } else { Ok(()) }
}
