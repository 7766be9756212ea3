//! Remembers which trees and fetches exceeded a limit, so that nobody downloads one again to be refused again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::error::chain;
use crate::policy::Limits;

use super::Store;
use super::access::CredentialId;
use super::clock::Moment;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::layout::Layout;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;
use crate::digest::sha256_hex;

/// How long a refusal holds, within one boot. A commit never changes, but this program may learn to read it with less.
pub(crate) const REFUSAL_HOLDS: Duration = Duration::from_secs(6 * 60 * 60);

/// Size limit of the file: a message names a URL and a path.
const FILE_LIMIT: u64 = 64 * 1024;

/// What exceeded a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess<'a> {
    /// The tree, for every credential.
    Tree,
    /// A fetch of it with this credential that built on these commits and packs.
    Fetch(&'a CredentialId, &'a [String]),
}

/// A tree, or a fetch of it, that exceeded a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    at: Moment,
    /// The limits at that time.
    limits: Limits,
    /// Which limit it exceeded.
    pub(crate) message: String,
}

impl Refusal {
    /// How long ago this was found; `None` if it does not hold any more.
    fn age(&self, now: &Moment) -> Option<Duration> {
        self.at.age(now).filter(|age| *age < REFUSAL_HOLDS)
    }
}

impl Store {
    /// Returns why this tree with this much history was refused, and how long ago, if none of `limits` allows more now.
    pub(crate) fn refusal(
        &self,
        tree: &SnapshotId,
        depth: u32,
        excess: &Excess<'_>,
        limits: &Limits,
    ) -> Option<(Refusal, Duration)> {
        let path = self.layout.refusal(tree, depth, excess);
        let refusal: Refusal = durable::read_json(&path, FILE_LIMIT).ok().flatten()?;
        let age = refusal.age(&Moment::now().ok()?)?;
        (!limits.allow_more_than(&refusal.limits)).then_some((refusal, age))
    }

    /// Remembers that a tree, or a fetch of it, exceeds one of `limits`. If that cannot be written, the next call fetches
    /// it again.
    pub(crate) fn remember_refusal(
        &self,
        tree: &SnapshotId,
        depth: u32,
        excess: &Excess<'_>,
        limits: &Limits,
        message: String,
    ) {
        let write = || {
            let refusal = Refusal { at: Moment::now()?, limits: limits.clone(), message };
            durable::replace_json(&self.layout.refusal(tree, depth, excess), &refusal, Durability::Volatile)
        };
        if let Err(error) = write() {
            tracing::debug!(error = %chain(&error), "cannot remember that a limit is exceeded");
        }
    }

    /// Forgets refusals that do not hold any more. Returns how many.
    pub(super) fn sweep_refusals(&self) -> Result<usize, StoreError> {
        let (directory, now) = (self.layout.refusals(), Moment::now()?);
        let mut removed = 0;
        for path in hashes_in(&directory)?.into_iter().map(|name| directory.join(name)) {
            let refusal = durable::read_json::<Refusal>(&path, FILE_LIMIT).ok().flatten();
            if refusal.is_none_or(|refusal| refusal.age(&now).is_none()) {
                removed += usize::from(self.layout.trash.take(&path)?.is_some());
            }
        }
        Ok(removed)
    }
}

impl Layout {
    fn refusals(&self) -> PathBuf {
        self.root.join("refusals")
    }

    fn refusal(&self, tree: &SnapshotId, depth: u32, excess: &Excess<'_>) -> PathBuf {
        let mut what = format!("gitrepo refusal 1 {tree} {depth}");
        if let Excess::Fetch(credential, built_on) = excess {
            what += &format!(" {credential}");
            built_on.iter().collect::<BTreeSet<_>>().into_iter().for_each(|name| what += &format!(" {name}"));
        }
        self.refusals().join(sha256_hex(what))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::BootId;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::store;

    #[test]
    fn a_refusal_holds_for_the_same_tree_and_history_until_a_limit_is_raised_or_the_node_boots() {
        let (_place, store) = store();
        let [id, other] = [1, 2].map(|digit| install(&store, commit(digit), "").id().clone());
        let limits = Limits { tree_bytes: 1000, ..Limits::default() };
        assert_eq!(store.refusal(&id, 1, &Excess::Tree, &limits), None);
        store.remember_refusal(&id, 1, &Excess::Tree, &limits, "too large".to_owned());
        let (refusal, age) = store.refusal(&id, 1, &Excess::Tree, &limits).unwrap();
        assert_eq!(refusal.message, "too large");
        assert!(age < Duration::from_secs(60));
        assert!(
            store.refusal(&other, 1, &Excess::Tree, &limits).is_none()
                && store.refusal(&id, 0, &Excess::Tree, &limits).is_none()
        );
        for (held, other) in [
            (true, Limits { tree_bytes: 999, ..limits.clone() }),
            (false, Limits { tree_bytes: 1001, ..limits.clone() }),
            (false, Limits { entries: limits.entries + 1, ..limits.clone() }),
            (true, Limits { timeout: limits.timeout * 2, ..limits }),
        ] {
            assert_eq!(store.refusal(&id, 1, &Excess::Tree, &other).is_some(), held, "{other:?}");
        }
        assert_eq!(store.sweep_refusals().unwrap(), 0);

        let path = store.layout.refusal(&id, 1, &Excess::Tree);
        let text = fs::read_to_string(&path).unwrap();
        let boot = BootId::current().unwrap().to_string();
        for broken in [text.replace(&boot, &BootId::other().to_string()), "{".to_owned()] {
            fs::write(&path, broken).unwrap();
            assert_eq!(store.refusal(&id, 1, &Excess::Tree, &limits), None);
            assert_eq!(store.sweep_refusals().unwrap(), 1);
            assert!(!path.exists());
        }
    }
    #[test]
    fn r12_a_refusal_of_a_fetch_counts_for_one_credential_and_for_what_it_built_on() {
        let (_place, store) = store();
        let id = install(&store, commit(1), "").id().clone();
        let [credential, other] = ["a", "b"].map(|digit| CredentialId::try_from(digit.repeat(64)).unwrap());
        let (limits, told) = (Limits::default(), [commit(2), commit(3)].map(|commit| commit.to_string()));
        store.remember_refusal(&id, 1, &Excess::Fetch(&credential, &told), &limits, "too large".to_owned());
        for (excess, is_known) in [
            (Excess::Fetch(&credential, &[told[1].clone(), told[0].clone()]), true),
            (Excess::Fetch(&credential, &told[..1]), false),
            (Excess::Fetch(&other, &told), false),
            (Excess::Tree, false),
        ] {
            assert_eq!(store.refusal(&id, 1, &excess, &limits).is_some(), is_known, "{excess:?}");
        }
    }
}
