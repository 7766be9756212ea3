//! The copies that are being made in the place of overlays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::store::Record;
use gitrepo_core::volume::PublishError;
use gitrepo_core::watch::Watch;
use tokio::task::JoinSet;

use super::INTERVAL;
use crate::deadline;
use crate::deadline::EndsWith;
use crate::failure::CallFailure;
use crate::storage::Storage;

/// How long one copy may take.
const TO_COPY: Duration = Duration::from_secs(10 * 60);

/// How many copies are made at once. The others wait for the next look.
const AT_ONCE: usize = 4;

/// What is known of a target that shows an overlay and has to show a copy.
enum Standing {
    /// Its copy is being made. The message of the failure before, if there was one.
    Begun(String),
    /// It did not become a copy then, and this is why; empty if that will pass.
    Failed(Instant, String),
    /// It cannot become a copy.
    Hopeless,
}

/// How making a copy ended.
type Ended = Result<Result<bool, PublishError>, CallFailure>;

/// The copies of this driver.
pub(super) struct Replacing {
    storage: Arc<Storage>,
    standing: BTreeMap<PathBuf, Standing>,
    work: JoinSet<(Record, Ended)>,
    /// Ends the work with the driver.
    ends: EndsWith,
}

impl Replacing {
    pub(super) fn new(storage: Arc<Storage>) -> Self {
        Self { storage, standing: BTreeMap::new(), work: JoinSet::new(), ends: EndsWith(Cancel::new()) }
    }

    /// Begins to make copies for these targets, but for those that failed a moment ago. Forgets all others.
    pub(super) fn begin(&mut self, records: Vec<Record>) {
        self.standing.retain(|target, standing| {
            matches!(standing, Standing::Begun(_)) || records.iter().any(|record| record.target == *target)
        });
        for record in records {
            let is_due = match self.standing.get(&record.target) {
                None => true,
                Some(Standing::Failed(at, _)) => at.elapsed() >= INTERVAL,
                Some(Standing::Begun(_) | Standing::Hopeless) => false,
            };
            if is_due && self.work.len() < AT_ONCE {
                self.begin_one(record);
            }
        }
    }

    fn begin_one(&mut self, record: Record) {
        let (storage, watch) = (Arc::clone(&self.storage), Watch::until(self.ends.0.within(TO_COPY)));
        let before = match self.standing.remove(&record.target) {
            Some(Standing::Failed(_, message)) => message,
            _ => String::new(),
        };
        self.standing.insert(record.target.clone(), Standing::Begun(before));
        self.work.spawn(async move {
            let replaced = record.clone();
            let ended = deadline::on_a_thread(move || Ok(storage.volumes()?.replace_layer(&replaced, &watch))).await;
            (record, ended)
        });
    }

    /// Waits until a copy is complete or failed; without any, for ever.
    pub(super) async fn ended(&mut self) {
        match self.work.join_next().await {
            Some(Ok((record, ended))) => self.note(&record, ended),
            Some(Err(error)) => tracing::error!(%error, "making a copy in the place of an overlay ended"),
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, record: &Record, ended: Ended) {
        let (volume_id, target) = (&record.volume_id, record.target.display());
        let (message, is_hopeless) = match ended {
            Ok(Ok(true)) => {
                tracing::info!(volume_id, %target, "the overlay of a pod with a user namespace is a copy now");
                self.standing.remove(&record.target);
                return;
            }
            // The target is being published or unpublished, or the driver stops.
            Ok(Ok(false) | Err(PublishError::Outdated { .. })) => (String::new(), false),
            Ok(Err(error)) if error.kind() == Kind::Cancelled => (String::new(), false),
            Ok(Err(error)) => (chain(&error), is_final(&error)),
            Err(failure) => (failure.message, false),
        };
        let is_known = matches!(self.standing.get(&record.target), Some(Standing::Begun(known)) if *known == message);
        if !is_known && !message.is_empty() {
            tracing::warn!(volume_id, %target, error = message, "the volume of a pod with a user namespace is no copy");
        }
        let standing = if is_hopeless { Standing::Hopeless } else { Standing::Failed(Instant::now(), message) };
        self.standing.insert(record.target.clone(), standing);
    }
}

/// Whether a failure stays as long as the pod.
fn is_final(error: &PublishError) -> bool {
    matches!(
        error,
        PublishError::LayerWritten { .. } | PublishError::NotReplaceable { .. } | PublishError::TooLargeToWrite { .. }
    )
}
