//! Hashes the objects of a pack on a second core, while the first inflates.

use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::thread::Scope;
use std::thread::ScopedJoinHandle;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::content::Content;
use super::hash;
use super::make_room;

/// Batches that wait. Another one is being filled, and another one hashed: each holds [`HELD`] bytes and one object more.
const BATCHES: usize = 1;

/// Content that a batch holds in memory or in temporary files, in bytes.
const HELD: u64 = 1 << 20;

/// Objects of a batch.
const OBJECTS: usize = 1024;

type Batch = Vec<(ObjectType, Content)>;

/// The second thread, and what it was not given yet.
pub(super) struct HashStage<'scope> {
    batch: Batch,
    held: u64,
    to: SyncSender<Batch>,
    thread: ScopedJoinHandle<'scope, Result<Vec<Oid>, PackError>>,
}

impl<'scope> HashStage<'scope> {
    /// Starts the thread.
    pub(super) fn start<'env>(scope: &'scope Scope<'scope, 'env>) -> Result<Self, PackError> {
        let (to, from) = mpsc::sync_channel(BATCHES);
        let thread = std::thread::Builder::new().name("hash".to_owned());
        let thread = thread.spawn_scoped(scope, || run(from)).map_err(PackError::Disk)?;
        Ok(Self { batch: Vec::new(), held: 0, to, thread })
    }

    /// Takes the next object, of which `held` bytes are in memory or in a temporary file. Content that is part of a segment
    /// must be there once it is [sent](Self::send).
    pub(super) fn take(&mut self, kind: ObjectType, content: Content, held: u64) {
        self.held += held;
        self.batch.push((kind, content));
    }

    /// Whether enough waits to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.held >= HELD || self.batch.len() >= OBJECTS
    }

    /// Passes on what was taken. Returns whether the thread still runs: if not, [`finish`](Self::finish) returns its error.
    pub(super) fn send(&mut self) -> bool {
        self.held = 0;
        self.to.send(std::mem::take(&mut self.batch)).is_ok()
    }

    /// Returns the ids of all objects, in the order in which they were taken.
    pub(super) fn finish(mut self) -> Result<Vec<Oid>, PackError> {
        self.send();
        let Self { to, thread, .. } = self;
        drop(to);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(from: Receiver<Batch>) -> Result<Vec<Oid>, PackError> {
    let mut ids = Vec::new();
    for batch in from {
        for (kind, content) in batch {
            make_room(&mut ids, usize::MAX)?;
            ids.push(hash::id_of(kind, &content)?);
        }
    }
    Ok(ids)
}
