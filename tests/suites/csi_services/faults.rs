//! A store that is missing, or whose filesystem fails: no final code for volumes that may exist, and no new store.

use gitrepo_tests::faulty::Fault;
use gitrepo_tests::faulty::FaultyFs;
use gitrepo_tests::namespace;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::entries;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use tonic::Code;
use tonic::Status;

use super::Bench;

const NONE: Option<&str> = None;

impl Bench {
    /// Publishes, queries and unpublishes a published volume, and publishes another one.
    fn answers(&self) -> [Result<(), Status>; 4] {
        [
            self.publish(self.request("a")),
            self.stats("csi-a", &self.target("a")).map(drop),
            self.publish(self.request("b")),
            self.unpublish("a"),
        ]
    }

    fn assert_all_are_unavailable(&self, place: &str) {
        // A real mount would keep its target from being removed.
        let mounted = self.target("a").join("mounted");
        std::fs::write(&mounted, "").unwrap();
        for (number, answer) in self.answers().into_iter().enumerate() {
            let status = answer.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{place:?} {number}: {status}");
        }
        assert!(self.node.storage.check().is_err(), "{place:?}");
        assert_eq!(self.mounts("a"), 1);
        std::fs::remove_file(mounted).unwrap();
    }

    fn assert_all_is_well(&self) {
        self.node.storage.check().unwrap();
        self.publish(self.request("a")).unwrap();
        assert_eq!(self.readme("a"), "# Second\n");
        for pod in ["a", "b"] {
            self.publish(self.request(pod)).unwrap();
            self.unpublish(pod).unwrap();
        }
        self.assert_nothing_is_left();
    }
}

#[test]
fn a_missing_store_is_unavailable_until_it_is_back_and_no_other_is_created() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let (store, away) = (bench.store(), bench.home.join("away"));
    std::fs::rename(&store, &away).unwrap();
    bench.assert_all_are_unavailable("a missing directory");
    assert!(!store.exists());
    // Now the directory is a bare mount point.
    std::fs::create_dir(&store).unwrap();
    bench.assert_all_are_unavailable("an empty directory");
    let status = bench.publish(bench.request("a")).unwrap_err();
    assert!(status.message().contains("check its mount, then retry"), "{status}");
    assert!(entries(&store).is_empty(), "{:?}", entries(&store));
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    bench.assert_all_is_well();
}

#[test]
fn a_failing_store_is_unavailable_until_it_works_again() {
    if !require::root("to mount") {
        return;
    }
    // Do this before the runtime starts threads, which would stay in the old namespace.
    namespace::private_mounts();
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    for place in ["", "volumes"] {
        let Some(faulty) = FaultyFs::over(&bench.store().join(place), Fault::Fails) else { return };
        bench.assert_all_are_unavailable(place);
        drop(faulty);
    }
    // If only part of the store fails, some calls still work, and failures are not final.
    for place in ["locks", "snapshots", "access", "staging"] {
        let Some(faulty) = FaultyFs::over(&bench.store().join(place), Fault::Fails) else { return };
        let [again, stats, other, _] = [
            bench.publish(bench.request("a")),
            bench.stats("csi-a", &bench.target("a")).map(drop),
            bench.publish(bench.request("b")),
            Ok(()),
        ];
        for (number, answer) in [again, stats, other].into_iter().enumerate() {
            let code = answer.as_ref().map_or_else(Status::code, |()| Code::Ok);
            assert!(matches!(code, Code::Ok | Code::Unavailable), "{place:?} {number}: {answer:?}");
        }
        drop(faulty);
        bench.publish(bench.request("b")).unwrap();
        bench.unpublish("b").unwrap();
    }
    bench.assert_all_is_well();
}

#[test]
fn a_read_only_store_is_unavailable_and_its_volumes_stay() {
    if !require::root("to mount") {
        return;
    }
    namespace::private_mounts();
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let store = bench.store();
    nix::mount::mount(Some(&store), &store, NONE, MsFlags::MS_BIND, NONE).unwrap();
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    nix::mount::mount(NONE, &store, NONE, read_only, NONE).unwrap();
    let [stands, stats, other, unpublished] = bench.answers();
    stands.unwrap();
    for answer in [stats, other, unpublished] {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    let failure = bench.node.storage.check().unwrap_err();
    assert!(failure.message.contains("cannot write"), "{failure}");
    nix::mount::umount2(&store, MntFlags::MNT_DETACH).unwrap();
    bench.assert_all_is_well();
}

#[test]
fn a_damaged_version_takes_no_store_offline() {
    let mut bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let version = bench.store().join("VERSION");
    for content in ["", "garbage", "\0\0\0\0"] {
        std::fs::write(&version, content).unwrap();
        bench.restart();
        for pod in ["a", "b"] {
            bench.publish(bench.request(pod)).unwrap_or_else(|status| panic!("{content:?}: {status}"));
        }
        bench.node.storage.check().unwrap();
        assert_eq!(std::fs::read_to_string(&version).unwrap(), "1\n", "{content:?}");
        assert_eq!(bench.mounts("a"), 1);
    }
    bench.unpublish("a").unwrap();
    bench.unpublish("b").unwrap();
    bench.assert_nothing_is_left();
}

#[test]
fn a_directory_that_the_store_lost_is_unavailable_until_the_next_probe_makes_it_anew() {
    let bench = Bench::new();
    for place in ["locks", "staging", "trash", "access", "refusals", "spare", "repositories"] {
        bench.publish(bench.request("a")).unwrap();
        volumes::delete(&bench.store().join(place));
        for answer in bench.answers() {
            let code = answer.as_ref().map_or_else(Status::code, |()| Code::Ok);
            assert!(matches!(code, Code::Ok | Code::Unavailable), "{place:?}: {answer:?}");
        }
        // The driver is asked for its readiness every few seconds.
        bench.node.storage.check().unwrap_or_else(|failure| panic!("{place:?}: {failure}"));
        for pod in ["a", "b"] {
            bench.publish(bench.request(pod)).unwrap_or_else(|status| panic!("{place:?}: {status}"));
            bench.unpublish(pod).unwrap();
        }
    }
    bench.assert_nothing_is_left();
}
