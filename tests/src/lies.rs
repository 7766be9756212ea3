//! What a receiver that was taken over may tell the verifier.
//!
//! It has two pipes: it hands objects over in one, and gets answers from the other. Here it puts itself between the
//! honest code and both. It knows what any attacker can know: the descriptors, and the messages.
#![allow(unsafe_code, reason = "only the system call replaces a descriptor that others own")]

use std::fs;
use std::fs::File;
use std::io;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::RawFd;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::SystemTime;

use gitrepo_core::credentials::Secret;
use gitrepo_core::remote::ObjectsFetched;
use gitrepo_core::remote::Refused;
use gitrepo_core::spec::CommitId;
use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::fcntl::fcntl;
use nix::sys::stat::SFlag;
use nix::sys::stat::fstat;

/// What becomes of the volume of whoever lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is refused.
    Refused,
    /// It shows exactly what the remote has: the lie changed nothing.
    Harmless,
}

/// All lies about objects.
pub const LIES: &[(&str, End)] = &[
    ("other-content", End::Refused),
    ("other-tree", End::Refused),
    ("other-commit", End::Refused),
    ("other-type", End::Refused),
    ("no-content", End::Refused),
    ("no-tree", End::Refused),
    ("no-commit", End::Refused),
    ("nothing", End::Refused),
    ("hollow-commit", End::Refused),
    ("endless-object", End::Refused),
    ("cut-short", End::Refused),
    ("nonsense", End::Refused),
    ("no-end", End::Refused),
    ("endless-boundary", End::Refused),
    ("foreign-boundary", End::Harmless),
    ("trees-alone", End::Refused),
    ("many-packs", End::Refused),
    ("no-end", End::Refused),
    ("more-objects", End::Harmless),
    ("writing-before-the-end", End::Harmless),
    ("writing-after-the-end", End::Harmless),
];

/// Lies about what is above a directory.
pub const LIES_ABOVE: &[(&str, End)] = &[
    ("nothing-above", End::Refused),
    ("above-is-kept", End::Refused),
    ("blob-above", End::Refused),
    ("endless-above", End::Refused),
    ("much-above", End::Refused),
    ("more-above", End::Harmless),
];

/// All lies about objects of Git LFS.
pub const LFS_LIES: &[(&str, End)] = &[
    ("lfs-other-content", End::Refused),
    ("lfs-other-length", End::Refused),
    ("lfs-more-content", End::Refused),
    ("lfs-cut-short", End::Refused),
    ("lfs-given-up", End::Refused),
    ("lfs-nonsense", End::Refused),
    ("lfs-no-end", End::Refused),
    ("lfs-twice", End::Harmless),
];

/// All lies about where objects of Git LFS are. Other workers go there, with what they are told to send along.
pub const LFS_PLACE_LIES: &[(&str, End)] = &[
    ("place-host", End::Refused),
    ("place-two-headers", End::Refused),
    ("place-many-headers", End::Refused),
    ("place-hidden-user", End::Refused),
    ("place-file", End::Refused),
    ("place-of-another-object", End::Refused),
    ("place-twice", End::Harmless),
    ("place-refused", End::Refused),
    ("place-over", End::Refused),
];

/// Changes what a receiver says of the places of objects.
pub fn about_places(lie: &str, mut told: ObjectsFetched) -> ObjectsFetched {
    let header = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
    for action in &mut told.elsewhere {
        match lie {
            "place-host" => action.headers.push(header("Host", "git.example.com")),
            "place-two-headers" => action.headers.push(header("X-Object", "1\r\nAuthorization: Basic eDp5")),
            "place-many-headers" => {
                action.headers.extend((0..1000).map(|number| header(&format!("X-Object-{number}"), "1")));
            }
            "place-hidden-user" => {
                action.url = Secret::new(action.url.expose().replace("http://", "http://git.example.com@"));
            }
            "place-file" => action.url = Secret::new("file:///etc/passwd".to_owned()),
            "place-of-another-object" => action.object.size += 1,
            "place-over" => action.expires = Some(SystemTime::UNIX_EPOCH),
            _ => {}
        }
    }
    match lie {
        "place-twice" => told.elsewhere.extend(told.elsewhere.clone()),
        "place-refused" => {
            let refused = told.elsewhere.drain(..).map(|action| Refused::new(action.object.id, Some(403)));
            told.refused.extend(refused);
        }
        _ => {}
    }
    told
}

/// What of a repository a worker that goes to a place of objects can see.
pub fn seen_elsewhere() -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let mut places = vec![PathBuf::from("/.gitrepo")];
    while let Some(place) = places.pop() {
        for path in fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                places.push(path.clone());
            }
            seen.push(path);
        }
    }
    // Its own directory to write to, and the authorities that it trusts.
    seen.retain(|path| !matches!(path.to_str(), Some("/.gitrepo/staging" | "/.gitrepo/ca.pem")));
    seen
}

/// The token of a tenant whose receiver claims that the remote gave out every commit.
pub const FORGER: &str = "forger";

/// The content of a commit that the remote does not give out, as far as a receiver sees the store.
pub fn forged(base: Option<&Path>, commit: CommitId) -> Vec<u8> {
    let read = || -> Result<Vec<u8>, git2::Error> {
        let objects = git2::Odb::new()?;
        let base = base.unwrap_or(Path::new("/.gitrepo/base")).join("objects");
        objects.add_disk_alternate(&base.to_string_lossy())?;
        Ok(objects.read(git2::Oid::from_bytes(commit.as_bytes())?)?.data().to_owned())
    };
    read().unwrap_or_default()
}

/// A message to the verifier.
enum Message {
    /// An object, as its type and its content.
    Object(u8, Vec<u8>),
    /// One that is above a directory.
    Above(u8, Vec<u8>),
    PackEnds,
    Boundary,
    FetchEnds,
    Other,
}

/// From now on tells this lie about what this process hands over.
pub fn tell(lie: &str) -> io::Result<()> {
    let lie = lie.to_owned();
    let (to, from) = (descriptor(OFlag::O_WRONLY)?, descriptor(OFlag::O_RDONLY)?);
    let (real_to, real_from) = (duplicate(to)?, duplicate(from)?);
    let ((messages, new_to), (new_from, answers)) = (io::pipe()?, io::pipe()?);
    replace(to, &new_to)?;
    replace(from, &new_from)?;
    thread::Builder::new().name("liar".to_owned()).spawn(move || {
        // Both sides see it when the pipes are closed.
        if lie.starts_with("lfs-") {
            return drop(relay_objects(&lie, messages, PipeWriter::from(real_to)));
        }
        drop(relay(&lie, (messages, answers), (PipeWriter::from(real_to), PipeReader::from(real_from))));
    })?;
    Ok(())
}

/// Passes the objects of Git LFS on that this process hands over, with this lie about them.
fn relay_objects(lie: &str, mut from: PipeReader, mut real_to: PipeWriter) -> io::Result<()> {
    loop {
        let mut command = [0];
        from.read_exact(&mut command)?;
        let plain = match command[0] {
            begin @ b'o' => {
                let mut length = [0; 8];
                from.read_exact(&mut length)?;
                [&[begin][..], &length].concat()
            }
            b'+' => object(b'+', &counted(&mut from, 1)?),
            other => vec![other],
        };
        let told = match (lie, plain[0]) {
            ("lfs-other-content", b'+') => [&plain[..9], &vec![b'!'; plain.len() - 9]].concat(),
            ("lfs-other-length", b'o') => [&[b'o'; 1][..], &[0x7f; 8]].concat(),
            ("lfs-more-content", b'=') => [object(b'+', b"more"), plain].concat(),
            ("lfs-cut-short", b'=') => return Ok(()),
            ("lfs-given-up", b'=') => vec![b'!'],
            ("lfs-nonsense", b'=') => vec![b'#'],
            ("lfs-no-end", b'.') => Vec::new(),
            ("lfs-twice", b'o') => [&plain[..], b"!", &plain].concat(),
            _ => plain,
        };
        real_to.write_all(&told)?;
    }
}

fn relay(
    lie: &str,
    (mut from, mut to): (PipeReader, PipeWriter),
    (mut real_to, mut real_from): (PipeWriter, PipeReader),
) -> io::Result<()> {
    loop {
        let mut command = [0];
        from.read_exact(&mut command)?;
        let (message, plain) = match command[0] {
            kind @ (b'b' | b'c' | b't' | b'g') => {
                let content = counted(&mut from, 1)?;
                (Message::Object(kind, content.clone()), object(kind, &content))
            }
            b'a' => {
                let mut kind = [0];
                from.read_exact(&mut kind)?;
                let content = counted(&mut from, 1)?;
                let plain = [&[b'a'][..], &object(kind[0], &content)].concat();
                (Message::Above(kind[0], content), plain)
            }
            b's' => {
                let ids = counted(&mut from, 20)?;
                (Message::Boundary, [&[b's'][..], &(ids.len() as u64 / 20).to_be_bytes(), &ids].concat())
            }
            b'e' => (Message::PackEnds, vec![b'e']),
            b'.' => (Message::FetchEnds, vec![b'.']),
            other => (Message::Other, vec![other]),
        };
        let extra = match (lie, &message) {
            ("trees-alone", Message::Boundary) => vec![object(b't', &[b"100644 file\0", &[7; 20][..]].concat())],
            ("many-packs", Message::Boundary) => vec![Vec::new(); 60],
            _ => Vec::new(),
        };
        for objects in extra {
            real_to.write_all(&[b"p", &objects[..], b"e"].concat())?;
            real_from.read_exact(&mut [0])?;
        }
        real_to.write_all(&told(lie, &message, plain))?;
        if lie == "cut-short" && matches!(message, Message::Object(b'b', _)) {
            return Ok(());
        }
        if let Message::PackEnds = message {
            let mut answer = [0];
            real_from.read_exact(&mut answer)?;
            if lie == "writing-after-the-end" {
                write_everywhere();
            }
            to.write_all(&answer)?;
        }
    }
}

/// What the verifier is told in place of `plain`.
fn told(lie: &str, message: &Message, plain: Vec<u8>) -> Vec<u8> {
    let changed = |change: fn(&mut Vec<u8>)| match message {
        Message::Object(kind, content) => {
            let mut content = content.clone();
            change(&mut content);
            object(*kind, &content)
        }
        _ => plain.clone(),
    };
    let above = |objects: &[u8]| [&[b'a'][..], objects].concat();
    match (lie, message) {
        ("nothing-above" | "nothing", Message::Above(..)) => Vec::new(),
        ("other-tree", Message::Above(b't', content)) => {
            let mut content = content.clone();
            if let Some(id) = content.last_mut() {
                *id ^= 1;
            }
            above(&object(b't', &content))
        }
        ("other-commit", Message::Above(b'c', content)) => {
            above(&object(b'c', &[content, &b"and more\n"[..]].concat()))
        }
        ("other-type", Message::Above(b'c', content)) => above(&object(b'g', content)),
        ("no-tree", Message::Above(b't', _)) | ("no-commit", Message::Above(b'c', _)) => Vec::new(),
        ("above-is-kept", Message::Above(kind, content)) => [&[b'p'][..], &object(*kind, content), b"e"].concat(),
        ("blob-above", Message::Above(..)) => [above(&object(b'b', b"blob")), plain].concat(),
        ("endless-above", Message::Above(kind, content)) => [&[b'a', *kind][..], &[0x7f; 8], content].concat(),
        ("much-above", Message::Above(..)) => {
            let trees = (0..5_000_u32).flat_map(|number| {
                above(&object(b't', &[b"100644 file\0", &number.to_be_bytes()[..], &[7; 16]].concat()))
            });
            trees.chain(plain).collect()
        }
        ("more-above", Message::Above(..)) => [above(&object(b't', b"")), plain].concat(),
        ("other-content", Message::Object(b'b', _)) => changed(|content| content.fill(b'!')),
        ("other-tree", Message::Object(b't', _)) => {
            changed(|content| content.iter_mut().last().map_or((), |id| *id ^= 1))
        }
        ("other-commit", Message::Object(b'c', _)) => changed(|content| content.extend(b"and more\n")),
        ("other-type", Message::Object(b'c', content)) => object(b'g', content),
        ("no-content", Message::Object(b'b', _)) => Vec::new(),
        ("no-tree", Message::Object(b't', _)) => Vec::new(),
        ("no-commit", Message::Object(b'c', _)) => Vec::new(),
        ("nothing", Message::Object(..)) => Vec::new(),
        ("hollow-commit", Message::PackEnds) => [object(b'c', &commit(&"5".repeat(40))), plain].concat(),
        ("more-objects", Message::PackEnds) => {
            // git's empty tree has a well-known id.
            let empty = commit("4b825dc642cb6eb9a060e54bf8d69288fbee4904");
            [object(b'b', b"more"), object(b't', b""), object(b'c', &empty), plain].concat()
        }
        ("endless-object", Message::Object(b'b', content)) => [&[b'b'; 1][..], &[0x7f; 8], content].concat(),
        ("cut-short", Message::Object(b'b', content)) => object(b'b', content)[..9 + content.len() / 2].to_vec(),
        ("nonsense", Message::PackEnds) => vec![b'#'],
        ("no-end", Message::Other) if plain == b"." => Vec::new(),
        ("endless-boundary", Message::Boundary) => [&[b's'][..], &[0x7f; 8]].concat(),
        ("foreign-boundary", Message::Boundary) => [&[b's'][..], &2_u64.to_be_bytes(), &[0; 20], &[7; 20]].concat(),
        ("no-end", Message::FetchEnds) => Vec::new(),
        ("writing-before-the-end", Message::PackEnds) => {
            write_everywhere();
            plain
        }
        _ => plain,
    }
}

fn object(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &(content.len() as u64).to_be_bytes(), content].concat()
}

fn commit(tree: &str) -> Vec<u8> {
    format!("tree {tree}\nauthor A <a@b> 9999999999 +0000\ncommitter A <a@b> 9999999999 +0000\n\nm\n").into_bytes()
}

/// A number, and so many parts of this size.
fn counted(from: &mut impl Read, size: usize) -> io::Result<Vec<u8>> {
    let mut count = [0; 8];
    from.read_exact(&mut count)?;
    let count = usize::try_from(u64::from_be_bytes(count)).map_err(io::Error::other)?;
    let mut bytes = vec![0; count * size];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Tries to change all that the verifier keeps.
fn write_everywhere() {
    let mut places = vec![PathBuf::from("/.gitrepo/kept"), PathBuf::from("/.gitrepo/base")];
    let mut could = Vec::new();
    while let Some(place) = places.pop() {
        could.extend(attempt(&place.join("new"), |path| File::create(path).map(drop)));
        for path in fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                places.push(path);
                continue;
            }
            could.extend(attempt(&path, |path| File::options().append(true).open(path)?.write_all(b"lie")));
            could.extend(attempt(&path, |path| File::options().write(true).open(path)?.write_all(b"lie")));
            could.extend(attempt(&path, |path| fs::rename(path, path.with_extension("moved"))));
            could.extend(attempt(&path, |path| fs::remove_file(path)));
        }
    }
    assert!(could.is_empty(), "{could:?}");
}

fn attempt(path: &Path, change: impl FnOnce(&Path) -> io::Result<()>) -> Option<PathBuf> {
    change(path).is_ok().then(|| path.to_owned())
}

/// The pipe that is open for reading, or the one that is open for writing, besides the standard streams.
fn descriptor(mode: OFlag) -> io::Result<RawFd> {
    let is_wanted = |number: &RawFd| {
        // SAFETY: nothing is done with a number that is not open.
        let open = unsafe { BorrowedFd::borrow_raw(*number) };
        let is_pipe = fstat(open).is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode).contains(SFlag::S_IFIFO));
        let flags = fcntl(open, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
        is_pipe && flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == mode)
    };
    (3..1024).find(is_wanted).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn duplicate(number: RawFd) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: it was just found open, and its owner lives as long as the conversation.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

fn replace(number: RawFd, by: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the number stays open, for another pipe; its owner need not know.
    let replaced = unsafe { libc::dup2(by.as_raw_fd(), number) };
    if replaced < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
