use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

use tempfile::TempDir;

use super::*;
use crate::testing::FakeQuota;

const LIMIT: u64 = 1 << 20;

struct Bench {
    place: TempDir,
    quota: Arc<FakeQuota>,
}

impl Bench {
    fn new() -> Self {
        Self { place: TempDir::new().unwrap(), quota: Arc::default() }
    }

    /// As another process has them.
    fn projects(&self, ids: RangeInclusive<u32>) -> Projects {
        Projects::new(Arc::<FakeQuota>::clone(&self.quota), Some(ids), LIMIT)
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

#[test]
fn each_layer_has_an_id_of_its_own_that_is_free_again_once_it_is_gone() {
    let bench = Bench::new();
    let [one, two] = [1, 2].map(|_| bench.projects(5..=7));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| bench.mark(name));
    assert_eq!((one.claim(&a), two.claim(&b), one.claim(&c)), (Some(5), Some(6), Some(7)));
    assert!(matches!(two.try_claim_limited(&d), Err(NoQuota::AllTaken)));
    assert!(!d.exists() && bench.quota.limits().len() == 3);
    let usage = one.usage(&b).unwrap();
    assert_eq!((usage.inodes, usage.limit), (1, LIMIT));

    two.release(&b);
    two.clear_released(bench.place.path());
    assert_eq!(bench.quota.limits().len(), 3, "its files are not deleted yet");
    two.release(&b);
    fs::remove_file(&b).unwrap();
    assert_eq!(one.claim(&d), None, "it has a limit until it is cleared");
    two.clear_released(bench.place.path());
    assert_eq!(one.claim(&d), Some(6));
}

#[test]
fn ids_that_anybody_uses_are_not_taken() {
    let bench = Bench::new();
    let foreign = bench.mark("foreign");
    File::create(&foreign).unwrap();
    bench.quota.set_project(&foreign, 5).unwrap();
    bench.quota.limit(bench.place.path(), 6, 1).unwrap();
    assert_eq!(bench.projects(5..=9).claim(&bench.mark("ours")), Some(7));
}

/// Somebody who chooses the same id at the same moment, once.
#[derive(Debug)]
struct Rival {
    quota: Arc<FakeQuota>,
    mark: PathBuf,
    has_chosen: AtomicBool,
}

impl ProjectQuota for Rival {
    fn is_enforced(&self, place: &Path) -> io::Result<bool> {
        self.quota.is_enforced(place)
    }

    fn project_of(&self, file: &Path) -> io::Result<u32> {
        self.quota.project_of(file)
    }

    fn set_project(&self, file: &Path, project: u32) -> io::Result<()> {
        if !self.has_chosen.swap(true, Ordering::Relaxed) {
            self.quota.set_project(&self.mark, project)?;
        }
        self.quota.set_project(file, project)
    }

    fn usage(&self, place: &Path, project: u32) -> io::Result<ProjectUsage> {
        self.quota.usage(place, project)
    }

    fn limit(&self, place: &Path, project: u32, bytes: u64) -> io::Result<()> {
        self.quota.limit(place, project, bytes)
    }

    fn next(&self, place: &Path, project: u32) -> io::Result<Option<(u32, ProjectUsage)>> {
        self.quota.next(place, project)
    }
}

#[test]
fn an_id_that_another_process_chooses_at_the_same_moment_is_left() {
    let bench = Bench::new();
    let mark = bench.mark("rival");
    File::create(&mark).unwrap();
    let rival = Rival { quota: Arc::clone(&bench.quota), mark, has_chosen: AtomicBool::new(false) };
    let projects = Projects::new(Arc::new(rival), Some(5..=9), LIMIT);
    let claimed = projects.claim(&bench.mark("ours")).unwrap();
    assert!(claimed != 5 && (5..=9).contains(&claimed), "{claimed}");
    assert_eq!(bench.quota.usage(bench.place.path(), 5).unwrap().inodes, 1, "the rival's alone");
    assert_eq!(bench.quota.limits().into_iter().collect::<Vec<_>>(), [(claimed, LIMIT)]);
}

#[test]
fn processes_that_claim_at_once_never_share_an_id() {
    let bench = Bench::new();
    let (claimers, each) = (8, 20);
    let begin = Barrier::new(claimers);
    let claimed: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..claimers)
            .map(|claimer| {
                let (bench, begin) = (&bench, &begin);
                scope.spawn(move || {
                    let projects = bench.projects(1..=400);
                    begin.wait();
                    let claim = |number| projects.claim(&bench.mark(&format!("{claimer}-{number}"))).unwrap();
                    (0..each).map(claim).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), claimers * each);
}

#[test]
fn a_sweep_removes_limits_without_files_and_no_others() {
    let bench = Bench::new();
    let projects = bench.projects(5..=9);
    let [a, b] = ["a", "b"].map(|name| bench.mark(name));
    assert_eq!((projects.claim(&a), projects.claim(&b)), (Some(5), Some(6)));
    for foreign in [4, 10] {
        bench.quota.limit(bench.place.path(), foreign, 1).unwrap();
    }
    assert_eq!(projects.sweep(bench.place.path()).unwrap(), 0);
    fs::remove_file(&b).unwrap();
    assert_eq!(projects.sweep(bench.place.path()).unwrap(), 1);
    assert_eq!(bench.quota.limits().into_keys().collect::<Vec<_>>(), [4, 5, 10]);
}

#[test]
fn without_a_quota_there_is_no_mark_and_the_reason_is_told() {
    let bench = Bench::new();
    let mark = bench.mark("mark");
    let refused = |projects: &Projects| {
        // What a dead process left.
        File::create(&mark).unwrap();
        let reason = crate::error::chain(&projects.try_claim_limited(&mark).unwrap_err());
        assert!(!mark.exists() && projects.claim(&mark).is_none() && !mark.exists(), "{reason}");
        reason
    };
    let projects = bench.projects(5..=9);
    let disabled = Projects::new(Arc::<FakeQuota>::clone(&bench.quota), None, LIMIT);
    assert!(refused(&disabled).contains("\"projectIds\": null"));
    bench.quota.enforce(false);
    assert!(refused(&projects).contains("no project quotas"));
    bench.quota.enforce(true);
    bench.quota.refuse(Some(libc::EPERM));
    assert!(refused(&projects).contains("cannot be used: Operation not permitted"));
    bench.quota.refuse(None);
    bench.quota.set_project(bench.place.path(), 77).unwrap();
    assert!(refused(&projects).contains("project 77"));
    assert_eq!(bench.quota.limits().len(), 0);
}

#[test]
fn a_limit_that_was_lost_or_changed_is_set_again() {
    let bench = Bench::new();
    let mark = bench.mark("mark");
    let project = bench.projects(5..=9).claim(&mark).unwrap();
    for found in [0, LIMIT * 2, LIMIT / 2] {
        bench.quota.limit(&mark, project, found).unwrap();
        bench.projects(5..=9).renew(&mark);
        assert_eq!(bench.quota.limits()[&project], LIMIT, "{found}");
    }
    bench.quota.limit(&mark, project, LIMIT + 1024).unwrap();
    bench.quota.refuse(Some(libc::EIO));
    bench.projects(5..=9).renew(&mark);
    assert_eq!(bench.quota.limits()[&project], LIMIT + 1024, "rounded up by the filesystem");
    bench.projects(5..=9).renew(&bench.mark("none"));
}

#[test]
fn only_a_limit_that_the_kernel_enforces_counts() {
    let bench = Bench::new();
    let (projects, mark) = (bench.projects(5..=9), bench.mark("mark"));
    assert_eq!(projects.usage(&mark), None);
    let project = projects.claim_for_copy(&mark).unwrap();
    assert_eq!(projects.usage(&mark), None, "the copy is not complete");
    projects.renew(&mark);
    bench.quota.write(project, 4096);
    assert_eq!(projects.usage(&mark), Some(ProjectUsage { bytes: 4096, inodes: 1, limit: LIMIT }));
    bench.quota.enforce(false);
    assert_eq!(projects.usage(&mark), None);
}

#[test]
fn a_limit_is_reached_when_the_next_write_is_likely_to_fail() {
    let at = |bytes, limit| ProjectUsage { bytes, inodes: 1, limit }.is_at_limit();
    for (left, expected) in [(0, true), (4095, true), (10 << 20, true), (11 << 20, false)] {
        assert_eq!(at((1 << 30) - left, 1 << 30), expected, "{left}");
    }
    assert!(at(2 << 20, 1 << 20) && !at(8 << 10, 64 << 10) && !at(1 << 30, 0));
}

#[test]
fn a_limit_is_of_whole_blocks_and_never_more_than_configured() {
    for (configured, limit) in [(1, BLOCK), (BLOCK, BLOCK), (BLOCK * 3 - 1, BLOCK * 2), (1 << 30, 1 << 30)] {
        let bench = Bench::new();
        let projects = Projects::new(Arc::<FakeQuota>::clone(&bench.quota), Some(5..=9), configured);
        projects.claim(&bench.mark("mark")).unwrap();
        assert_eq!(bench.quota.limits()[&5], limit, "{configured}");
    }
}
