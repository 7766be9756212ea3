//! Repositories that every way of serving a tree must get right and, in [`hostile`], those that it must refuse.

use std::fmt::Write;

use crate::repository::Files;
use crate::repository::Repository;

pub mod hostile;

/// A repository with everything that git can store and a volume must show.
pub struct Everything {
    /// The repository.
    pub repository: Repository,
    /// The commit of `main` and HEAD. Lightweight tag `v1`; annotated tag `v2`; `v3`, a tag of the tag `v2`.
    pub commit: String,
    /// The parent of `commit`, and the commit of the branch `old`.
    pub parent: String,
    /// The first commit of `main`; no ref points to it.
    pub first: String,
    /// A commit reachable only from the tag `orphan`.
    pub orphan: String,
    /// The commit of the *branch* `same`; equals [`Self::parent`].
    pub same_branch: String,
    /// The commit of the *tag* `same`; equals [`Self::first`].
    pub same_tag: String,
    /// A commit that no ref leads to: the tip of a deleted branch.
    pub unreachable: String,
    /// The commit of the submodule `modules/sub`, which is not in this repository.
    pub submodule: String,
}

/// Bytes of the file `large`.
pub const LARGE: usize = 10 << 20;

/// See [`Everything`].
pub fn everything() -> Everything {
    let repository = Repository::new("everything");
    let first = repository.commit("main", &Files::new().file("README.md", "# First\n"));
    let parent = repository.commit("main", &Files::new().file("README.md", "# Second\n").file("removed", "gone\n"));
    repository.set_branch("old", &parent);
    let submodule = "5ca1ab1e".repeat(5);
    let commit = repository.commit("main", &contents(&submodule));

    repository.tag("v1", &commit);
    repository.annotated_tag("v2", &commit, "Version 2");
    repository.annotated_tag("v3", "v2", "A tag of a tag");
    repository.set_branch("same", &parent);
    repository.tag("same", &first);
    repository.set_branch("feature/with/slashes", &parent);
    repository.set_reference("refs/changes/01/1/1", &parent);
    let orphan = repository.commit_unrelated("refs/tags/orphan", &Files::new().file("orphan", "alone\n"));
    let unreachable = repository.commit("abandoned", &Files::new().file("abandoned", "left behind\n"));
    repository.delete_branch("abandoned");
    let (same_branch, same_tag) = (parent.clone(), first.clone());
    Everything { repository, commit, parent, first, orphan, same_branch, same_tag, unreachable, submodule }
}

fn contents(submodule: &str) -> Files {
    let files = Files::new().remove("removed").file("README.md", "# Everything\n");
    place_names(place_links(place_attributes(files)))
        .executable("bin/run", "#!/bin/sh\necho run\n")
        .file("bin/data", "not executable\n")
        .file("empty", "")
        .executable("bin/empty", "")
        .file("large", noise(1, LARGE))
        .file("without-final-newline", "no newline")
        .file("zeros", [0; 4096])
        .file(format!("{}/deepest", ["d"; 60].join("/")), "deep\n")
        .file("only-keep/.gitkeep", "")
        .file("only/one/chain/of/directories/file", "one\n")
        .file(".gitmodules", "[submodule \"modules/sub\"]\n\tpath = modules/sub\n\turl = https://example.com/sub.git\n")
        .submodule("modules/sub", submodule)
        .submodule("modules/only/deep", submodule)
}

/// End-of-line conversion, a filter, keyword expansion and export rules, which must have no effect.
fn place_attributes(files: Files) -> Files {
    files
        .file(".gitattributes", "* text eol=crlf filter=evil ident working-tree-encoding=UTF-16 export-ignore\n")
        .file("unix.txt", "one\ntwo\n")
        .file("dos.txt", "one\r\ntwo\r\n")
        .file("mixed.txt", "one\r\ntwo\nthree\rfour")
        .file("ident.txt", "$Id$ $Format:%H$\n")
        .file(".gitignore", "*\n")
        .file("lfs.bin", format!("version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize 12\n", 7))
}

fn place_links(files: Files) -> Files {
    files
        .symlink("links/to-file", "../README.md")
        .symlink("links/to-directory", "../bin")
        .symlink("links/to-itself", "to-itself")
        .symlink("links/dangling", "no/such/file")
        .symlink("links/absolute", "/etc/passwd")
        .symlink("links/to-parents", "../../../../etc/passwd")
        .symlink("links/to-root", "..")
        .symlink("links/long", "x".repeat(4000))
        .symlink("only-link/link", "nowhere")
        .symlink("link with\nnewline", "target with\nnewline")
}

fn place_names(files: Files) -> Files {
    files
        .file("names/with space", "space\n")
        .file("names/with\nnewline", "newline\n")
        .file("names/with\ttab", "tab\n")
        .file("names/with\"quotes'", "quotes\n")
        .file("names/with\\backslash", "backslash\n")
        .file("names/grüße-日本語-🦀", "UTF-8\n")
        .file(b"names/latin1-\xe9", "not UTF-8\n")
        .file("names/-dash", "dash\n")
        .file("names/*?[a]", "glob\n")
        .file("names/...", "dots\n")
        .file("names/~", "tilde\n")
        .file("names/%2e%2e", "percent\n")
        .file("names/readme", "lower\n")
        .file("names/README", "upper\n")
        .file("names/.gitfoo", "not git's\n")
        .file(format!("names/{}", "n".repeat(255)), "longest\n")
        .file("sort.txt", "between\n")
        .file("sort/file", "the directory sorts as sort/\n")
        .file("sort0", "after\n")
}

/// `count` files of 7 KiB on average in folders of a hundred: about 21 MB for 3,000. One commit on `main`.
pub fn many(count: usize) -> Repository {
    let repository = Repository::new("many");
    let mut files = Files::new();
    for number in 0..count {
        let seed = u64::try_from(number).unwrap();
        let size = 1024 + usize::try_from(random(seed) % (12 << 10)).unwrap();
        files = files.file(format!("folder-{:03}/file-{number:05}.txt", number / 100), text(seed, size));
    }
    repository.commit("main", &files);
    repository
}

/// No commits; HEAD names a branch that does not exist.
pub fn empty() -> Repository {
    Repository::new("empty")
}

/// One commit with one file, `README.md`: the fastest to create. Returns it and its commit.
pub fn small() -> (Repository, String) {
    let repository = Repository::new("small");
    let commit = repository.commit("main", &Files::new().file("README.md", "# Small\n"));
    (repository, commit)
}

/// A commit with an empty tree.
pub fn empty_tree() -> Repository {
    let repository = Repository::new("empty-tree");
    repository.commit("main", &Files::new());
    repository
}

/// A commit with empty directories, which git can store but never creates: `full/file`, `full/nothing/`, `nothing/`.
pub fn empty_directories() -> Repository {
    use crate::repository::RawEntry;
    let repository = Repository::new("empty-directories");
    let nothing = repository.raw_tree(&[]);
    let file = repository.blob(b"content\n");
    let full = repository.raw_tree(&[RawEntry("100644", b"file", &file), RawEntry("40000", b"nothing", &nothing)]);
    let tree = repository.raw_tree(&[RawEntry("40000", b"full", &full), RawEntry("40000", b"nothing", &nothing)]);
    repository.set_branch("main", &repository.commit_tree(&tree));
    repository
}

/// Lines of words, determined by the seed, and as compressible as source code.
pub fn text(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "commit", "tree", "fn", "volume", "let", "return", "struct", "mount", "pub", "self", "match", "store", "//",
        "impl", "Result", "snapshot",
    ];
    let mut text = String::with_capacity(bytes + 32);
    let mut state = seed;
    while text.len() < bytes {
        state = random(state);
        let word = WORDS[usize::try_from(state >> 60).unwrap()];
        let end = if state & 7 == 0 { '\n' } else { ' ' };
        write!(text, "{word}_{:x}{end}", state >> 8 & 0xfff).unwrap();
    }
    text.truncate(bytes);
    text
}

/// Incompressible bytes, determined by the seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = random(state);
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// The next number of splitmix64.
fn random(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
