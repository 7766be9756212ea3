//! A store of a version that kept git's own packs and made directories: the next version sets it aside.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::store::Eviction;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::git;
use gitrepo_tests::volumes::PERSON;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::files_below;
use gitrepo_tests::volumes::read_only;

use super::Bench;
use super::images::image_on;

const LONG: Duration = Duration::from_secs(60);

/// Makes the only repository of the store one of an older version: with the objects as git fetched them, under the name
/// that such a version gives it. A part of a fetch that died is in staging. Returns the repository.
fn make_old(bench: &Bench) -> PathBuf {
    let [ours] = &entries(&bench.node.store().join("repositories"))[..] else { panic!("one repository") };
    delete(ours);
    let url = RepositoryUrl::parse(&bench.url()).unwrap().canonical();
    let name: String = openssl::sha::sha256(url.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let old = ours.with_file_name(&name);
    let clone = |to: &PathBuf| {
        git::output(Command::new("git").args(["clone", "--quiet", "--bare"]).args([&bench.repository.path(), to]));
    };
    clone(&old);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.split('-').next().unwrap();
    let staging = bench.node.store().join("staging").join(format!("{boot}.{name}.{}", "0".repeat(32)));
    fs::create_dir_all(&staging).unwrap();
    clone(&staging.join("repository.git"));
    old
}

pub(super) fn a_store_of_an_older_version_is_set_aside_and_its_volumes_stay(bench: &Bench) {
    let old = bench.configured(|config| config.snapshot_format = SnapshotChoice::Directory);
    let [kept, new, newer] =
        ["kept", "new", "newer"].map(|pod| at(read_only(&bench.url(), &old.target(pod)), &bench.commit));
    old.publish(&kept).unwrap();
    let old_snapshots = old.snapshots();
    let repository = make_old(bench);
    let files = files_below(&repository);

    // The new version. It asks nothing for what is mounted, and fetches all of what is not.
    let packs = bench.server.packs();
    assert_eq!(bench.node.publish(&kept).unwrap().outcome, Outcome::AlreadyPublished);
    assert_eq!(bench.server.packs(), packs);
    let Outcome::Fetched { received_bytes } = bench.node.publish(&new).unwrap().outcome else { panic!("fetched") };
    assert!(received_bytes > 0);
    image_on(bench, &new.target);
    bench.assert_shows(&new.target, &bench.commit);
    bench.assert_shows(&kept.target, &bench.commit);
    assert_eq!(files_below(&repository), files, "nothing is added to what is old");
    let [ours] = &entries(&bench.node.store().join("repositories"))
        .into_iter()
        .filter(|path| *path != repository)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one new repository")
    };
    assert!(!ours.join("objects/info/alternates").exists() && ours.join("segments").is_dir());

    // A sweep removes the old repository, and keeps what is mounted.
    let volumes = &bench.node.volumes;
    let freed = volumes.evict(Eviction::Unreferenced, LONG).unwrap();
    assert_eq!((freed.snapshots, freed.repositories, freed.incomplete), (0, 1, false));
    assert!(!repository.exists() && ours.exists());
    bench.assert_shows(&kept.target, &bench.commit);
    assert_eq!(bench.node.publish(&newer).unwrap().outcome, Outcome::Hit);

    // A reboot brings both back, each as it was.
    bench.node.reboot();
    let packs = bench.server.packs();
    for request in [&kept, &new] {
        bench.node.publish(request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
    }
    assert_eq!(bench.server.packs(), packs);
    for request in [&kept, &new] {
        assert_eq!(bench.node.unpublish(request).mounts, 1);
    }
    bench.node.unpublish(&newer);
    let freed = volumes.evict(Eviction::Unreferenced, LONG).unwrap();
    assert_eq!((freed.snapshots, freed.repositories), (2, 1));
    assert!(old_snapshots.iter().all(|snapshot| !snapshot.exists()));
    volumes.sweep(&Abandoned::Unmounted { origin: PERSON }, LONG).unwrap();
    bench.node.assert_nothing_published();
}
