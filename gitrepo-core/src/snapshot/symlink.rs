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
    fn links_that_may_leave_the_volume_are_found() {
        for (target, depth, escapes) in [
            (&b"file"[..], 0, false),
            (b"a/b/c", 0, false),
            (b"./a//b/", 0, false),
            (b"..", 1, false),
            (b"../x", 1, false),
            (b"../../x", 2, false),
            (b"./.././../x", 2, false),
            (b"..x/...", 0, false),
            (b"dangling", 5, false),
            (b"/", 3, true),
            (b"/etc/shadow", 3, true),
            (b"..", 0, true),
            (b"../..", 1, true),
            (b"./../x", 0, true),
            (b".//../../x", 1, true),
            (b"a/..", 0, true),
            (b"up/../../x", 9, true),
            (b"../a/../b", 9, true),
        ] {
            assert_eq!(may_escape(target, depth), escapes, "{} at {depth}", target.escape_ascii());
        }
    }
}
