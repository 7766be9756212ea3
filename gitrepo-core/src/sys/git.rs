//! Features that libgit2 offers only as process-wide switches, or only through its C interface.
//!
//! libgit2 keeps its options in plain C globals. They are all set once, before this process uses libgit2 for anything
//! else.

use std::ffi::CStr;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use git2::ConfigLevel;
use git2::ErrorClass;
use git2::ErrorCode;
use git2::RemoteHead;
use git2::opts;
use libc::c_char;
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

/// libgit2 allocates a table for as many objects as the first 12 bytes of a pack announce. The full history of the
/// Linux kernel has some 11 million.
pub(crate) const PACK_OBJECTS: usize = 25_000_000;

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
        set_text(raw::GIT_OPT_SET_TEMPLATE_PATH, Path::new(NOWHERE))?;
        // SAFETY: this option takes one `size_t`; for the global it writes, see above.
        succeeded(unsafe { raw::git_libgit2_opts(raw::GIT_OPT_SET_PACK_MAX_OBJECTS as c_int, PACK_OBJECTS) })
    })
}

/// Sets the options for every connection of this process, once: later calls have no effect.
///
/// `stall` is the maximum time to connect, and the longest silence of a remote. `home` replaces the user's home, of
/// which only `.ssh/known_hosts` is read. `http` creates the HTTP transport that replaces libgit2's own client, which
/// is then never used for any server.
pub(crate) fn prepare_network(stall: Duration, home: Option<&Path>, http: HttpTransport) -> Result<(), git2::Error> {
    static DONE: Once = OnceLock::new();
    isolate()?;
    once(&DONE, || {
        let milliseconds = c_int::try_from(stall.as_millis()).unwrap_or(c_int::MAX).max(1);
        // SAFETY: the setters write C globals without a lock, which only connections read. `once` runs this a single
        // time, and every connection of this crate waits here until it has.
        unsafe {
            // Set both, or libgit2 makes the socket non-blocking and does not poll it (libgit2#7072).
            opts::set_server_connect_timeout_in_milliseconds(milliseconds)?;
            opts::set_server_timeout_in_milliseconds(milliseconds)?;
        }
        for scheme in ["http", "https"] {
            // SAFETY: this adds to a list without a lock, which only connections read; see above.
            unsafe { git2::transport::register(scheme, http)? };
        }
        set_text(raw::GIT_OPT_SET_HOMEDIR, home.unwrap_or(Path::new(NOWHERE)))
    })
}

/// Creates a transport for one connection.
pub(crate) type HttpTransport = fn(&git2::Remote<'_>) -> Result<git2::transport::Transport, git2::Error>;

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

/// Returns the name of an advertised ref and, for a symbolic one, of the ref it points to.
///
/// `RemoteHead::name` and `RemoteHead::symref_target` panic if a name is not UTF-8, and a remote may send any bytes.
pub(crate) fn head_names<'a>(head: &'a RemoteHead<'_>) -> (&'a [u8], Option<&'a [u8]>) {
    const { assert!(size_of::<RemoteHead<'_>>() == size_of::<*const raw::git_remote_head>()) };
    // SAFETY: a `RemoteHead` is nothing but a pointer to a `git_remote_head`, valid as long as the borrow of the list
    // it came from: `git2::Remote::list` makes the list by transmuting libgit2's array of such pointers. Both strings
    // are NUL-terminated or null, and live as long.
    unsafe {
        let raw = *std::ptr::from_ref(head).cast::<*const raw::git_remote_head>();
        (text((*raw).name).unwrap_or_default(), text((*raw).symref_target))
    }
}

/// # Safety
///
/// `text` is null or points to a NUL-terminated string that lives as long as `'a`.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}
