//! Files larger than the memory that the worker may use.

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Limits;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::snapshot::Directory;
use gitrepo_core::snapshot::TreeRequest;
use gitrepo_core::spec::Revision;
use gitrepo_core::spec::TreeOptions;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::Session;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::WorkerError;
use gitrepo_tests::git;
use gitrepo_tests::repository::RawEntry;
use gitrepo_tests::repository::Repository;

use super::Rooms;
use super::job;
use super::program;
use super::with;

/// All private memory of a worker, in bytes. The kernel refuses more.
const MEMORY: u64 = 100 << 20;

/// Size of a file, in bytes.
const SIZE: u64 = 200_000_000;

/// A repository with files of these sizes, whose blobs are loose.
fn repository(sizes: &[u64]) -> Repository {
    let repository = Repository::new("large");
    let names: Vec<_> = sizes.iter().map(u64::to_string).collect();
    let blobs: Vec<_> = sizes.iter().map(|size| repository.zeros(*size)).collect();
    let entries = names.iter().zip(&blobs).map(|(name, blob)| RawEntry("100644", name.as_bytes(), blob));
    let tree = repository.raw_tree(&entries.collect::<Vec<_>>());
    repository.set_branch("main", &repository.commit_tree(&tree));
    repository
}

fn repack(repository: &Repository) {
    git::output(&mut repository.git(["repack", "-a", "-d", "--quiet"]));
}

fn count(repository: &Repository) -> String {
    git::text(git::output(&mut repository.git(["count-objects", "-v"])))
}

/// Begins to read the repository at its path.
fn session(repository: &Repository, rooms: &Rooms) -> Session {
    let mut config = Config::for_person().worker;
    config.memory = MEMORY;
    let worker = Confined::new(&config).with_program(program()).with_uid_locks(rooms.locks());
    let url = format!("file://{}", repository.path().display());
    worker.start(with(job(&url), |errand| errand.staging = Some(rooms.staging()))).unwrap()
}

/// Fails unless the file is published.
fn assert_streamed(repository: &Repository) {
    let rooms = Rooms::new();
    let mut session = session(repository, &rooms);
    let resolved = session.resolve(&Revision::Head).unwrap();
    let commit = resolved.commit;
    session.fetch(&FetchRequest::new(resolved, 1)).unwrap();
    let request = TreeRequest::new(&TreeOptions::default(), commit, &Directory, &Limits::default());
    let written = session.write_tree(&request).unwrap();
    assert_eq!((written.files, written.bytes), (1, SIZE));
    session.finish().unwrap();
}

#[test]
fn a_large_file_of_a_file_repository_is_streamed_out_of_its_loose_object() {
    let repository = repository(&[SIZE]);
    assert!(count(&repository).contains("in-pack: 0"), "{}", count(&repository));
    assert_streamed(&repository);
}

#[test]
fn a_large_file_of_a_file_repository_is_streamed_out_of_its_pack() {
    let repository = repository(&[SIZE]);
    repack(&repository);
    assert!(count(&repository).contains("in-pack: 3"), "{}", count(&repository));
    assert_streamed(&repository);
}

#[test]
fn a_large_delta_of_a_file_repository_is_read_whole_and_needs_its_memory() {
    let repository = repository(&[SIZE, SIZE + 1]);
    repack(&repository);
    let rooms = Rooms::new();
    let mut session = session(&repository, &rooms);
    let resolved = session.resolve(&Revision::Head).unwrap();
    let error = session.fetch(&FetchRequest::new(resolved, 1)).unwrap_err();
    assert!(matches!(error, WorkerError::Remote(RemoteError::OutOfMemory { .. })), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::ResourceExhausted);
}
