//! A `.git` for a group: what one of its members has written, the others may write too.
//!
//! Without the setting `core.sharedRepository` (git-config(1)) git keeps to the umask, and after the first commit only its
//! author could make the next. With it, git still opens two files in place with whatever mode the umask left them
//! (`fopen_for_writing` in git's wrapper.c). These are here from the beginning, empty and with the modes of the group.

use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::fchown;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;
use nix::fcntl::OFlag;

use super::super::GroupAccess;
use super::super::Owner;
use super::super::Ownership;
use super::super::mountable::listed::Extent;
use super::super::mountable::listed::Kind;
use super::super::mountable::listed::Listed;
use super::super::widen;

/// Added to the settings, which may name a section again.
const SETTING: &str = "[core]\n\tsharedRepository = group\n";

/// The name of the settings. No other file that we write has it.
const CONFIG: &str = "config";

/// What `git commit` and `git fetch` write over.
const OVERWRITTEN: [&str; 2] = ["COMMIT_EDITMSG", "FETCH_HEAD"];

/// The mode of a file in a writable copy for a group.
const MODE: u32 = 0o664;

/// Adds to a list what the `.git` of a group has, if there is one and these owners have a group that writes.
pub(crate) fn add_to_list(listed: &mut Listed, ownership: &Ownership) {
    if ownership.group != GroupAccess::Write || !listed.is_packed() {
        return;
    }
    let is_config = |at: &usize| {
        let node = &listed.nodes[*at];
        matches!(node.kind, Kind::Written { .. }) && listed.name(node) == CONFIG.as_bytes()
    };
    let Some(at) = (listed.tree_end..listed.nodes.len()).find(is_config) else { return };
    if let Kind::Written { number, size } = &mut listed.nodes[at].kind {
        let content = &mut listed.written[*number];
        content.extend_from_slice(SETTING.as_bytes());
        *size = widen(content.len());
    }
    // A file with nothing in it is in no segment. Libgit2 only hashes here.
    let Ok(id) = Oid::hash_object(ObjectType::Blob, b"") else { return };
    let content = Extent { id, segment: 0, offset: 0, size: 0 };
    let git_dir = listed.nodes[at].parent;
    for name in OVERWRITTEN {
        listed.push(git_dir, name.as_bytes(), Kind::File { executable: false, content });
    }
}

/// Adds the same to a `.git` on a disk, unless it was copied from an image that has it.
pub(super) fn add_to_files(git_dir: &Path, owner: Owner) -> io::Result<()> {
    if OVERWRITTEN.iter().all(|name| git_dir.join(name).symlink_metadata().is_ok()) {
        return Ok(());
    }
    let mut config = File::options();
    config.append(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    config.open(git_dir.join(CONFIG))?.write_all(SETTING.as_bytes())?;
    for name in OVERWRITTEN {
        let file = File::options().write(true).create_new(true).open(git_dir.join(name))?;
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(())
}
