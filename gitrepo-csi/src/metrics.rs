//! The metrics of `/metrics`. Every label has few values, and all values are fixed words of this program: no URL, no
//! volume, no secret.

use std::fmt;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::gateway::SessionCount;
use gitrepo_core::store::Part;
use gitrepo_core::store::Reason;
use gitrepo_core::store::SweepReport;
use gitrepo_core::store::Verification;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::Published;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Metric;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::failure::CallFailure;
use crate::jobs::JobCount;
use crate::status;
use crate::store_size::StoreSize;

/// Labels and their values.
type Labels<const COUNT: usize> = [(&'static str, &'static str); COUNT];

/// Histogram bounds in seconds: from a republish to the longest clone.
const PUBLISH_SECONDS: [f64; 12] = [0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 110.0, 300.0, 900.0, 1800.0];

/// Counters of this driver, and gauges that are read on each scrape.
pub struct Metrics {
    registry: Registry,
    publishes: Family<Labels<2>, Counter>,
    publish_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    published: Family<Labels<1>, Counter>,
    fetched_bytes: Counter,
    unpublishes: Family<Labels<1>, Counter>,
    errors: Family<Labels<2>, Counter>,
    rpcs: Family<Labels<2>, Counter>,
    sweeps: Family<Labels<1>, Counter>,
    swept: Counter,
    changed: Counter,
    scrubbed_bytes: Counter,
    damages: Family<Labels<1>, Counter>,
    evictions: Family<Labels<1>, Counter>,
    prefetches: Family<Labels<1>, Counter>,
    prefetched: Family<Labels<1>, Gauge>,
    registered: Gauge,
    gauges: Gauges,
}

/// The values that are read on each scrape.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// Sessions with remotes.
    pub sessions: SessionCount,
    /// Jobs; zero in a controller.
    pub jobs: JobCount,
    /// Changed snapshots that this driver has found since its start.
    pub changed: u64,
    /// Unused snapshots and repositories that this driver has removed since its start, by reason.
    pub evicted: [(Reason, u64); Reason::ALL.len()],
    /// Targets of writable volumes that have reached `limits.writableBytes`.
    pub overgrown: usize,
    /// Those of them that are read-only since.
    pub frozen: usize,
    /// Targets that show a snapshot that was changed or damaged.
    pub damaged: usize,
    /// The format of new read-only volumes; `None` in a controller, or while the store cannot be opened.
    pub format: Option<Format>,
    /// The store's size; `None` in a controller, or while the store cannot be read.
    pub store: Option<StoreSize>,
}

impl Default for Observed {
    /// Nothing.
    fn default() -> Self {
        Self {
            sessions: SessionCount::default(),
            jobs: JobCount::default(),
            changed: 0,
            evicted: Reason::ALL.map(|reason| (reason, 0)),
            overgrown: 0,
            frozen: 0,
            damaged: 0,
            format: None,
            store: None,
        }
    }
}

struct Gauges {
    sessions: Family<Labels<1>, Gauge>,
    jobs: Family<Labels<1>, Gauge>,
    overgrown: Gauge,
    frozen: Gauge,
    damaged: Gauge,
    snapshots: Gauge,
    repositories: Gauge,
    store_bytes: Gauge,
    trash: Gauge,
    snapshot_bytes: Gauge,
    filesystem_bytes: Family<Labels<1>, Gauge>,
    store_up: Gauge,
    format: Family<Labels<1>, Gauge>,
}

impl Default for Metrics {
    /// All counters at zero.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gitrepo");
        registry.register("build", "The driver's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let all = &mut registry;
        let publishes = added(all, "publishes", "NodePublishVolume calls by result and outcome");
        let histogram: fn() -> Histogram = || Histogram::new(PUBLISH_SECONDS);
        let publish_seconds = Family::new_with_constructor(histogram);
        let help = "Time that a NodePublishVolume call took, by outcome";
        all.register_with_unit("publish_duration", help, Unit::Seconds, publish_seconds.clone());
        Self {
            publishes,
            publish_seconds,
            published: added(all, "volumes_published", "Volumes that a call mounted, by format"),
            fetched_bytes: added_in_bytes(all, "fetched", "Packs received"),
            unpublishes: added(all, "unpublishes", "NodeUnpublishVolume calls by result"),
            errors: added(all, "errors", "Failed calls by method and kind"),
            rpcs: added(all, "rpcs", "Calls by method and gRPC code"),
            sweeps: added(all, "sweeps", "Runs of the housekeeping by result"),
            swept: added(all, "swept", "Leftovers that the housekeeping removed"),
            evictions: added(all, "evictions", "Unused snapshots and repositories removed, by reason"),
            changed: added(all, "changed_snapshots", "Shared trees found changed and no longer served"),
            scrubbed_bytes: added_in_bytes(all, "scrubbed", "Content that the scrub read"),
            damages: added(all, "damages", "Damaged parts of the store that the scrub found, by part"),
            prefetches: added(all, "prefetches", "Entries of the prefetch list that were brought, by result"),
            prefetched: added(all, "prefetched", "Entries of the prefetch list that are kept, and that are missing"),
            registered: added(all, "registered", "The kubelet has registered the driver"),
            gauges: Gauges {
                sessions: added(all, "sessions", "Sessions with remotes"),
                jobs: added(all, "jobs", "Running publishes, and failures that no call has reported yet"),
                overgrown: added(
                    all,
                    "overgrown_volumes",
                    "Writable volumes at or above limits.writableBytes, by target",
                ),
                frozen: added(
                    all,
                    "frozen_volumes",
                    "Writable volumes that are read-only since they exceeded limits.writableBytes, by target",
                ),
                damaged: added(all, "damaged_volumes", "Volumes that show a changed or damaged tree, by target"),
                snapshots: added(all, "snapshots", "Snapshots in the store"),
                repositories: added(all, "repositories", "Repositories in the store"),
                store_bytes: added_in_bytes(
                    all,
                    "store",
                    "What snapshots and repositories take, as cache.maxBytes counts",
                ),
                trash: added(all, "trash_entries", "Trees and files that are still to be deleted"),
                snapshot_bytes: added_in_bytes(
                    all,
                    "snapshots",
                    "Size of the snapshots, counted when they were written",
                ),
                filesystem_bytes: added_in_bytes(
                    all,
                    "store_filesystem",
                    "Size and free space of the store's filesystem",
                ),
                store_up: added(all, "store_up", "The store can be read"),
                format: added(all, "snapshot_format", "The format of new read-only volumes"),
            },
            registry,
        }
    }
}

impl Metrics {
    /// Counts an answer to a publish, which took this long.
    pub fn publish(&self, answer: &Result<Published, CallFailure>, took: Duration) {
        let (result, outcome) = match answer {
            Ok(published) => ("ok", outcome(published.outcome)),
            Err(failure) => (status::describe(failure.kind).word, "none"),
        };
        if let Ok(Published { outcome: Outcome::Fetched { .. } | Outcome::Hit, format, .. }) = answer {
            self.published.get_or_create(&[("format", format.name())]).inc();
        }
        self.publishes.get_or_create(&[("result", result), ("outcome", outcome)]).inc();
        self.publish_seconds.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// Counts a received pack.
    pub fn fetched(&self, bytes: u64) {
        self.fetched_bytes.inc_by(bytes);
    }

    /// Counts an answer to an unpublish.
    pub fn unpublish<T>(&self, answer: &Result<T, CallFailure>) {
        let result = answer.as_ref().map_or_else(|failure| status::describe(failure.kind).word, |_| "ok");
        self.unpublishes.get_or_create(&[("result", result)]).inc();
    }

    /// Counts a failed call of this method.
    pub fn error(&self, method: &'static str, kind: Kind) {
        self.errors.get_or_create(&[("method", method), ("kind", status::describe(kind).word)]).inc();
    }

    /// Counts an answer to a call of this method.
    pub fn rpc(&self, method: &'static str, code: &'static str) {
        self.rpcs.get_or_create(&[("method", method), ("code", code)]).inc();
    }

    /// Counts a run of the housekeeping; `None` if it failed.
    pub fn sweep(&self, report: Option<&SweepReport>) {
        let result = match report {
            None => "error",
            Some(report) if !report.failures.is_empty() => "error",
            Some(report) if report.incomplete => "incomplete",
            Some(_) => "ok",
        };
        self.sweeps.get_or_create(&[("result", result)]).inc();
        self.swept.inc_by(report.map_or(0, |report| u64::try_from(report.removed()).unwrap_or(u64::MAX)));
    }

    /// Counts what the scrub read and found.
    pub fn scrub(&self, verification: &Verification) {
        self.scrubbed_bytes.inc_by(verification.bytes);
        for damage in &verification.damages {
            let part = match damage.part {
                Part::Repository(_) => "repository",
                Part::Snapshot(_) => "snapshot",
            };
            self.damages.get_or_create(&[("part", part)]).inc();
        }
    }

    /// Counts an attempt to bring an entry of the prefetch list, and notes how many entries are kept, and how many there
    /// are.
    pub fn prefetch(&self, is_ok: bool, (kept, all): (usize, usize)) {
        self.prefetches.get_or_create(&[("result", if is_ok { "ok" } else { "error" })]).inc();
        self.prefetched.get_or_create(&[("state", "kept")]).set(signed(kept));
        self.prefetched.get_or_create(&[("state", "missing")]).set(signed(all - kept));
    }

    /// Notes whether the kubelet has registered the driver.
    pub fn registered(&self, registered: bool) {
        self.registered.set(i64::from(registered));
    }

    /// Returns all metrics in the OpenMetrics text format.
    ///
    /// # Errors
    ///
    /// Those of writing to a `String`, which never fails.
    pub fn render(&self, observed: &Observed) -> Result<String, fmt::Error> {
        self.gauges.set(observed);
        self.changed.inc_by(observed.changed.saturating_sub(self.changed.get()));
        for (reason, count) in observed.evicted {
            let counter = self.evictions.get_or_create(&[("reason", reason.name())]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Gauges {
    fn set(&self, observed: &Observed) {
        let set = |family: &Family<Labels<1>, Gauge>, state, value: usize| {
            family.get_or_create(&[("state", state)]).set(signed(value));
        };
        if let Some(serving) = observed.format {
            for format in [Format::Image, Format::Directory] {
                let is_serving = i64::from(format == serving);
                self.format.get_or_create(&[("format", format.name())]).set(is_serving);
            }
        }
        set(&self.sessions, "active", observed.sessions.active);
        set(&self.sessions, "queued", observed.sessions.queued);
        set(&self.jobs, "running", observed.jobs.running);
        set(&self.jobs, "unheard", observed.jobs.unheard);
        self.overgrown.set(signed(observed.overgrown));
        self.frozen.set(signed(observed.frozen));
        self.damaged.set(signed(observed.damaged));
        self.store_up.set(i64::from(observed.store.is_some()));
        if let Some(store) = &observed.store {
            self.snapshots.set(signed(store.snapshots));
            self.repositories.set(signed(store.repositories));
            self.store_bytes.set(signed(store.store_bytes));
            self.trash.set(signed(store.trash));
            self.snapshot_bytes.set(signed(store.snapshot_bytes));
            for (state, bytes) in [("size", store.filesystem_bytes), ("free", store.free_bytes)] {
                self.filesystem_bytes.get_or_create(&[("state", state)]).set(signed(bytes));
            }
        }
    }
}

/// Adds a metric to the registry.
fn added<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Adds a metric that counts bytes.
fn added_in_bytes<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

/// Returns the label value of an outcome.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fetched { .. } => "fetched",
        Outcome::Hit => "hit",
        Outcome::AlreadyPublished => "already",
    }
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use gitrepo_core::lease::Proof;
    use gitrepo_core::spec::CommitId;
    use gitrepo_core::store::Damage;

    use super::*;

    #[test]
    fn events_are_counted() {
        let metrics = Metrics::default();
        let published = |outcome| {
            Ok(Published {
                commit: CommitId::from_bytes([1; 20]),
                reference: None,
                outcome,
                format: Format::Image,
                proof: Proof::Ref,
                signer: None,
                credential: "0".repeat(64).try_into().unwrap(),
            })
        };
        metrics.publish(&published(Outcome::Hit), Duration::from_millis(3));
        metrics.publish(&published(Outcome::Fetched { received_bytes: 7 }), Duration::from_secs(5));
        metrics.publish(&Err(CallFailure::new(Kind::Timeout, "later")), Duration::from_secs(110));
        metrics.fetched(7);
        metrics.unpublish(&Ok(()));
        metrics.error("NodePublishVolume", Kind::Timeout);
        metrics.rpc("NodePublishVolume", "DEADLINE_EXCEEDED");
        metrics.sweep(None);
        metrics.prefetch(false, (1, 3));
        let store = StoreSize {
            snapshots: 2,
            snapshot_bytes: 300,
            repositories: 1,
            store_bytes: 500,
            trash: 3,
            filesystem_bytes: 4_000,
            free_bytes: 1_000,
        };
        let evicted = Reason::ALL.map(|reason| (reason, u64::from(reason == Reason::Size)));
        let (store, format) = (Some(store), Some(Format::Image));
        let damage = Damage {
            part: Part::Repository("0".repeat(64)),
            repository: None,
            commit: None,
            reason: "a blob is damaged".to_owned(),
            volumes: 0,
            quarantined: true,
        };
        metrics.scrub(&Verification { bytes: 11, damages: vec![damage], ..Verification::default() });
        let observed = Observed { store, changed: 2, evicted, damaged: 1, format, ..Observed::default() };
        metrics.render(&observed).unwrap();
        let text = metrics.render(&observed).unwrap();
        for line in [
            "gitrepo_publishes_total{result=\"ok\",outcome=\"hit\"} 1",
            "gitrepo_publishes_total{result=\"timeout\",outcome=\"none\"} 1",
            "gitrepo_publish_duration_seconds_bucket{le=\"0.005\",outcome=\"hit\"} 1",
            "gitrepo_volumes_published_total{format=\"image\"} 2",
            "gitrepo_snapshot_format{format=\"image\"} 1",
            "gitrepo_snapshot_format{format=\"directory\"} 0",
            "gitrepo_fetched_bytes_total 7",
            "gitrepo_unpublishes_total{result=\"ok\"} 1",
            "gitrepo_errors_total{method=\"NodePublishVolume\",kind=\"timeout\"} 1",
            "gitrepo_rpcs_total{method=\"NodePublishVolume\",code=\"DEADLINE_EXCEEDED\"} 1",
            "gitrepo_sweeps_total{result=\"error\"} 1",
            "gitrepo_changed_snapshots_total 2",
            "gitrepo_prefetches_total{result=\"error\"} 1",
            "gitrepo_prefetched{state=\"missing\"} 2",
            "gitrepo_sessions{state=\"queued\"} 0",
            "gitrepo_jobs{state=\"running\"} 0",
            "gitrepo_snapshots 2",
            "gitrepo_repositories 1",
            "gitrepo_overgrown_volumes 0",
            "gitrepo_frozen_volumes 0",
            "gitrepo_damaged_volumes 1",
            "gitrepo_scrubbed_bytes_total 11",
            "gitrepo_damages_total{part=\"repository\"} 1",
            "gitrepo_store_bytes 500",
            "gitrepo_trash_entries 3",
            "gitrepo_evictions_total{reason=\"size\"} 1",
            "gitrepo_evictions_total{reason=\"age\"} 0",
            "gitrepo_snapshots_bytes 300",
            "gitrepo_store_filesystem_bytes{state=\"free\"} 1000",
            "gitrepo_store_up 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
