//! Parses volume capabilities.

use gitrepo_core::spec::nearest::nearest;

use crate::failure::CallFailure;
use crate::proto::csi::v1::VolumeCapability;
use crate::proto::csi::v1::volume_capability::AccessType;
use crate::proto::csi::v1::volume_capability::access_mode::Mode;

/// The accepted mount options: `ro` and `rw`, those that every volume has anyway (`nosuid`, `nodev`), and those that
/// make no difference to a reader.
const MOUNT_FLAGS: [&str; 9] =
    ["ro", "rw", "nosuid", "nodev", "noatime", "nodiratime", "relatime", "strictatime", "lazytime"];

/// The filesystem type that the kubelet passes for block volumes.
const BLOCK: &str = "block";

/// A parsed capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The access mode.
    pub mode: Mode,
    /// `ro` is among the mount options.
    pub read_only_flag: bool,
    /// The group of the files of a writable volume or an image (`fsGroup`).
    pub group: Option<u32>,
}

impl Capability {
    /// Parses a capability.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` for block volumes, mount options outside the list, and contradictions.
    pub fn read(capability: Option<&VolumeCapability>) -> Result<Self, CallFailure> {
        let capability = capability.ok_or_else(|| CallFailure::invalid("volume_capability is missing"))?;
        let mount = match &capability.access_type {
            Some(AccessType::Mount(mount)) => mount,
            Some(AccessType::Block(_)) => return Err(no_block_volumes()),
            None => return Err(CallFailure::invalid("volume_capability has no access type; it must be mount")),
        };
        if mount.fs_type.eq_ignore_ascii_case(BLOCK) {
            return Err(no_block_volumes());
        }
        let mode = capability.access_mode.as_ref().map(|access| Mode::try_from(access.mode));
        let mode = match mode {
            Some(Ok(mode)) if mode != Mode::Unknown => mode,
            _ => return Err(CallFailure::invalid("volume_capability has no access mode, or an unknown one")),
        };
        let has = |flag: &str| mount.mount_flags.iter().any(|given| given == flag);
        if let Some(unknown) = mount.mount_flags.iter().find(|flag| !MOUNT_FLAGS.contains(&flag.as_str())) {
            return Err(unknown_flag(unknown));
        }
        if has("ro") && has("rw") {
            return Err(CallFailure::invalid("the mount options have both ro and rw; leave one out"));
        }
        Ok(Self { mode, read_only_flag: has("ro"), group: group(&mount.volume_mount_group)? })
    }

    /// The volume may be published on only one target of a node.
    pub fn is_for_one_target(&self) -> bool {
        matches!(self.mode, Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter)
    }

    /// The access mode or the mount options ask for a read-only volume.
    pub fn is_for_readers(&self) -> bool {
        self.read_only_flag || matches!(self.mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly)
    }
}

fn no_block_volumes() -> CallFailure {
    CallFailure::invalid("a git repository is not a block device: use volumeMode: Filesystem")
}

fn unknown_flag(flag: &str) -> CallFailure {
    let flag: String = flag.chars().take(64).collect();
    let hint = nearest(&flag, MOUNT_FLAGS).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    CallFailure::invalid(format!("the mount option {flag:?} is not among {}{hint}", MOUNT_FLAGS.join(", ")))
}

/// Reads `volume_mount_group`, which the kubelet writes as a number.
fn group(text: &str) -> Result<Option<u32>, CallFailure> {
    if text.is_empty() {
        return Ok(None);
    }
    // The largest number means "no group" to the kernel.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    match number {
        Some(group) if group != u32::MAX => Ok(Some(group)),
        _ => Err(CallFailure::invalid("volume_mount_group is not a group's number")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use gitrepo_core::error::Kind;

    use super::*;
    use crate::proto::csi::v1::volume_capability::AccessMode;
    use crate::proto::csi::v1::volume_capability::BlockVolume;
    use crate::proto::csi::v1::volume_capability::MountVolume;

    /// Returns the capability that the kubelet and the provisioner send for a filesystem.
    pub(crate) fn filesystem(mode: Mode, flags: &[&str], group: &str) -> VolumeCapability {
        let mount = MountVolume {
            fs_type: "ext4".to_owned(),
            mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            volume_mount_group: group.to_owned(),
        };
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(AccessType::Mount(mount)),
        }
    }

    fn capability(flags: &[&str], group: &str) -> VolumeCapability {
        filesystem(Mode::SingleNodeMultiWriter, flags, group)
    }

    fn refused(capability: Option<&VolumeCapability>) -> String {
        let failure = Capability::read(capability).unwrap_err();
        assert_eq!(failure.kind, Kind::InvalidRequest);
        failure.message
    }

    #[test]
    fn flags_and_group_are_parsed() {
        let access = Capability::read(Some(&capability(&["ro", "nosuid", "noatime"], "2000"))).unwrap();
        let expected = Capability { mode: Mode::SingleNodeMultiWriter, read_only_flag: true, group: Some(2000) };
        assert_eq!(access, expected);
        assert!(access.is_for_readers() && !access.is_for_one_target());
        assert_eq!(Capability::read(Some(&capability(&[], ""))).unwrap().group, None);
        assert_eq!(Capability::read(Some(&capability(&[], "0"))).unwrap().group, Some(0));
    }

    #[test]
    fn a_flag_outside_the_list_is_named() {
        assert!(refused(Some(&capability(&["noatme"], ""))).contains("\"noatme\""));
        assert!(refused(Some(&capability(&["noatme"], ""))).ends_with("did you mean noatime?"));
        for flag in ["noexec", "exec", "suid", "context=\"x\"", "lowerdir=/", "", "RO"] {
            assert!(refused(Some(&capability(&[flag], ""))).contains("is not among ro, rw"), "{flag}");
        }
        assert!(refused(Some(&capability(&["ro", "rw"], ""))).contains("both ro and rw"));
    }

    #[test]
    fn a_group_is_a_number() {
        for text in ["staff", "-1", "+1", "4294967295", "4294967296", " 1"] {
            assert!(refused(Some(&capability(&[], text))).contains("volume_mount_group"), "{text}");
        }
    }

    #[test]
    fn a_missing_field_and_a_block_device_are_refused() {
        assert!(refused(None).contains("volume_capability is missing"));
        let whole = capability(&[], "");
        assert!(refused(Some(&VolumeCapability { access_type: None, ..whole })).contains("access type"));
        for mode in [None, Some(AccessMode { mode: 0 }), Some(AccessMode { mode: 99 })] {
            assert!(refused(Some(&VolumeCapability { access_mode: mode, ..whole.clone() })).contains("access mode"));
        }
        let block = Some(AccessType::Block(BlockVolume {}));
        assert!(refused(Some(&VolumeCapability { access_type: block, ..whole })).contains("Filesystem"));
        let marked = MountVolume { fs_type: "block".to_owned(), ..MountVolume::default() };
        let marked = Some(AccessType::Mount(marked));
        assert!(refused(Some(&VolumeCapability { access_type: marked, ..whole })).contains("Filesystem"));
    }
}
