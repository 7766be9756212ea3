//! Decides which symbolic links stay within a volume.

/// Longest target on Linux (`PATH_MAX` without its NUL), in bytes.
pub(crate) const LONGEST_TARGET: usize = 4095;

/// Whether a link in a directory `depth` levels below the volume's root may lead out of the volume.
///
/// A container resolves the link later, so only the text is checked. A leading `..` counts against the depth: there the
/// kernel starts from the link's own directory, which is a real one. After a name, `..` counts as leading out, because
/// that name may itself be a link, and the kernel goes up from *its* target (`up -> ../..` beside `out -> up/../x`).
pub(crate) fn may_escape(target: &[u8], depth: usize) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut components = target.split(|&byte| byte == b'/').filter(|component| !matches!(component, [] | [b'.']));
    let is_parent = |component: &&[u8]| component == b"..";
    let ups = components.by_ref().take_while(is_parent).count();
    ups > depth || components.any(|component| component == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_within_the_volume_stay() {
        for (target, depth) in [
            (&b"file"[..], 0),
            (b"a/b/c", 0),
            (b"./a//b/", 0),
            (b"..", 1),
            (b"../x", 1),
            (b"../../x", 2),
            (b"./.././../x", 2),
            (b"..x/...", 0),
            (b"dangling", 5),
        ] {
            assert!(!may_escape(target, depth), "{} at {depth}", target.escape_ascii());
        }
    }

    #[test]
    fn links_that_may_leave_the_volume_are_found() {
        for (target, depth) in [
            (&b"/"[..], 3),
            (b"/etc/shadow", 3),
            (b"..", 0),
            (b"../..", 1),
            (b"./../x", 0),
            (b".//../../x", 1),
            (b"a/..", 0),
            (b"up/../../x", 9),
            (b"../a/../b", 9),
        ] {
            assert!(may_escape(target, depth), "{} at {depth}", target.escape_ascii());
        }
    }
}
