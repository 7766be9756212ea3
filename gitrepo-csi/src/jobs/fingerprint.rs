//! Compares secrets without looking at them again, also when they are wiped.

use std::hash::BuildHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::LazyLock;

use gitrepo_core::credentials::Credentials;

/// A hash of secrets with a random key of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    /// Leaves parts of the secrets on the stack.
    pub(super) fn of(credentials: &Credentials) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = KEY.build_hasher();
        for (key, secret) in credentials.secret_keys() {
            (key, secret.expose()).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}
