use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::error::Kind;
use crate::pack::fake::hand_over;
use crate::spec::RepositoryUrl;

type Object = (ObjectType, Vec<u8>);

fn id((kind, content): &Object) -> Oid {
    Oid::hash_object(*kind, content).unwrap()
}

fn blob(content: &str) -> Object {
    (ObjectType::Blob, content.into())
}

/// A tree with one file.
fn tree(file: &Object) -> Object {
    (ObjectType::Tree, [b"100644 file\0", id(file).as_bytes()].concat())
}

fn commit(tree: &Object, parent: Option<&Object>) -> Object {
    let parent = parent.map_or(String::new(), |parent| format!("parent {}\n", id(parent)));
    (ObjectType::Commit, format!("tree {}\n{parent}author A <a@b> 1 +0000\n\nm\n", id(tree)).into())
}

/// A fetch into a directory of its own.
struct Fetch {
    place: TempDir,
    verifier: Verifier,
}

impl Fetch {
    fn new(base: Option<&Path>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let errand = Errand {
            staging: Some(place.path().to_owned()),
            base: base.map(Path::to_owned),
            ..Errand::new(RepositoryUrl::parse("https://git.example.com/a.git").unwrap())
        };
        let verifier = Verifier::new(&errand).unwrap();
        Self { place, verifier }
    }

    fn path(&self) -> std::path::PathBuf {
        self.place.path().join(crate::remote::REPOSITORY)
    }

    /// Takes these objects from a server that was asked for `commit`.
    fn bring(&mut self, objects: &[Object], boundary: &[Oid], commit: &Object) -> Result<(), RemoteError> {
        let path = self.path();
        self.verifier.take_beside(|outlet| {
            hand_over(outlet, &[objects], boundary).map_err(|error| refusal(error, "a", &path, false))
        })?;
        self.verifier.check(&FetchRequest::new(Resolved::new(commit_id(id(commit)), Some("main".to_owned())), 1))
    }
}

#[test]
fn a_server_does_not_cut_the_history_of_a_commit_that_is_here() {
    let file = blob("here");
    let oldest = commit(&tree(&file), None);
    let old = commit(&tree(&file), Some(&oldest));
    let new = commit(&tree(&file), Some(&old));
    let mut base = Fetch::new(None);
    base.bring(&[file.clone(), tree(&file), oldest, old.clone()], &[], &old).unwrap();
    let told = [id(&old), id(&new), Oid::ZERO_SHA1];
    for again in [vec![new.clone()], vec![new.clone(), old.clone()]] {
        let mut fetch = Fetch::new(Some(&base.path()));
        fetch.bring(&again, &told, &new).unwrap();
        let shallow = fetch.verifier.repository().unwrap().shallow().unwrap();
        assert_eq!(shallow, [commit_id(id(&new))].into());
    }
}

#[test]
fn no_fetch_brings_more_packs_than_it_needs() {
    for (packs, accepted) in [(pack::MOST_PACKS, true), (pack::MOST_PACKS + 1, false)] {
        let mut fetch = Fetch::new(None);
        let path = fetch.path();
        let objects: Vec<_> = (0..packs).map(|number| [blob(&number.to_string())]).collect();
        let objects: Vec<&[Object]> = objects.iter().map(|pack| pack.as_slice()).collect();
        let taken = fetch
            .verifier
            .take_beside(|outlet| hand_over(outlet, &objects, &[]).map_err(|error| refusal(error, "a", &path, false)));
        assert_eq!(taken.is_ok(), accepted, "{packs}: {taken:?}");
    }
}

#[test]
fn trees_that_come_without_a_commit_are_checked() {
    let (file, lost) = (blob("here"), blob("not here"));
    let (first, hollow) = (commit(&tree(&file), None), commit(&tree(&lost), None));
    let mut fetch = Fetch::new(None);
    fetch.bring(&[file.clone(), tree(&file), first.clone()], &[], &first).unwrap();
    fetch.bring(&[], &[], &first).unwrap();
    let refused = |brought| assert!(matches!(brought, Err(RemoteError::BadData { .. })), "{brought:?}");
    refused(fetch.bring(&[tree(&lost)], &[], &first));
    refused(fetch.bring(std::slice::from_ref(&hollow), &[], &hollow));
    assert!(!fetch.verifier.repository().unwrap().holds(commit_id(id(&hollow))));
    fetch.bring(&[lost], &[], &hollow).unwrap();
}

#[test]
fn a_tree_that_the_base_lost_is_damage_and_no_lie_of_the_remote() {
    let file = blob("here");
    let (first, second) = (commit(&tree(&file), None), commit(&tree(&file), Some(&commit(&tree(&file), None))));
    let mut base = Fetch::new(None);
    base.bring(&[file, first.clone()], &[], &first).unwrap_err();
    base.verifier.repository().unwrap().record([commit_id(id(&first))]).unwrap();
    let brought = Fetch::new(Some(&base.path())).bring(std::slice::from_ref(&second), &[], &second);
    assert!(matches!(brought, Err(RemoteError::Local { full: false, .. })), "{brought:?}");
    let brought = Fetch::new(None).bring(std::slice::from_ref(&second), &[], &second);
    assert!(matches!(brought, Err(RemoteError::BadData { .. })), "{brought:?}");
}

#[test]
fn a_damaged_pack_is_the_fault_of_the_repository_unless_the_base_lost_its_objects() {
    let kind = |error, has_base| refusal(error, "a", std::path::Path::new("b"), has_base).kind();
    for has_base in [false, true] {
        assert_eq!(kind(PackError::Collision(Oid::ZERO_SHA1), has_base), Kind::BadData);
        assert_eq!(kind(PackError::Object { offset: 12, what: "is torn" }, has_base), Kind::BadData);
    }
    assert_eq!(kind(PackError::MissingBase(Oid::ZERO_SHA1), false), Kind::BadData);
    assert_eq!(kind(PackError::MissingBase(Oid::ZERO_SHA1), true), Kind::Unavailable);
}
