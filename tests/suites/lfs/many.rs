//! Many objects at another host, whose places are long.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lfs::asked;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::volumes::entries;

use super::FLAG;

/// More than one listing of the tree names.
const COUNT: usize = 1150;

#[test]
fn each_object_is_asked_for_once_and_few_segments_are_left() {
    let Some(shell) = Shell::new_with(128 << 20, Format::Image) else { return };
    let (repository, lfs) = (Repository::new("app"), Lfs::new());
    let files = Files::new().file(".gitattributes", ATTRIBUTES);
    let files = (0..COUNT).fold(files, |files, number| {
        lfs.file(files, &format!("{:03}/{number}.bin", number % 100), number.to_string().as_bytes())
    });
    repository.commit("main", &files);
    let (server, storage) = (lfs.start(HttpServer::builder().serve(&repository)), lfs.start(HttpServer::builder()));
    lfs.store_at(&storage, "localhost");
    lfs.lengthen(&"x".repeat(2500));
    let target = shell.target("pod");
    shell.mount(&server.url(&repository), &target, &[FLAG]).assert_success();
    for number in 0..COUNT {
        let found = std::fs::read_to_string(target.join(format!("{:03}/{number}.bin", number % 100))).unwrap();
        assert_eq!(found, number.to_string());
    }
    let mut asked = asked(&server);
    assert_eq!((asked.len(), downloads(&storage).len()), (COUNT, COUNT));
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), COUNT, "some were asked for twice");
    let [repository] = &entries(&shell.store().join("repositories"))[..] else { panic!("another repository") };
    let segments = entries(&repository.join("segments"));
    let segments = segments.iter().filter(|path| path.extension().is_some_and(|end| end == "content")).count();
    assert!((3..=6).contains(&segments), "{segments} segments");
}
