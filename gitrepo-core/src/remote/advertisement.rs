//! The refs that a server advertises on connecting, and how a revision resolves in that list.

use std::collections::HashMap;

use git2::Oid;

use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::remote::repository::commit_id;
use crate::remote::repository::oid;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::nearest::nearest;

/// Suffix of an annotated tag's second entry, which has the object that it finally leads to.
const PEELED: &str = "^{}";

/// Names compared to find the one probably meant: a remote may have any number.
const NAMES_COMPARED: usize = 10_000;

/// A ref of the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its full name, a valid ref name.
    pub(crate) name: String,
    /// Its object, as advertised: a commit, an annotated tag, or anything else.
    pub(crate) target: Oid,
    /// The object that an annotated tag leads to.
    peeled: Option<Oid>,
}

impl Head {
    /// The commit, if the server is right and the object is one.
    pub(crate) fn commit(&self) -> CommitId {
        commit_id(self.peeled.unwrap_or(self.target))
    }

    fn is_branch_or_tag(&self) -> bool {
        self.name.starts_with("refs/heads/") || self.name.starts_with("refs/tags/")
    }
}

/// The refs that a server advertises.
#[derive(Debug, Default)]
pub(crate) struct Advertisement {
    heads: Vec<Head>,
    places: HashMap<String, usize>,
    default_branch: Option<String>,
}

impl Advertisement {
    /// Adds an entry. Names that are not valid refs or not UTF-8 are skipped: nobody can request them.
    pub(crate) fn add(&mut self, name: &[u8], target: Oid, symref: Option<&[u8]>) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        if let Some(tag) = name.strip_suffix(PEELED) {
            if let Some(&place) = self.places.get(tag) {
                self.heads[place].peeled = Some(target);
            }
            return;
        }
        if !git2::Reference::is_valid_name(name) {
            return;
        }
        if name == "HEAD" {
            let symref = symref.and_then(|symref| std::str::from_utf8(symref).ok());
            self.default_branch = symref.filter(|symref| git2::Reference::is_valid_name(symref)).map(str::to_owned);
        }
        self.places.insert(name.to_owned(), self.heads.len());
        self.heads.push(Head { name: name.to_owned(), target, peeled: None });
    }

    /// Resolves `revision`. A commit id resolves to itself. A short name means the branch of that name, or else the
    /// tag, as for `git checkout`.
    pub(crate) fn resolve(&self, revision: &Revision, url: &RepositoryUrl) -> Result<Resolved, RemoteError> {
        let found = match revision {
            Revision::Commit(commit) => return Ok(Resolved { commit: *commit, reference: None }),
            Revision::Head => {
                let head = self.get("HEAD").ok_or_else(|| RemoteError::EmptyRepository { url: url.to_string() })?;
                let reference = self.default_branch.as_deref().unwrap_or("HEAD");
                return Ok(Resolved { commit: head.commit(), reference: Some(reference.to_owned()) });
            }
            Revision::Named(name) => {
                self.get(&format!("refs/heads/{name}")).or_else(|| self.get(&format!("refs/tags/{name}")))
            }
            Revision::Ref(name) => self.get(name),
        };
        match found {
            Some(head) => Ok(Resolved { commit: head.commit(), reference: Some(head.name.clone()) }),
            None => Err(RemoteError::RevisionNotFound {
                url: url.to_string(),
                revision: revision.to_string(),
                nearest: self.nearest(revision),
            }),
        }
    }

    /// The ref to fetch for `commit`: `preferred` if it leads there, or else any other, branches and tags first.
    pub(crate) fn leading_to(&self, commit: CommitId, preferred: Option<&str>) -> Option<&Head> {
        let leads = |head: &&Head| head.commit() == commit || head.target == oid(commit);
        preferred.and_then(|name| self.get(name)).filter(leads).or_else(|| {
            let mut heads = self.heads.iter().filter(leads);
            let first = heads.next()?;
            if first.is_branch_or_tag() {
                Some(first)
            } else {
                heads.find(|head| head.is_branch_or_tag()).or(Some(first))
            }
        })
    }

    /// All branches and tags.
    pub(crate) fn branches_and_tags(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter().filter(|head| head.is_branch_or_tag())
    }

    fn get(&self, name: &str) -> Option<&Head> {
        self.places.get(name).and_then(|&place| self.heads.get(place))
    }

    fn nearest(&self, revision: &Revision) -> Option<String> {
        let heads = self.heads.iter().take(NAMES_COMPARED).map(|head| head.name.as_str());
        let found = match revision {
            Revision::Ref(name) => nearest(name, heads),
            Revision::Named(name) => nearest(
                name,
                heads.filter_map(|head| head.strip_prefix("refs/heads/").or_else(|| head.strip_prefix("refs/tags/"))),
            ),
            Revision::Head | Revision::Commit(_) => None,
        };
        found.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> Oid {
        Oid::from_bytes(&[digit; 20]).unwrap()
    }

    fn url() -> RepositoryUrl {
        RepositoryUrl::parse("https://git.example.com/a.git").unwrap()
    }

    fn advertisement() -> Advertisement {
        let mut list = Advertisement::default();
        list.add(b"HEAD", id(1), Some(b"refs/heads/main"));
        list.add(b"refs/heads/both", id(2), None);
        list.add(b"refs/heads/main", id(1), None);
        list.add(b"refs/pull/7/head", id(3), None);
        list.add(b"refs/tags/both", id(4), None);
        list.add(b"refs/tags/v1.0", id(5), None);
        list.add(b"refs/tags/v1.0^{}", id(6), None);
        list
    }

    fn resolve(list: &Advertisement, revision: &str) -> Result<(Oid, Option<String>), RemoteError> {
        let resolved = list.resolve(&Revision::parse(revision).unwrap(), &url())?;
        Ok((oid(resolved.commit), resolved.reference))
    }

    #[test]
    fn revisions_resolve_as_git_checkout_would() {
        let list = advertisement();
        let cases = [
            ("HEAD", 1, "refs/heads/main"),
            ("main", 1, "refs/heads/main"),
            ("both", 2, "refs/heads/both"),
            ("refs/tags/both", 4, "refs/tags/both"),
            ("v1.0", 6, "refs/tags/v1.0"),
            ("refs/pull/7/head", 3, "refs/pull/7/head"),
        ];
        for (revision, commit, reference) in cases {
            assert_eq!(resolve(&list, revision).unwrap(), (id(commit), Some(reference.to_owned())), "{revision}");
        }
        let commit = id(9).to_string();
        assert_eq!(resolve(&list, &commit).unwrap(), (id(9), None));
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest_one() {
        let list = advertisement();
        for (revision, expected) in
            [("maim", Some("main")), ("refs/heads/mian", Some("refs/heads/main")), ("colour", None)]
        {
            match resolve(&list, revision) {
                Err(RemoteError::RevisionNotFound { nearest, .. }) => assert_eq!(nearest.as_deref(), expected),
                other => panic!("{revision}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_repository_without_head_is_empty_but_its_branches_are_there() {
        let mut list = Advertisement::default();
        assert!(matches!(resolve(&list, "HEAD"), Err(RemoteError::EmptyRepository { .. })));
        list.add(b"refs/heads/other", id(1), None);
        assert!(matches!(resolve(&list, "HEAD"), Err(RemoteError::EmptyRepository { .. })));
        assert!(resolve(&list, "other").is_ok());
    }

    #[test]
    fn a_detached_head_is_named_head() {
        let mut list = Advertisement::default();
        list.add(b"HEAD", id(1), None);
        assert_eq!(resolve(&list, "HEAD").unwrap(), (id(1), Some("HEAD".to_owned())));
    }

    #[test]
    fn hostile_names_are_left_out() {
        let mut list = Advertisement::default();
        let names: [&[u8]; 6] = [b"refs/heads/\xff", b"refs/heads/a..b", b"refs/heads/*", b"a:b", b"^{}", b"refs/x\n"];
        for name in names {
            list.add(name, id(1), None);
        }
        list.add(b"HEAD", id(1), Some(b"refs/heads/\xff"));
        assert_eq!(list.heads.len(), 1);
        assert_eq!(resolve(&list, "HEAD").unwrap().1.as_deref(), Some("HEAD"));
    }

    #[test]
    fn the_ref_to_fetch_is_the_one_resolved_or_the_plainest_that_leads_there() {
        let list = advertisement();
        let name = |digit, preferred| list.leading_to(commit_id(id(digit)), preferred).map(|head| head.name.as_str());
        assert_eq!(name(1, Some("HEAD")), Some("HEAD"));
        assert_eq!(name(1, None), Some("refs/heads/main"));
        assert_eq!(name(3, None), Some("refs/pull/7/head"));
        assert_eq!(name(6, None), Some("refs/tags/v1.0"), "a peeled tag");
        assert_eq!(name(2, Some("refs/heads/main")), Some("refs/heads/both"), "the preferred one has moved on");
        assert_eq!(name(8, Some("refs/heads/main")), None);
    }
}
