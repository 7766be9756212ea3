use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use gitrepo_core::credentials::Secret;
use gitrepo_core::lease::Proof;
use gitrepo_core::progress::Step;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;

use super::*;

const LONG: Duration = Duration::from_secs(60);

pub(super) fn order(volume_id: &str, target: &str) -> Order {
    let spec = VolumeSpec::new(RepositoryUrl::parse("https://git.example.com/a.git").unwrap());
    Order::new(VolumeRequest::new(volume_id, target, spec), Requester::default(), Credentials::none())
}

fn with_token(token: &str) -> Order {
    let keys = BTreeMap::from([("token".to_owned(), Secret::new(token.to_owned()))]);
    let Order { request, requester, .. } = order("volume", "/pods/a");
    Order::new(request, requester, Credentials::from_secret_keys(keys).unwrap())
}

/// Returns jobs that end with the answers sent to them, or when they are given up; the number of begun jobs; the
/// sender.
fn controlled() -> (Jobs, Arc<AtomicUsize>, mpsc::Sender<Answer>) {
    controlled_within(LONG)
}

/// The same, with a time limit for each job.
fn controlled_within(limit: Duration) -> (Jobs, Arc<AtomicUsize>, mpsc::Sender<Answer>) {
    let (answers, receiver) = mpsc::channel::<Answer>();
    let (receiver, calls) = (Mutex::new(receiver), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let publish = move |_: &Order, watch: &Watch, job: &Running<'_>| {
        watch.progress.report(&Step::Fetching { bytes: 412_000_000, objects: 1_000, total_objects: 3_000 });
        counted.fetch_add(1, Ordering::Relaxed);
        loop {
            let answer = receiver.lock().unwrap().recv_timeout(Duration::from_millis(5));
            match answer {
                Ok(leased) => return leased.and_then(|published| job.begin_show().map(|()| published)),
                Err(mpsc::RecvTimeoutError::Timeout) => watch.cancel.check()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the sender is gone"),
            }
        }
    };
    (Jobs::with(limit, publish), calls, answers)
}

async fn publish(jobs: &Jobs, order: Order, deadline: Instant) -> Answer {
    jobs.join(order)?.until(deadline).await
}

/// Starts a job whose caller goes away at once.
async fn begin(jobs: &Jobs, order: Order) {
    assert!(tokio::time::timeout(Duration::ZERO, publish(jobs, order, soon())).await.is_err());
}

fn done() -> Published {
    Published {
        commit: CommitId::from_bytes([7; 20]),
        reference: None,
        outcome: Outcome::Hit,
        format: Format::Image,
        proof: Proof::Ref,
        signer: None,
        credential: "0".repeat(64).try_into().unwrap(),
    }
}

impl Jobs {
    /// Returns the progress of the job of this volume.
    fn progress(&self, volume_id: &str) -> Arc<JobProgress> {
        self.shared.table().progress(volume_id)
    }
}

fn soon() -> Instant {
    Instant::now() + LONG
}

/// Waits until the job without a waiting call has ended.
async fn until_idle(jobs: &Jobs) {
    while jobs.count().running > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn equal_requests_share_one_job_and_its_answer() {
    let (jobs, calls, orders) = controlled();
    let ask = |target: &'static str| publish(&jobs, order("volume", target), soon());
    let tell = async {
        while calls.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        orders.send(Ok(done())).unwrap();
    };
    let (a, b, ()) = tokio::join!(ask("/pods/a"), ask("/pods//a/"), tell);
    assert_eq!((a, b), (Ok(done()), Ok(done())));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(jobs.count(), JobCount { running: 0, unheard: 0 });
}

#[tokio::test]
async fn a_call_that_times_out_reports_the_progress_and_the_retry_joins_the_job() {
    let (jobs, calls, orders) = controlled();
    while calls.load(Ordering::Relaxed) == 0 {
        let soon = Instant::now() + Duration::from_millis(20);
        let failure = publish(&jobs, order("volume", "/pods/a"), soon).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Timeout);
    }
    let failure = publish(&jobs, order("volume", "/pods/a"), Instant::now()).await.unwrap_err();
    assert_eq!(failure.message, "received 412 MB of about 1.2 GB; a retry joins it");
    orders.send(Ok(done())).unwrap();
    let answer = publish(&jobs, order("volume", "/pods/a"), soon()).await;
    // If the first job ended before, this is a second one, which core would answer at once.
    if calls.load(Ordering::Relaxed) == 1 {
        assert_eq!(answer, Ok(done()));
    }
}

#[tokio::test]
async fn only_the_first_call_for_a_volume_answers_before_its_deadline() {
    let (jobs, _, orders) = controlled();
    let other = || order("other", "/pods/b");
    let is_first = |order| jobs.join(order).map(|waiting| waiting.job.is_first);
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(true));
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(true), "no call has failed");
    jobs.told("volume", Path::new("/pods//a"));
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(false));
    assert_eq!(is_first(other()), Ok(true));
    // If a remote fails repeatedly, only one call per failure may end, or the pauses would grow twice as fast.
    for _ in 0..2 {
        orders.send(Err(CallFailure::new(Kind::Unavailable, "silent"))).unwrap();
    }
    until_idle(&jobs).await;
    jobs.expire();
    assert_eq!(publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err().message, "silent");
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(false));
    assert_eq!(jobs.end("volume", Path::new("/pods/a"), LONG).await, Ok(true));
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(false), "a publish that fails for good ends its job, too");
    assert_eq!(jobs.end("volume", Path::new("/pods/a"), LONG).await, Ok(true));
    jobs.forget("volume", Path::new("/pods/a"));
    assert_eq!(is_first(order("volume", "/pods/a")), Ok(true), "another pod");
}

#[tokio::test]
async fn a_job_continues_when_its_caller_goes_away() {
    let (jobs, calls, orders) = controlled();
    begin(&jobs, order("volume", "/pods/a")).await;
    assert_eq!(jobs.count().running, 1);
    orders.send(Err(CallFailure::new(Kind::NotFound, "no such revision"))).unwrap();
    until_idle(&jobs).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);

    assert_eq!(jobs.count().unheard, 1);
    let failure = publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err();
    assert_eq!(failure.message, "no such revision", "only the next caller gets it");
    assert_eq!(jobs.count().unheard, 0);
    orders.send(Ok(done())).unwrap();
    assert_eq!(publish(&jobs, order("volume", "/pods/a"), soon()).await, Ok(done()));
}

#[tokio::test]
async fn a_kept_failure_is_not_reported_to_a_different_request() {
    let (jobs, _, orders) = controlled();
    begin(&jobs, with_token("a")).await;
    orders.send(Err(CallFailure::new(Kind::Unauthenticated, "wrong"))).unwrap();
    until_idle(&jobs).await;
    orders.send(Ok(done())).unwrap();
    assert_eq!(publish(&jobs, with_token("b"), soon()).await, Ok(done()));
}

#[tokio::test]
async fn a_different_request_for_the_same_target_is_busy() {
    let (jobs, calls, orders) = controlled();
    let first = publish(&jobs, with_token("a"), soon());
    let others = async {
        let mut writable = with_token("a");
        writable.request.read_only = false;
        assert_eq!(publish(&jobs, writable, soon()).await.unwrap_err().kind, Kind::Busy);
        assert_eq!(jobs.count().running, 1, "the first one continues");
        assert_eq!(publish(&jobs, with_token("b"), soon()).await.unwrap_err().kind, Kind::Busy);
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.unwrap_err().kind, Kind::Cancelled, "the volume has another secret now");
    orders.send(Ok(done())).unwrap();
    assert_eq!(publish(&jobs, with_token("b"), soon()).await, Ok(done()));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_unpublish_ends_the_job_and_leaves_no_failure() {
    let (jobs, _, _orders) = controlled();
    assert_eq!(jobs.end("volume", Path::new("/pods/a"), LONG).await, Ok(false));
    for _ in 0..2 {
        begin(&jobs, order("volume", "/pods/a")).await;
        assert!(jobs.works_elsewhere("volume", Path::new("/pods/b")));
        assert!(!jobs.works_elsewhere("volume", Path::new("/pods/a")));
        assert!(!jobs.works_elsewhere("other", Path::new("/pods/b")));
        assert_eq!(jobs.end("volume", Path::new("/pods/a/"), LONG).await, Ok(true));
        assert_eq!(jobs.count(), JobCount { running: 0, unheard: 0 });
    }
}

#[tokio::test]
async fn a_fetch_that_others_wait_for_outlives_the_volume_that_began_it() {
    let (jobs, calls, orders) = controlled();
    begin(&jobs, order("first", "/pods/a")).await;
    begin(&jobs, order("second", "/pods/b")).await;
    assert_eq!(jobs.end("first", Path::new("/pods/a"), LONG).await, Ok(false));
    assert_eq!(jobs.end("first", Path::new("/pods/a"), LONG).await, Ok(false));
    assert_eq!(jobs.count(), JobCount { running: 2, unheard: 0 });
    for _ in 0..2 {
        orders.send(Ok(done())).unwrap();
    }
    until_idle(&jobs).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);

    begin(&jobs, order("first", "/pods/a")).await;
    begin(&jobs, order("second", "/pods/b")).await;
    assert_eq!(jobs.end("first", Path::new("/pods/a"), LONG).await, Ok(false));
    assert_eq!(jobs.end("second", Path::new("/pods/b"), LONG).await, Ok(true));
    until_idle(&jobs).await;
    assert_eq!(jobs.count(), JobCount { running: 0, unheard: 0 }, "no target needs the tree any more");
}

#[tokio::test]
async fn a_stopping_driver_finishes_jobs_near_their_end_and_those_that_need_the_same_tree() {
    let (jobs, calls, orders) = controlled();
    begin(&jobs, order("near", "/pods/a")).await;
    begin(&jobs, order("waiting", "/pods/b")).await;
    let other = RepositoryUrl::parse("https://git.example.com/other.git").unwrap();
    let mut far = order("far", "/pods/c");
    far.request.spec = VolumeSpec::new(other);
    begin(&jobs, far).await;
    while calls.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    jobs.progress("near").report(&Step::Writing { entries: 1, total_entries: 2, bytes: 0 });
    jobs.progress("waiting").report(&Step::Waiting);
    let stop = async {
        tokio::join!(jobs.finish(LONG), async {
            while jobs.count().running > 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // New calls get cached trees.
            for _ in 0..3 {
                orders.send(Ok(done())).unwrap();
            }
            assert_eq!(publish(&jobs, order("late", "/pods/d"), soon()).await, Ok(done()));
        })
    };
    stop.await;
    assert_eq!(jobs.count(), JobCount { running: 0, unheard: 0 });
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    jobs.close();
    let late = publish(&jobs, order("late", "/pods/e"), soon()).await.unwrap_err();
    assert_eq!(late.kind, Kind::Unavailable);
    assert!(late.message.contains("stopping"), "{late}");
}

#[tokio::test]
async fn the_wait_for_a_jobs_end_is_bounded() {
    let (wake, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    // The job ignores its cancellation.
    let jobs = Jobs::with(LONG, move |_, _, _| {
        receiver.lock().unwrap().recv().unwrap();
        Ok(done())
    });
    begin(&jobs, order("volume", "/pods/a")).await;
    let failure = jobs.end("volume", Path::new("/pods/a"), Duration::from_millis(5)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Busy);
    let failure = publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Busy, "the call does not join it");
    assert_eq!(jobs.shut_down(Duration::from_millis(5)).await, 1);
    wake.send(()).unwrap();
    assert_eq!(jobs.shut_down(LONG).await, 0);
    let failure = publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unavailable, "the driver is stopping");
}

#[tokio::test]
async fn a_job_times_out_and_a_panic_is_a_failure_that_is_not_final() {
    let (jobs, _, orders) = controlled_within(Duration::from_millis(20));
    let failure = publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Timeout);
    drop(orders);
    let failure = publish(&jobs, order("volume", "/pods/a"), soon()).await.unwrap_err();
    assert!(failure.message.contains("a fault of this driver") && !failure.is_final(), "{failure}");
    assert_eq!(jobs.count(), JobCount { running: 0, unheard: 0 });
}
