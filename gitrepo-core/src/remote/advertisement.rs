//! The refs of a server, and the commit that a revision means among them.

use std::collections::HashMap;

use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::nearest::nearest;

/// Suffix of an annotated tag's second entry before version 2. That entry has the object that the tag finally leads to.
const PEELED: &str = "^{}";

/// Bytes of ref names kept. A list of a million refs needs some 50 MB.
const MOST_BYTES: usize = 128 << 20;

/// Names compared to find the one probably meant: a remote may have any number.
const NAMES_COMPARED: usize = 10_000;

/// Branches named in a message.
const BRANCHES_SHOWN: usize = 5;

/// The list of refs exceeds its limit.
#[derive(Debug, thiserror::Error)]
#[error("its list of refs is too long")]
pub(crate) struct ListTooLong;

/// A ref of the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    /// Its full name, a valid ref name.
    name: String,
    /// Its object: a commit, an annotated tag, or anything else.
    target: CommitId,
    /// The object that an annotated tag leads to.
    peeled: Option<CommitId>,
}

impl Head {
    /// The commit, if the server is right and the object is one.
    fn commit(&self) -> CommitId {
        self.peeled.unwrap_or(self.target)
    }

    fn resolved(&self, reference: String) -> Resolved {
        let tag = self.peeled.is_some().then_some(self.target);
        Resolved { commit: self.commit(), reference: Some(reference), tag }
    }

    fn is_branch_or_tag(&self) -> bool {
        self.name.starts_with("refs/heads/") || self.name.starts_with("refs/tags/")
    }
}

/// Refs of a server: all of them, or those that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Advertisement {
    heads: Vec<Head>,
    positions: HashMap<String, usize>,
    default_branch: Option<String>,
    bytes: usize,
}

impl Advertisement {
    /// Adds an entry. Names that are not valid refs or not UTF-8 are skipped: nobody can request them.
    ///
    /// # Errors
    ///
    /// If the list becomes too large.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        target: CommitId,
        peeled: Option<CommitId>,
        symref: Option<&[u8]>,
    ) -> Result<(), ListTooLong> {
        self.bytes = self.bytes.saturating_add(name.len() + size_of::<Head>());
        if self.bytes > MOST_BYTES {
            return Err(ListTooLong);
        }
        let Ok(name) = std::str::from_utf8(name) else { return Ok(()) };
        if let Some(tag) = name.strip_suffix(PEELED) {
            if let Some(&position) = self.positions.get(tag) {
                self.heads[position].peeled = Some(target);
            }
            return Ok(());
        }
        if !git2::Reference::is_valid_name(name) {
            return Ok(());
        }
        if let Some(symref) = symref.filter(|_| name == "HEAD") {
            self.set_default_branch(symref);
        }
        self.positions.insert(name.to_owned(), self.heads.len());
        self.heads.push(Head { name: name.to_owned(), target, peeled });
        Ok(())
    }

    /// The ref that `HEAD` names, which may not exist.
    pub(crate) fn set_default_branch(&mut self, name: &[u8]) {
        let name = std::str::from_utf8(name).ok().filter(|name| git2::Reference::is_valid_name(name));
        self.default_branch = name.map(str::to_owned);
    }

    /// The prefixes of refs that can answer `revision`. A commit id is not looked up among refs.
    pub(crate) fn prefixes(revision: &Revision) -> Vec<String> {
        match revision {
            Revision::Commit(_) => Vec::new(),
            Revision::Head => vec!["HEAD".to_owned()],
            Revision::Named(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
            Revision::Ref(name) => vec![name.clone()],
        }
    }

    /// Resolves `revision`; `None` if it is not among these refs, as a commit id never is. A short name means the branch
    /// of that name, or else the tag, as for `git checkout`.
    pub(crate) fn resolve(&self, revision: &Revision) -> Option<Resolved> {
        let head = match revision {
            Revision::Commit(_) => None,
            Revision::Head => {
                let head = self.get("HEAD")?;
                let reference = self.default_branch.as_deref().unwrap_or("HEAD").to_owned();
                return Some(head.resolved(reference));
            }
            Revision::Named(name) => {
                self.get(&format!("refs/heads/{name}")).or_else(|| self.get(&format!("refs/tags/{name}")))
            }
            Revision::Ref(name) => self.get(name),
        }?;
        Some(head.resolved(head.name.clone()))
    }

    /// The error for a revision that is not among these refs, which are all of the server's.
    pub(crate) fn missing(&self, revision: &Revision, url: &RepositoryUrl) -> RemoteError {
        let url = url.to_string();
        if *revision != Revision::Head {
            return RemoteError::RevisionNotFound {
                url,
                revision: revision.to_string(),
                nearest: self.nearest(revision),
            };
        }
        let branches = self.heads.iter().filter_map(|head| head.name.strip_prefix("refs/heads/"));
        let branches: Vec<_> = branches.take(BRANCHES_SHOWN).map(str::to_owned).collect();
        match branches.is_empty() {
            true => RemoteError::EmptyRepository { url },
            false => RemoteError::NoDefaultBranch { url, head: self.default_branch.clone(), branches },
        }
    }

    /// The object to fetch for `commit`: that of `preferred` if it leads there, or else of any other ref, branches and
    /// tags first.
    pub(crate) fn leading_to(&self, commit: CommitId, preferred: Option<&str>) -> Option<CommitId> {
        let leads = |head: &&Head| head.commit() == commit || head.target == commit;
        let found = preferred.and_then(|name| self.get(name)).filter(leads).or_else(|| {
            let mut heads = self.heads.iter().filter(leads);
            let first = heads.next()?;
            if first.is_branch_or_tag() {
                Some(first)
            } else {
                heads.find(|head| head.is_branch_or_tag()).or(Some(first))
            }
        });
        found.map(|head| head.target)
    }

    /// The objects of all refs.
    pub(crate) fn targets(&self) -> impl Iterator<Item = CommitId> {
        self.heads.iter().map(|head| head.target)
    }

    fn get(&self, name: &str) -> Option<&Head> {
        self.positions.get(name).and_then(|&position| self.heads.get(position))
    }

    /// The name that was probably meant: with a prefix too many or missing, or with a typing error.
    fn nearest(&self, revision: &Revision) -> Option<String> {
        let names =
            |of: fn(&Head) -> bool| self.heads.iter().filter(move |head| of(head)).map(|head| head.name.as_str());
        // A server may list any number of changes or pull requests before them.
        let branches_and_tags = || names(Head::is_branch_or_tag).take(NAMES_COMPARED);
        match revision {
            Revision::Named(name) => {
                let as_ref = format!("refs/{name}");
                let of_remote = name.split_once('/').map(|(_, rest)| rest);
                self.get(&as_ref)
                    .map(|head| head.name.clone())
                    .or_else(|| {
                        of_remote.filter(|rest| self.get(&format!("refs/heads/{rest}")).is_some()).map(str::to_owned)
                    })
                    .or_else(|| {
                        let short = |name: &str| name.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
                        let names: Vec<_> = branches_and_tags().map(short).collect();
                        nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
                    })
            }
            Revision::Ref(name) => {
                let others = names(|head| !head.is_branch_or_tag()).take(NAMES_COMPARED);
                nearest(name, branches_and_tags().chain(others)).map(str::to_owned)
            }
            Revision::Head | Revision::Commit(_) => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> CommitId {
        CommitId::from_bytes([digit; 20])
    }

    fn url() -> RepositoryUrl {
        RepositoryUrl::parse("https://git.example.com/a.git").unwrap()
    }

    fn advertisement() -> Advertisement {
        let mut list = Advertisement::default();
        list.add(b"HEAD", id(1), None, Some(b"refs/heads/main")).unwrap();
        list.add(b"refs/heads/both", id(2), None, None).unwrap();
        list.add(b"refs/heads/main", id(1), None, None).unwrap();
        list.add(b"refs/pull/7/head", id(3), None, None).unwrap();
        list.add(b"refs/tags/both", id(4), None, None).unwrap();
        list.add(b"refs/tags/v1.0", id(5), None, None).unwrap();
        list.add(b"refs/tags/v1.0^{}", id(6), None, None).unwrap();
        list.add(b"refs/tags/v2.0", id(7), Some(id(8)), None).unwrap();
        list
    }

    fn resolve(list: &Advertisement, revision: &str) -> Option<(CommitId, Option<String>)> {
        list.resolve(&Revision::parse(revision).unwrap()).map(|resolved| (resolved.commit, resolved.reference))
    }

    #[test]
    fn revisions_resolve_as_git_checkout_would() {
        let list = advertisement();
        for (revision, commit, reference) in [
            ("HEAD", 1, "refs/heads/main"),
            ("main", 1, "refs/heads/main"),
            ("both", 2, "refs/heads/both"),
            ("refs/tags/both", 4, "refs/tags/both"),
            ("v1.0", 6, "refs/tags/v1.0"),
            ("v2.0", 8, "refs/tags/v2.0"),
            ("refs/pull/7/head", 3, "refs/pull/7/head"),
        ] {
            assert_eq!(resolve(&list, revision), Some((id(commit), Some(reference.to_owned()))), "{revision}");
        }
        assert_eq!(resolve(&list, &id(1).to_string()), None, "a commit id is no name");
        assert_eq!(resolve(&list, "colour"), None);
    }

    #[test]
    fn s20_the_annotated_tag_of_a_ref_is_named() {
        let list = advertisement();
        for (revision, tag) in [("v1.0", Some(5)), ("v2.0", Some(7)), ("refs/tags/both", None), ("main", None)] {
            let resolved = list.resolve(&Revision::parse(revision).unwrap()).unwrap();
            assert_eq!(resolved.tag, tag.map(id), "{revision}");
        }
    }

    #[test]
    fn an_unknown_name_suggests_the_one_that_was_meant() {
        let list = advertisement();
        for (revision, expected) in [
            ("maim", Some("main")),
            ("refs/heads/mian", Some("refs/heads/main")),
            ("origin/main", Some("main")),
            ("heads/main", Some("refs/heads/main")),
            ("tags/v1.0", Some("refs/tags/v1.0")),
            ("pull/7/head", Some("refs/pull/7/head")),
            ("colour", None),
        ] {
            match list.missing(&Revision::parse(revision).unwrap(), &url()) {
                RemoteError::RevisionNotFound { nearest, .. } => assert_eq!(nearest.as_deref(), expected, "{revision}"),
                other => panic!("{revision}: {other:?}"),
            }
        }
    }

    #[test]
    fn s25_a_suggestion_among_any_number_of_refs_is_soon_found_or_given_up() {
        let long = "x".repeat(900);
        let (mut many, mut wide) = (Advertisement::default(), Advertisement::default());
        for number in 0..1_000_000 {
            many.add(format!("refs/changes/{number}").as_bytes(), id(1), None, None).unwrap();
        }
        for number in 0..2_000 {
            wide.add(format!("refs/heads/{long}{number}").as_bytes(), id(1), None, None).unwrap();
        }
        for list in [&mut many, &mut wide] {
            list.add(b"refs/tags/main", id(2), None, None).unwrap();
        }
        for (list, revision, expected) in [
            (&many, "mian", Some("main")),
            (&wide, "mian", Some("main")),
            (&wide, &long, None),
            (&many, "refs/changes/x", Some("refs/changes/0")),
        ] {
            match list.missing(&Revision::parse(revision).unwrap(), &url()) {
                RemoteError::RevisionNotFound { nearest, .. } => assert_eq!(nearest.as_deref(), expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_head_that_leads_nowhere_is_told_from_an_empty_repository() {
        let mut list = Advertisement::default();
        list.set_default_branch(b"refs/heads/master");
        assert!(matches!(list.missing(&Revision::Head, &url()), RemoteError::EmptyRepository { .. }));
        list.add(b"refs/heads/main", id(1), None, None).unwrap();
        match list.missing(&Revision::Head, &url()) {
            RemoteError::NoDefaultBranch { head, branches, .. } => {
                assert_eq!(head.as_deref(), Some("refs/heads/master"));
                assert_eq!(branches, ["main"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_detached_head_is_named_head() {
        let mut list = Advertisement::default();
        list.add(b"HEAD", id(1), None, None).unwrap();
        assert_eq!(resolve(&list, "HEAD"), Some((id(1), Some("HEAD".to_owned()))));
    }

    #[test]
    fn hostile_names_are_left_out() {
        let mut list = Advertisement::default();
        let names: [&[u8]; 6] = [b"refs/heads/\xff", b"refs/heads/a..b", b"refs/heads/*", b"a:b", b"^{}", b"refs/x\n"];
        for name in names {
            list.add(name, id(1), None, None).unwrap();
        }
        list.add(b"HEAD", id(1), None, Some(b"refs/heads/\xff")).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(resolve(&list, "HEAD").unwrap().1.as_deref(), Some("HEAD"));
    }

    #[test]
    fn the_object_to_fetch_is_of_the_ref_resolved_or_of_the_plainest_that_leads_there() {
        let list = advertisement();
        for (commit, preferred, expected) in [
            (1, Some("HEAD"), Some(1)),
            (1, None, Some(1)),
            (3, None, Some(3)),
            (6, None, Some(5)),
            (8, None, Some(7)),
            (2, Some("refs/heads/main"), Some(2)),
            (9, Some("refs/heads/main"), None),
        ] {
            assert_eq!(list.leading_to(id(commit), preferred), expected.map(id), "{commit} {preferred:?}");
        }
    }
}
