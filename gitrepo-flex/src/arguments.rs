//! The command line, hidden from other processes.
//!
//! The kubelet passes a volume's secrets as an argument. Every process on the host can read them in
//! `/proc/<pid>/cmdline` (and in `ps`) while this one runs.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

/// The arguments of this process.
pub(crate) struct Arguments {
    /// All arguments except the program's name. Wiped when dropped.
    pub(crate) values: Vec<Zeroizing<Vec<u8>>>,
    /// Whether they could be hidden from other processes.
    pub(crate) hidden: io::Result<()>,
}

/// Takes the arguments, which begin with the program's name. Overwrites those that may be secret, which are all except
/// the call and the directory, and disables core dumps.
pub(crate) fn take(all: Vec<OsString>) -> Arguments {
    let hidden = hide(&all);
    // Do this even if hiding failed, but only afterwards: it makes `/proc/self/mem` inaccessible without root.
    let undumpable = nix::sys::prctl::set_dumpable(false);
    let hidden = hidden.and(undumpable.map_err(io::Error::from));
    let values = all.into_iter().skip(1).map(|value| Zeroizing::new(value.into_vec())).collect();
    Arguments { values, hidden }
}

/// Overwrites the argument list that the kernel shows, from the first possibly secret argument to the end.
fn hide(all: &[OsString]) -> io::Result<()> {
    let list = argument_list(&fs::read_to_string("/proc/self/stat")?).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat does not say where the arguments are")
    })?;
    let visible: u64 = all[..visible_count(all)].iter().map(|argument| argument.len() as u64 + 1).sum();
    let secret = (list.start + visible).min(list.end)..list.end;
    let length = usize::try_from(secret.end - secret.start).map_err(io::Error::other)?;
    // A process may write to its own memory through this file.
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&vec![0; length], secret.start)
}

/// Returns how many arguments may stay visible, so that `ps` shows which call is running.
fn visible_count(all: &[OsString]) -> usize {
    let is_call = all.get(1).is_some_and(|call| call == "mount" || call == "unmount");
    let is_directory = |argument: &OsString| OsStr::as_bytes(argument).starts_with(b"/");
    match all.get(2) {
        Some(directory) if is_call && is_directory(directory) => 3,
        _ => all.len().min(1),
    }
}

/// Returns the memory of the arguments: `arg_start` and `arg_end` of proc_pid_stat(5), its fields 48 and 49. The second
/// field is the program's name in parentheses, which may contain anything. So fields are counted from the last closing
/// parenthesis.
fn argument_list(stat: &str) -> Option<Range<u64>> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(48 - 3);
    let mut number = || fields.next()?.parse().ok();
    let range = number()?..number()?;
    // The fields are zero if this process lacks permission.
    (0 < range.start && range.start <= range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(all: &[&str]) -> Vec<OsString> {
        all.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_the_call_and_its_directory_stay_visible() {
        for (all, visible) in [
            (vec!["gitrepo", "mount", "/pods/a", "{}"], 3),
            (vec!["gitrepo", "unmount", "/pods/a"], 3),
            (vec!["gitrepo", "mount", "{}"], 1),
            (vec!["gitrepo", "mount"], 1),
            (vec!["gitrepo", "attach", "/x", "{}"], 1),
            (vec!["gitrepo", "{}", "/x"], 1),
            (vec!["gitrepo"], 1),
            (vec![], 0),
        ] {
            assert_eq!(visible_count(&arguments(&all)), visible, "{all:?}");
        }
    }

    #[test]
    fn the_list_is_found_for_any_name_of_the_program() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = |name: &str| format!("1 ({name}) {}\n", fields.join(" "));
        for name in ["gitrepo", "a) R 1 2", "", " ("] {
            assert_eq!(argument_list(&stat(name)), Some(48..49), "{name:?}");
        }
        assert_eq!(argument_list("1 (gitrepo) R 0 0"), None);
        assert_eq!(argument_list(&stat("x").replace(" 48 49 ", " 0 0 ")), None);
        assert_eq!(argument_list(""), None);
    }

    #[test]
    fn the_list_has_the_length_that_the_kernel_shows() {
        let list = argument_list(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let visible = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(list.end - list.start, visible.len() as u64);
    }
}
