//! The kernel's mount table, `/proc/<pid>/mountinfo`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::MountPoint;
use super::loop_device;

/// The table of the calling thread, which may have left its process's mount namespace.
pub(crate) const TABLE: &str = "/proc/thread-self/mountinfo";

/// The size of a node's mount table, in bytes. Only a larger one takes more readings than pages.
const TYPICAL_SIZE: usize = 64 << 10;

/// Reads the mount table of the calling thread. The source of an image on a loop device is the file behind that.
///
/// The kernel returns the table page by page and drops its lock in between. Since Linux 5.8, a mount that exists
/// throughout is in the reading all the same.
pub fn read() -> io::Result<Vec<MountPoint>> {
    let mut table = Vec::with_capacity(TYPICAL_SIZE);
    File::open(TABLE)?.read_to_end(&mut table)?;
    let mut mounts = parse(&table);
    name_files_behind_loop_devices(&mut mounts);
    Ok(mounts)
}

/// Many targets may show one image, so each device is looked up once.
fn name_files_behind_loop_devices(mounts: &mut [MountPoint]) {
    let mut known: HashMap<PathBuf, Option<PathBuf>> = HashMap::new();
    for mount in mounts.iter_mut().filter(|mount| mount.image().is_some()) {
        let file = known.entry(mount.source.clone()).or_insert_with(|| loop_device::backing_file(&mount.source));
        if let Some(file) = file {
            mount.source.clone_from(file);
        }
    }
}

/// Whether a filesystem of this table keeps SELinux labels, which the kernel says only where SELinux is enabled. In a
/// container nothing else tells: the directory of SELinux is not mounted there.
pub fn has_labels(mounts: &[MountPoint]) -> bool {
    mounts.iter().any(|mount| mount.filesystem_options.iter().any(|option| option == "seclabel"))
}

/// Parses a mount table. Malformed lines, such as a truncated one, are skipped. Loop devices stay as they are.
pub fn parse(table: &[u8]) -> Vec<MountPoint> {
    table.split(|&byte| byte == b'\n').filter_map(line).collect()
}

/// One line, as in proc_pid_mountinfo(5):
///
/// ```text
/// 36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue
/// ── ── ──── ───── ───── ────────── ───────────────── ─ ──── ───────── ──────────────────
/// id |  |    root  |     options    any number        |  type source    options of the superblock
///    parent device target                             separator
/// ```
fn line(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|&byte| byte == b' ');
    number(fields.next()?)?;
    number(fields.next()?)?;
    let device = text(fields.next()?)?;
    let (major, minor) = device.split_once(':')?;
    number(major.as_bytes())?;
    number(minor.as_bytes())?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = text(fields.next()?)?.split(',').map(String::from).collect();
    fields.find(|field| field == b"-")?;
    let filesystem = text(fields.next()?)?;
    if filesystem.is_empty() || !target.is_absolute() {
        return None;
    }
    // A line that ends here was cut, or the source is empty, which the kernel allows.
    let source = path(fields.next().unwrap_or_default());
    // A comma inside an option is escaped.
    let filesystem_options = fields.next().unwrap_or_default().split(|&byte| byte == b',').map(raw).collect();
    Some(MountPoint { target, root, device, filesystem, source, options, filesystem_options })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> Option<String> {
    String::from_utf8(unescape(field)).ok()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(raw(field))
}

fn raw(field: &[u8]) -> OsString {
    OsString::from_vec(unescape(field))
}

/// Decodes `\ooo`, the kernel's escape for space, tab, newline, backslash and sometimes `#`. Any other backslash stays
/// as it is.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::spec::Label;

    #[test]
    fn the_example_of_the_manual_page_is_understood() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
        assert_eq!(
            parse(table),
            [MountPoint {
                target: "/mnt2".into(),
                root: "/mnt1".into(),
                device: "98:0".into(),
                filesystem: "ext3".into(),
                source: "/dev/root".into(),
                options: vec!["rw".into(), "noatime".into()],
                filesystem_options: vec!["rw".into(), "errors=continue".into()],
            }]
        );
    }

    #[test]
    fn labels_of_filesystems_are_found_and_told_apart() {
        let usual = Label::of_containers();
        let table = format!(
            "1 0 0:1 / /a ro - erofs /s/image ro,seclabel,context={usual},cache_strategy=readaround\n\
             2 0 0:2 / /b ro - erofs /s/image ro,context=system_u:object_r:other_t:s0\n\
             3 0 0:3 / /c ro - erofs /s/image ro,fscontext={usual},rootcontext={usual}\n"
        );
        let mounts = parse(table.as_bytes());
        assert_eq!(mounts[0].label(), Some(usual.to_string().as_bytes()));
        let other = Label::parse("system_u:object_r:other_t:s0-s0").unwrap();
        let found = [Some(&usual), Some(&other), None]
            .map(|label| mounts.iter().map(|mount| mount.has_label(label)).collect::<Vec<_>>());
        assert_eq!(found, [[true, false, false], [false, true, false], [false, false, true]]);
        assert!(has_labels(&mounts) && !has_labels(&mounts[1..]));
    }

    #[test]
    fn optional_fields_may_be_absent_or_many() {
        let table = b"1 0 0:1 / /a ro - tmpfs none rw\n2 1 0:2 / /b ro shared:1 master:2 propagate_from:3 unbindable - tmpfs none rw\n";
        assert_eq!(
            parse(table).iter().map(|mount| mount.target.as_path()).collect::<Vec<_>>(),
            ["/a", "/b"].map(Path::new)
        );
    }

    #[test]
    fn escapes_are_decoded_and_bytes_that_are_not_utf8_are_kept() {
        let table = b"1 0 0:1 /s\\040\\134\\012//deleted /t\\011\\043\xff\\9\\08 ro - tmpfs no\\040ne rw\n";
        let mounts = parse(table);
        assert_eq!(mounts[0].root, Path::new("/s \\\n//deleted"));
        assert_eq!(mounts[0].target, Path::new(OsStr::from_bytes(b"/t\t#\xff\\9\\08")));
        assert_eq!(mounts[0].source, Path::new("no ne"));
    }

    #[test]
    fn a_table_cut_anywhere_gives_whole_lines_or_none() {
        let table = b"1 0 0:1 / /a ro - tmpfs none rw\n2 1 0:2 /x /b rw shared:1 - ext4 /dev/a rw\n";
        let whole = parse(table);
        for end in 0..table.len() {
            for mount in parse(&table[..end]) {
                assert!(whole.iter().any(|known| known.target == mount.target), "{end}: {mount:?}");
            }
        }
    }

    #[test]
    fn an_empty_source_is_kept_as_empty() {
        let mounts = parse(b"1 0 0:1 / /a ro - tmpfs  rw\n");
        assert_eq!(mounts[0].source, Path::new(""));
    }

    #[test]
    fn only_a_mount_of_an_image_has_one() {
        let table = b"1 0 0:1 / /a ro - erofs /s/image ro\n2 1 7:0 / /b ro - ext4 /dev/loop0 ro\n";
        let images: Vec<_> = parse(table).iter().map(|mount| mount.image().map(Path::to_owned)).collect();
        assert_eq!(images, [Some("/s/image".into()), None]);
    }

    #[test]
    fn our_own_table_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.target == Path::new("/")));
    }

    fn escape(path: &Path) -> Vec<u8> {
        let mut escaped = Vec::new();
        for &byte in path.as_os_str().as_bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => escaped.extend(format!("\\{byte:03o}").bytes()),
                _ => escaped.push(byte),
            }
        }
        escaped
    }

    prop_compose! {
        fn any_path()(bytes in prop::collection::vec(1u8.., 0..40)) -> PathBuf {
            let mut path = vec![b'/'];
            path.extend(bytes);
            PathBuf::from(OsString::from_vec(path))
        }
    }

    prop_compose! {
        fn any_mount()(
            target in any_path(),
            root in any_path(),
            device in "[0-9]{1,3}:[0-9]{1,7}",
            filesystem in "[a-z0-9.]{1,9}",
            source in any_path(),
            options in prop::collection::vec("[a-z]{1,9}", 1..5),
            filesystem_options in prop::collection::vec(any_path().prop_map(PathBuf::into_os_string), 1..5),
        ) -> MountPoint {
            MountPoint { target, root, device, filesystem, source, options, filesystem_options }
        }
    }

    fn written(mount: &MountPoint, optional: &[String]) -> Vec<u8> {
        let mut line = format!("36 35 {} ", mount.device).into_bytes();
        line.extend(escape(&mount.root));
        line.push(b' ');
        line.extend(escape(&mount.target));
        line.extend(format!(" {} ", mount.options.join(",")).bytes());
        line.extend(optional.iter().flat_map(|field| format!("{field} ").into_bytes()));
        line.extend(format!("- {} ", mount.filesystem).bytes());
        line.extend(escape(&mount.source));
        line.push(b' ');
        // seq_show_option() of the kernel.
        let escaped = |option: &OsString| {
            escape(Path::new(option)).into_iter().flat_map(|byte| match byte {
                b',' => b"\\054".to_vec(),
                byte => vec![byte],
            })
        };
        for (at, option) in mount.filesystem_options.iter().enumerate() {
            line.extend((at > 0).then_some(b','));
            line.extend(escaped(option));
        }
        line.push(b'\n');
        line
    }

    proptest! {
        #[test]
        fn every_table_that_the_kernel_writes_is_read_back(
            mounts in prop::collection::vec(any_mount(), 0..8),
            optional in prop::collection::vec("(shared|master):[0-9]{1,4}", 0..4),
        ) {
            let table: Vec<u8> = mounts.iter().flat_map(|mount| written(mount, &optional)).collect();
            prop_assert_eq!(parse(&table), mounts);
        }

        #[test]
        fn no_input_makes_the_parser_panic(table in prop::collection::vec(any::<u8>(), 0..400)) {
            let _mounts = parse(&table);
        }
    }
}
