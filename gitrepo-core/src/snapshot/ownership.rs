//! Whom the files of an image belong to.

use serde::Deserialize;
use serde::Serialize;

use super::Owner;
use super::image::Modes;

/// The owner and group of all files of a snapshot, and what the group may do with them. It is part of the snapshot's id:
/// the same tree with other owners is a small image of its own over the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// What the group may do.
    pub group: GroupAccess,
}

/// What the group of a snapshot's files may do with them. Everybody may read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GroupAccess {
    /// What everybody may: the modes are those of git.
    Everybody,
    /// Read, as the kubelet sets up a read-only volume for a pod's `fsGroup`.
    Read,
    /// Write, as the kubelet sets up a writable volume for a pod's `fsGroup`. For the lower layer of an overlay.
    Write,
}

impl Ownership {
    /// Of root, as every other format has it.
    pub const ROOT: Self = Self { uid: 0, gid: 0, group: GroupAccess::Everybody };

    /// Returns the owner of a read-only volume: this user, and this group or else the one of the same number.
    pub fn of_readers(uid: u32, group: Option<u32>) -> Self {
        let access = if group.is_some() { GroupAccess::Read } else { GroupAccess::Everybody };
        Self { uid, gid: group.unwrap_or(uid), group: access }
    }

    /// Returns the owner of the files of a writable volume: this user, and this group or else the one of the same number. A
    /// group may write.
    pub fn of_writers(uid: u32, group: Option<u32>) -> Self {
        let access = if group.is_some() { GroupAccess::Write } else { GroupAccess::Everybody };
        Self { uid, gid: group.unwrap_or(uid), group: access }
    }

    /// Returns the user and the group.
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    /// Whether this is [`Ownership::ROOT`].
    pub fn is_root(&self) -> bool {
        *self == Self::ROOT
    }

    /// Returns the permissions.
    pub(super) fn modes(&self) -> Modes {
        match self.group {
            GroupAccess::Everybody => Modes::PLAIN,
            GroupAccess::Read => Modes::GROUP_READABLE,
            GroupAccess::Write => Modes::GROUP_WRITABLE,
        }
    }

    /// Returns bytes that are different for every other ownership, to hash.
    pub(crate) fn to_bytes(self) -> [u8; 9] {
        let group = match self.group {
            GroupAccess::Everybody => 0,
            GroupAccess::Read => 1,
            GroupAccess::Write => 2,
        };
        let mut bytes = [group; 9];
        bytes[..4].copy_from_slice(&self.uid.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.gid.to_be_bytes());
        bytes
    }
}

/// The root directory of a writable volume, above the tree or the tree's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumeRoot {
    /// Whom it belongs to.
    pub(crate) owner: Owner,
    /// Its permissions.
    pub(crate) mode: u32,
}

impl VolumeRoot {
    /// Returns the root of a volume for these writers: everybody may write to it, as to that of `gitRepo` and `emptyDir`;
    /// or, if there is a group, only the owner and the group, whom the kubelet would have given it.
    pub(crate) fn of(writers: Ownership) -> Self {
        let mode = if writers.group == GroupAccess::Write { 0o2775 } else { 0o777 };
        Self { owner: writers.owner(), mode }
    }
}

impl Default for Ownership {
    fn default() -> Self {
        Self::ROOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `SetVolumeOwnership` adds: 0440 to files and 2550 to directories of a read-only volume, 0660 and 2770 to
    /// those of a writable one.
    #[test]
    fn modes_are_those_that_the_kubelet_would_make() {
        let of = |group| Ownership { uid: 0, gid: 7, group }.modes();
        let plain = of(GroupAccess::Everybody);
        for (group, directory, file) in [(GroupAccess::Read, 0o2550, 0o440), (GroupAccess::Write, 0o2770, 0o660)] {
            let modes = of(group);
            assert_eq!(modes.directory, plain.directory | directory);
            assert_eq!((modes.file, modes.executable), (plain.file | file, plain.executable | file));
        }
    }
}
