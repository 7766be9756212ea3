//! The turn of a tenant to fetch a commit, or a directory of one: the calls of one tenant that want the same fetch it once,
//! even beside the store's repository, whose lock they do not have there. The fetch of a directory helps no call for another
//! one, so each has its own turn.

use crate::cancel::Cancel;
use crate::digest::sha256_hex;
use crate::spec::CommitId;
use crate::spec::RelativePath;
use crate::store::error::StoreError;
use crate::store::lock::Lock;
use crate::store::lock::LockName;
use crate::store::lock::Mode;
use crate::store::lock::Turn;

use super::Repository;

/// The turn, until dropped. Whoever holds it may only try to take the repository's lock, not wait for it, and the other
/// way round.
#[derive(Debug)]
pub(crate) struct FetchTurn {
    _lock: Lock,
}

impl Repository {
    /// Takes the turn, if nobody has it.
    pub(crate) fn try_turn(
        &self,
        tenant: &str,
        commit: &CommitId,
        directory: Option<&RelativePath>,
    ) -> Result<Option<FetchTurn>, StoreError> {
        let lock = self.layout.locks.try_acquire(&self.turn_name(tenant, commit, directory), Mode::Exclusive)?;
        Ok(lock.map(|lock| FetchTurn { _lock: lock }))
    }

    /// Waits for the turn, unless `done` finds an answer.
    pub(crate) fn turn_unless<T>(
        &self,
        (tenant, commit, directory): (&str, &CommitId, Option<&RelativePath>),
        cancel: &Cancel,
        done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<FetchTurn, T>, StoreError> {
        let name = self.turn_name(tenant, commit, directory);
        match self.layout.locks.acquire_unless(&name, Mode::Exclusive, cancel, done)? {
            Turn::Ours(lock) => Ok(Turn::Ours(FetchTurn { _lock: lock })),
            Turn::Done(answer) => Ok(Turn::Done(answer)),
        }
    }

    fn turn_name(&self, tenant: &str, commit: &CommitId, directory: Option<&RelativePath>) -> LockName {
        let hash = &self.hash;
        LockName::Fetch(sha256_hex(match directory {
            None => format!("{hash} {commit} {tenant}"),
            // A path has no NUL, nor does the name of a tenant.
            Some(directory) => format!("{hash} {commit} {tenant}\0{directory}"),
        }))
    }
}
