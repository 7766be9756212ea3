//! What an image refuses. The suite `erofs` reads and mounts those that are built.

use super::*;

const VIEW: View = View { mtime: 0, uid: 0, gid: 0, modes: Modes::PLAIN };

fn directory(name: &[u8], parent: Option<usize>) -> Node<'_> {
    Node { parent, name, kind: Kind::Directory, time: None }
}

fn symlink<'a>(name: &'a [u8], target: &'a [u8]) -> Node<'a> {
    Node { parent: None, name, kind: Kind::Symlink { target }, time: None }
}

fn file(name: &[u8], device: usize, offset: u64, size: u64) -> Node<'_> {
    Node {
        parent: None,
        name,
        kind: Kind::File { executable: false, content: Extent { device, offset, size } },
        time: None,
    }
}

fn build_on(devices: &[u64], nodes: &[Node<'_>], block_size: BlockSize) -> Result<Vec<u8>, ImageError> {
    build(&Tree { nodes, devices, block_size }, &VIEW, &[7; 16])
}

/// The problem of the only bad entry, and its path.
fn problem(devices: &[u64], nodes: &[Node<'_>]) -> (String, EntryError) {
    match build_on(devices, nodes, BlockSize::B512) {
        Err(ImageError::Entry { path, problem }) => (path, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn impossible_names_and_targets_are_refused() {
    let long = [b'x'; 4096];
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
        assert_eq!(problem(&[], &[directory(name, None)]).1, EntryError::Name, "{name:?}");
    }
    assert_eq!(problem(&[], &[directory(&long[..256], None)]).1, EntryError::LongName(256));
    assert_eq!(problem(&[], &[symlink(b"l", b"")]).1, EntryError::TargetLength(0));
    assert_eq!(problem(&[], &[symlink(b"l", &long)]).1, EntryError::TargetLength(4096));
    assert_eq!(problem(&[], &[symlink(b"l", b"a\0b")]).1, EntryError::TargetNul);
    let possible = [directory(&long[..255], None), directory(b"...", None), symlink(b"l", &long[..4095])];
    build_on(&[], &possible, BlockSize::B512).unwrap();
}

#[test]
fn nodes_that_do_not_form_a_tree_are_refused() {
    let twice = [directory(b"a", None), directory(b"x\n", Some(0)), directory(b"b", None), directory(b"x\n", Some(0))];
    assert_eq!(problem(&[], &twice), (r"a/x\n".to_owned(), EntryError::Duplicate));
    assert_eq!(problem(&[], &[directory(b"a", Some(1))]), ("a".to_owned(), EntryError::Parent));
    assert_eq!(problem(&[], &[directory(b"a", Some(usize::MAX))]).1, EntryError::Parent);
    assert_eq!(problem(&[], &[file(b"f", 0, 0, 0), directory(b"a", Some(0))]), ("f/a".to_owned(), EntryError::Parent));
    assert_eq!(problem(&[], &[directory(b"a", Some(0))]).1, EntryError::Unreachable);
    let circle = [directory(b"a", None), directory(b"b", Some(2)), directory(b"c", Some(1))];
    assert_eq!(problem(&[], &circle).1, EntryError::Unreachable);
}

#[test]
fn content_that_is_not_on_its_device_is_refused() {
    let devices = [1024, 2048];
    for (content, expected) in [
        (file(b"f", 2, 0, 1), EntryError::Device { device: 2, devices: 2 }),
        (file(b"f", 0, 256, 1), EntryError::Misaligned { offset: 256, block_size: BlockSize::B512 }),
        (file(b"f", 0, 512, 513), EntryError::Outside { offset: 512, size: 513, length: 1024 }),
        (file(b"f", 0, 1024, 1), EntryError::Outside { offset: 1024, size: 1, length: 1024 }),
        (file(b"f", 1, 512, u64::MAX), EntryError::Outside { offset: 512, size: u64::MAX, length: 2048 }),
    ] {
        assert_eq!(problem(&devices, &[content]), ("f".to_owned(), expected));
    }
    let possible = [file(b"a", 0, 512, 512), file(b"b", 1, 0, 2048), file(b"c", 7, 3, 0)];
    build_on(&devices, &possible, BlockSize::B512).unwrap();
    build_on(&[], &[file(b"empty", 0, 0, 0)], BlockSize::B512).unwrap();
}

#[test]
fn devices_that_cannot_be_addressed_are_refused() {
    let build = |devices: &[u64], block_size| build_on(devices, &[], block_size);
    let partial = ImageError::PartialBlock { length: 512, block_size: BlockSize::B4096 };
    assert_eq!(build(&[4096, 512], BlockSize::B4096), Err(partial));
    assert_eq!(build(&vec![0; 65_536], BlockSize::B512), Err(ImageError::TooManyDevices(65_536)));
    build(&vec![512; 65_535], BlockSize::B512).unwrap();

    // An image of nothing but its root and one device has three blocks.
    let longest = (u64::from(u32::MAX) - 3) * 512;
    build(&[longest], BlockSize::B512).unwrap();
    build(&[longest * 8], BlockSize::B4096).unwrap();
    for devices in [&[longest + 512][..], &[512, longest], &[u64::MAX - 511, u64::MAX - 511]] {
        let refused = build(devices, BlockSize::B512).unwrap_err();
        assert!(matches!(refused, ImageError::TooLarge { limit: 0xffff_ffff, .. }), "{refused}");
    }
}

#[test]
fn an_error_names_the_entry_and_its_problem() {
    let error = build_on(&[], &[file(b"f\n", 0, 0, 1)], BlockSize::B512).unwrap_err();
    let text = crate::error::chain(&error);
    assert_eq!(text, r#"cannot put "f\\n" into an EROFS image: its content is on device 0, and there are 0"#);
}
