//! Operations of all kinds, many of which fail: what the driver uses does not grow.
//!
//! `GITREPO_TEST_OPERATIONS` sets the number of operations, and `GITREPO_TEST_SEED` repeats their order.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Footprint;
use gitrepo_tests::kubelet::csi::TornDown;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::person::Person;
use gitrepo_tests::random;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use serde_json::json;
use tonic::Code;

use super::Scene;

/// How many operations there are, most of which are several calls.
const OPERATIONS: &str = "GITREPO_TEST_OPERATIONS";

/// What memory may grow by, in KiB.
const GROWTH: u64 = 2 << 10;

/// How long a call of the kubelet waits for a server that does not answer.
const LITTLE: Duration = Duration::from_millis(300);

/// How many lines the metrics may grow by: kinds of failures that are first seen late.
const METRICS: usize = 8;

/// The directories of the store that keep something of each commit, and how many files each keeps at most.
const KEPT: [&str; 3] = ["access", "repositories", "snapshots"];
const OF_A_COMMIT: usize = 12;

const TOKEN: &str = "t0k3n";

/// A kind of operation: its name, and what it does.
type Kind = (&'static str, fn(&Mix, &Pod));

const KINDS: [Kind; 18] = [
    ("a volume is published, again, looked at, and unpublished twice", |mix, pod| mix.complete(pod, &mix.small())),
    ("a commit", |mix, pod| mix.complete(pod, &mix.small().with_attribute("revision", &mix.scene.commit))),
    ("a tree of another repository", |mix, pod| mix.complete(pod, &mix.large())),
    ("a part of a tree", |mix, pod| mix.complete(pod, &mix.large().with_attribute("subdirectory", "d"))),
    ("a view for a group", |mix, pod| mix.complete(&pod.clone().with_fs_group(2000), &mix.large())),
    ("a private copy", |mix, pod| mix.complete(pod, &mix.writable().with_attribute("writable", "private"))),
    ("a shared copy", |mix, pod| mix.share(pod)),
    ("a new commit", |mix, pod| mix.renew(pod)),
    ("a good credential", |mix, pod| mix.complete(pod, &mix.closed(TOKEN))),
    ("a wrong credential", |mix, pod| mix.fail(pod, &mix.closed("wrong"), Code::Unauthenticated)),
    ("a missing revision", |mix, pod| {
        mix.fail(pod, &mix.small().with_attribute("revision", &pod.uid), Code::NotFound);
    }),
    ("a missing repository", |mix, pod| mix.fail(pod, &mix.at(&mix.scene.server, &pod.uid), Code::NotFound)),
    ("a refused host", |mix, pod| {
        let url = format!("https://{}.denied.example/a", pod.uid);
        mix.fail(pod, &mix.small().with_attribute("repository", &url), Code::PermissionDenied);
    }),
    ("an unknown key", |mix, pod| mix.fail(pod, &mix.small().with_attribute(&pod.uid, "x"), Code::InvalidArgument)),
    ("a server that fails", |mix, pod| mix.fail_for_now(pod, &mix.at(&mix.failing, "small.git"), Code::Unavailable)),
    ("a pack of garbage", |mix, pod| mix.fail(pod, &mix.at(&mix.garbage, "small.git"), Code::FailedPrecondition)),
    ("a silent server", |mix, pod| mix.give_up(pod)),
    ("a caller that goes away", |mix, pod| mix.go_away(pod)),
];

/// A driver, and servers of all kinds.
struct Mix {
    scene: Scene,
    large: Repository,
    changing: Repository,
    closed: HttpServer,
    failing: HttpServer,
    garbage: HttpServer,
    silent: HttpServer,
    /// How many commits were made.
    commits: AtomicUsize,
}

impl Mix {
    fn new() -> Option<Self> {
        // What a sweep reads of each snapshot takes memory, too, so the store must not grow without end.
        let cache = json!({ "reserveBytes": "0", "maxBytes": "8Mi" });
        let settings = json!({ "credentialsOverHttp": true, "deniedHosts": ["*.denied.example"], "cache": cache });
        let scene = Scene::configured(&settings, |server| server)?;
        let large = fixtures::everything().repository;
        let changing = Repository::new("changing");
        changing.commit("main", &Files::new().file("number", "none\n"));
        scene.server.add(&large);
        scene.server.add(&changing);
        let server = || HttpServer::builder().serve_at("small.git", &scene.repository);
        let (closed, failing) = (server().accept(Credential::Bearer(TOKEN)), server().answer(|_| Answer::status(500)));
        let garbage = server().answer(hostile::pack_is_garbage());
        let silent = server().answer(hostile::pack_ends_midway(Ending::Silent));
        let [closed, failing, garbage, silent] = [closed, failing, garbage, silent].map(|server| server.start());
        Some(Self { scene, large, changing, closed, failing, garbage, silent, commits: AtomicUsize::new(0) })
    }

    /// A writable volume of a repository of this server.
    fn at(&self, server: &HttpServer, path: &str) -> Volume {
        Volume::inline("v", &[("repository", &server.url_at(path)), ("directory", ".")])
    }

    fn writable(&self) -> Volume {
        self.scene.inline("v")
    }

    fn small(&self) -> Volume {
        self.writable().read_only()
    }

    fn large(&self) -> Volume {
        self.small().with_attribute("repository", &self.scene.server.url(&self.large))
    }

    fn closed(&self, token: &str) -> Volume {
        self.at(&self.closed, "small.git").read_only().with_secret(&[("token", token)])
    }

    /// What happens to most volumes, with repeated calls.
    fn complete(&self, pod: &Pod, volume: &Volume) {
        let kubelet = self.scene.kubelet();
        kubelet.must_set_up(pod, volume);
        let target = kubelet.must_set_up(pod, volume);
        assert!(fs::read_dir(&target).unwrap().count() > 0, "{volume:?} shows nothing");
        kubelet.stats(pod, volume).unwrap();
        kubelet.must_tear_down(pod, volume);
        kubelet.call_unpublish(&volume.id(pod), target.to_str().unwrap()).unwrap();
        assert_eq!(kubelet.stats(pod, volume).unwrap_err().code, Some(Code::NotFound));
    }

    /// Two pods share a copy.
    fn share(&self, pod: &Pod) {
        let (kubelet, volume) = (self.scene.kubelet(), self.scene.persistent("shared"));
        let (other, target) = self.scene.start_pod("other", &volume);
        fs::write(target.join("written"), &pod.uid).unwrap();
        let shared = kubelet.must_set_up(pod, &volume);
        assert_eq!(fs::read_to_string(shared.join("written")).unwrap(), pod.uid);
        kubelet.must_tear_down(&other, &volume);
        kubelet.must_tear_down(pod, &volume);
    }

    /// A commit that the store does not have. It is asked for by its id: calls within a second share an answer about a
    /// branch.
    fn renew(&self, pod: &Pod) {
        let commit = self.changing.commit("main", &Files::new().file("number", pod.uid.as_str()));
        let volume = self.small().with_attribute("repository", &self.scene.server.url(&self.changing));
        let volume = volume.with_attribute("revision", &commit);
        let target = self.scene.kubelet().must_set_up(pod, &volume);
        assert_eq!(fs::read_to_string(target.join("number")).unwrap(), pod.uid);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.scene.kubelet().must_tear_down(pod, &volume);
    }

    /// The kubelet forgets a volume that fails for good.
    fn fail(&self, pod: &Pod, volume: &Volume, code: Code) {
        let failed = self.scene.kubelet().set_up(pod, volume).unwrap_err();
        assert_eq!((failed.code, failed.is_final()), (Some(code), true), "{failed:?}");
    }

    fn fail_for_now(&self, pod: &Pod, volume: &Volume, code: Code) {
        let failed = self.scene.kubelet().set_up(pod, volume).unwrap_err();
        assert_eq!((failed.code, failed.is_final()), (Some(code), false), "{failed:?}");
        self.scene.kubelet().must_tear_down(pod, volume);
    }

    /// The call ends before the server answers, twice, and the pod is deleted.
    fn give_up(&self, pod: &Pod) {
        let (kubelet, volume) = (self.scene.kubelet(), self.at(&self.silent, "small.git"));
        kubelet.limit_calls(LITTLE);
        for _ in 0..2 {
            let failed = kubelet.set_up(pod, &volume).unwrap_err();
            assert!(!failed.is_final(), "{failed:?}");
        }
        kubelet.limit_calls(Duration::from_secs(120));
        kubelet.must_tear_down(pod, &volume);
    }

    fn go_away(&self, pod: &Pod) {
        let volume = self.at(&self.silent, "small.git");
        let failed = self.scene.kubelet().abandon_set_up(pod, &volume, LITTLE / 10).unwrap_err();
        assert!(!failed.is_final(), "{failed:?}");
        assert!(matches!(self.scene.kubelet().tear_down(pod, &volume), Ok(TornDown::Unpublished)));
    }

    /// Runs these operations, in an order that the seed decides.
    fn run(&self, operations: Range<usize>, seed: u64) {
        let choices = fixtures::noise(seed, operations.end);
        for number in operations {
            // First two of each.
            let choice = if number < 2 * KINDS.len() { number } else { choices[number].into() } % KINDS.len();
            let (name, operate) = KINDS[choice];
            let pod = Pod::new(&format!("pod-{number}")).in_namespace(&format!("tenant-{}", number % 7));
            let operated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operate(self, &pod)));
            assert!(operated.is_ok(), "operation {number}, {name}, failed\n{}", self.log());
        }
    }

    /// The end of the driver's log.
    fn log(&self) -> String {
        let log = self.scene.node.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What the driver uses at rest, and what it left.
    fn measure(&self) -> Measured {
        let node = &self.scene.node;
        node.come_to_rest();
        for state in ["running", "unheard"] {
            assert_eq!(node.metric(&format!("gitrepo_jobs{{state=\"{state}\"}}")), 0.0, "{state}");
        }
        node.assert_nothing_published();
        let metrics = node.get("/metrics").1.lines().count();
        // As the driver does every few minutes. The first sweep may remove what a lock was for.
        for _ in 0..2 {
            let configuration = format!("--config={}", node.home().join("config.json").display());
            let store = format!("--store={}", node.store().display());
            Person::new().run(&["sweep", &configuration, &store]).assert_success();
        }
        node.come_to_rest();
        let commits = self.commits.load(Ordering::Relaxed);
        Measured { footprint: node.footprint(), metrics, files: node.files_of_store(), commits }
    }
}

/// What the driver uses, and what there is of it.
#[derive(Debug)]
struct Measured {
    footprint: Footprint,
    /// The lines of its metrics.
    metrics: usize,
    /// How many files each directory of the store has.
    files: BTreeMap<String, usize>,
    /// How many commits were made and fetched.
    commits: usize,
}

impl Measured {
    /// What has grown since `before` and must not.
    fn growth(&self, before: &Self) -> Vec<String> {
        let Footprint { private_kib, threads, descriptors, mounts, .. } = self.footprint;
        let was = before.footprint;
        let made = self.commits - before.commits;
        let mut grown = Vec::new();
        let mut check = |what: &str, limit: usize, now: usize| {
            if now > limit {
                grown.push(format!("{what}: {now}, and at most {limit} are expected"));
            }
        };
        let kib = |kib: u64| usize::try_from(kib).unwrap();
        check("KiB of memory", kib(was.private_kib + GROWTH), kib(private_kib));
        check("threads", was.threads, threads);
        check("descriptors", was.descriptors, descriptors);
        check("mounts", was.mounts, mounts);
        check("lines of metrics", before.metrics + METRICS, self.metrics);
        for (directory, files) in &self.files {
            let of_commits = if KEPT.contains(&&**directory) { made * OF_A_COMMIT } else { 0 };
            check(directory, before.files.get(directory).unwrap_or(&0) + of_commits, *files);
        }
        grown
    }
}

#[test]
fn mixed_operations_with_failures_leave_the_driver_as_it_was() {
    let operations = usize::try_from(random::from_environment(OPERATIONS, 300)).unwrap();
    let seed = random::seed();
    let Some(mix) = Mix::new() else { return };
    let tenth = (operations / 10).max(2 * KINDS.len());
    let begun = Instant::now();
    mix.run(0..tenth, seed);
    let warm = mix.measure();
    mix.run(tenth..operations.max(tenth), seed);
    let end = mix.measure();
    println!("{operations} operations in {:?}: {warm:?} became {end:?}", begun.elapsed());
    let grown = end.growth(&warm);
    assert!(grown.is_empty(), "{grown:#?}: {warm:?} became {end:?}");
}
