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

fn request(commit: &Object, directory: Option<&str>) -> FetchRequest {
    let resolved = Resolved::new(commit_id(id(commit)), Some("main".to_owned()));
    let narrow = directory.map(|directory| RelativePath::parse(directory).unwrap());
    FetchRequest { narrow, ..FetchRequest::new(resolved, 1) }
}

/// A commit with `file` in the directory `part`, and with a file beside it that nobody brings: its parts from the top
/// down.
fn parted(file: &Object) -> [Object; 4] {
    let part = tree(file);
    let entry = |mode: &str, name: &str, id: Oid| [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat();
    let entries = [entry("100644", "beside", id(&blob("beside"))), entry("40000", "part", id(&part))];
    let root = (ObjectType::Tree, entries.concat());
    [commit(&root, None), root, part, file.clone()]
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
    fn bring(&mut self, objects: &[Object], boundary: &[Oid], commit: &Object) -> Result<bool, RemoteError> {
        self.bring_below(&[], objects, boundary, &request(commit, None))
    }

    /// The same for a narrow fetch, with what is above the directory.
    fn bring_below(
        &mut self,
        above: &[Object],
        objects: &[Object],
        boundary: &[Oid],
        request: &FetchRequest,
    ) -> Result<bool, RemoteError> {
        let path = self.path();
        self.verifier.take_beside(|outlet| {
            let handed_over = above.iter().try_for_each(|(kind, content)| outlet.hand_over_above(*kind, content));
            let handed_over = handed_over.and_then(|()| hand_over(outlet, &[objects], boundary));
            handed_over.map_err(|error| refusal(error, "a", &path, false))
        })?;
        self.verifier.check(request)
    }
}

#[test]
fn a_directory_is_enough_for_a_narrow_fetch_and_no_commit_is_recorded() {
    let [commit, root, part, file] = parted(&blob("here"));
    let mut fetch = Fetch::new(None);
    let above = [commit.clone(), root.clone()];
    let mut request = request(&commit, Some("part"));
    request.proves = true;
    assert!(fetch.bring_below(&above, &[part.clone(), file], &[], &request).unwrap());
    let repository = fetch.verifier.repository().unwrap().anew().unwrap();
    assert!(!repository.holds(request.resolved.commit) && repository.offers().unwrap().is_empty());
    let packs = std::fs::read_dir(fetch.path().join("objects/pack")).unwrap();
    let indexes =
        packs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "idx"));
    let kept: Vec<_> = indexes.map(|path| std::fs::read(path).unwrap()).collect();
    let is_kept =
        |object: &Object| kept.iter().any(|index| index.windows(20).any(|bytes| bytes == id(object).as_bytes()));
    assert_eq!([&commit, &root, &part].map(is_kept), [false, false, true], "what is above is not for the store");
    // The listing finds it, and so would the next check.
    assert!(repository.objects().unwrap().exists(id(&root)));
    assert!(matches!(fetch.verifier.check(&request), Err(RemoteError::Local { .. })));
}

#[test]
fn a_directory_that_is_nowhere_is_for_the_listing_to_tell() {
    let [commit, root, ..] = parted(&blob("here"));
    for directory in ["none", "beside", "beside/x"] {
        let above = [commit.clone(), root.clone()];
        let request = request(&commit, Some(directory));
        assert!(Fetch::new(None).bring_below(&above, &[], &[], &request).unwrap(), "{directory}");
    }
}

#[test]
fn a_narrow_fetch_without_all_that_it_needs_is_refused() {
    let [commit, root, part, file] = parted(&blob("here"));
    let [other, other_root, ..] = parted(&blob("other"));
    let narrow = request(&commit, Some("part"));
    let [none, whole] = [Some("none"), None].map(|directory| request(&commit, directory));
    let objects = [commit, root, part, file, other, other_root, tree(&blob("nobody brings it"))];
    let [commit, root, part, file, other, other_root, hollow] = [0, 1, 2, 3, 4, 5, 6];
    let take = |numbers: &[usize]| numbers.iter().map(|number| objects[*number].clone()).collect::<Vec<_>>();
    for (what, above, below) in [
        ("no commit", &[root][..], &[part, file][..]),
        ("no tree above", &[commit], &[part, file]),
        ("another commit", &[other, other_root], &[part, file]),
        ("another tree above", &[commit, other_root], &[part, file]),
        ("no directory", &[commit, root], &[]),
        ("no file", &[commit, root], &[part]),
        ("a directory that is not kept", &[commit, root, part], &[file]),
        ("a hollow tree", &[commit, root], &[part, file, hollow]),
        ("a tree above that is kept", &[commit, root], &[root, part, file]),
    ] {
        let error = Fetch::new(None).bring_below(&take(above), &take(below), &[], &narrow).expect_err(what);
        assert!(matches!(error, RemoteError::BadData { .. }), "{what}: {error}");
    }
    // Whatever is missing of a directory that nobody wants, too.
    Fetch::new(None).bring_below(&take(&[commit, root]), &take(&[hollow]), &[], &none).unwrap_err();
    // What is above a directory makes no commit whole, and a blob is above none.
    let all = take(&[part, file]);
    Fetch::new(None).bring_below(&take(&[commit, root]), &all, &[], &whole).unwrap_err();
    let error = Fetch::new(None).bring_below(&take(&[file]), &all, &[], &narrow).unwrap_err();
    assert!(matches!(error, RemoteError::HandOver { .. }), "{error}");
    // That the commit is here proves nothing.
    let mut base = Fetch::new(None);
    let everything = [take(&[commit, root, part, file]), vec![blob("beside")]].concat();
    base.bring(&everything, &[], &objects[commit]).unwrap();
    let proving = FetchRequest { proves: true, ..narrow };
    let error = Fetch::new(Some(&base.path())).bring_below(&take(&[root]), &all, &[], &proving).unwrap_err();
    assert!(matches!(error, RemoteError::CommitNotProven { .. }), "{error}");
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
