//! Commits, tags and trees as git reads them: only what a volume needs, and no more strictly than git itself.
//!
//! libgit2 refuses commits and tags whose author line is malformed, which git checks out. So the bytes are read here.

use git2::ObjectType;
use git2::Oid;

#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod large;
mod tree;

pub(crate) use large::alternates;
pub(crate) use tree::EntryMode;
pub(crate) use tree::TreeEntry;
pub(crate) use tree::TreeObject;

/// The tree of a commit: git requires that its first line names it.
pub(crate) fn tree_of(commit: &[u8]) -> Option<Oid> {
    id_after(commit, b"tree ")
}

/// The parents of a commit.
pub(crate) fn parents_of(commit: &[u8]) -> Vec<Oid> {
    let lines = commit.split(|byte| *byte == b'\n').skip(1);
    lines.map_while(|line| id_after(line, b"parent ")).collect()
}

/// When a commit was made, in seconds since 1970; 0 if its line is malformed, as for git.
pub(crate) fn time_of(commit: &[u8]) -> i64 {
    stamp(commit, b"committer ").unwrap_or_default()
}

/// The time in the header line that begins with `key`, in seconds since 1970; `None` if that is missing or malformed.
pub(crate) fn stamp(object: &[u8], key: &[u8]) -> Option<i64> {
    let header = object.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let person = header.filter_map(|line| line.strip_prefix(key)).next();
    let after_address = person.and_then(|line| line.rsplit(|byte| *byte == b'>').next());
    let seconds = after_address.and_then(|rest| std::str::from_utf8(rest).ok()?.split_ascii_whitespace().next());
    seconds.and_then(|seconds| seconds.parse().ok())
}

/// The name that a tag gives itself.
pub(crate) fn tag_name(tag: &[u8]) -> Option<&[u8]> {
    let name = tag.split(|byte| *byte == b'\n').nth(2)?.strip_prefix(b"tag ")?;
    (!name.is_empty()).then_some(name)
}

/// The object that a tag names, and its type as the tag tells it.
pub(crate) fn target_of(tag: &[u8]) -> Option<(Oid, ObjectType)> {
    let id = id_after(tag, b"object ")?;
    let kind = tag.split(|byte| *byte == b'\n').nth(1)?.strip_prefix(b"type ")?;
    Some((id, ObjectType::from_str(std::str::from_utf8(kind).ok()?)?))
}

fn id_after(object: &[u8], key: &[u8]) -> Option<Oid> {
    let line = object.split(|byte| *byte == b'\n').next()?.strip_prefix(key)?;
    // libgit2 also takes shorter ids.
    if line.len() != 40 {
        return None;
    }
    Oid::from_str(std::str::from_utf8(line).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_commit_needs_a_tree_and_nothing_else() {
        let id = Oid::from_str(ID).unwrap();
        for (lines, time) in [
            ("author a <a@b> 1 +0000\ncommitter a <a@b> 1000000000 +0000\n\nmessage", 1_000_000_000),
            ("author A <a@b 1000000000 +0000\ncommitter A <a@b 1000000000 +0000\n\nm\n", 0),
            ("committer a <a> <b> 12 +0000\n\ncommitter a <a@b> 13 +0000", 12),
            ("committer a <a@b> 99999999999999999999999 +0000\n", 0),
            ("committer a <a@b> -5 +0000\n", -5),
            ("", 0),
        ] {
            let commit = format!("tree {ID}\n{lines}");
            assert_eq!((tree_of(commit.as_bytes()), time_of(commit.as_bytes())), (Some(id), time), "{lines}");
        }
        for bad in [
            "",
            "tree 0123\n",
            "parent 0123456789abcdef0123456789abcdef01234567\n",
            "tree x123456789abcdef0123456789abcdef01234567",
        ] {
            assert_eq!(tree_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_tag_needs_an_object_and_its_type() {
        let id = Oid::from_str(ID).unwrap();
        for (lines, kind) in [
            ("type commit\ntag x\ntagger A 1000000000 +0000\n\nm\n", Some(ObjectType::Commit)),
            ("type tree", Some(ObjectType::Tree)),
            ("type nonsense\n", None),
            ("tag x\n", None),
        ] {
            let tag = format!("object {ID}\n{lines}");
            assert_eq!(target_of(tag.as_bytes()), kind.map(|kind| (id, kind)), "{lines}");
        }
    }
}
