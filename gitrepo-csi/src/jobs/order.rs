//! What a job is to publish, and as whom.

use gitrepo_core::credentials::Credentials;
use gitrepo_core::volume::VolumeRequest;

/// A volume to publish, with the credentials to fetch it with.
pub struct Order {
    /// What to publish, and where.
    pub request: VolumeRequest,
    /// As whom.
    pub credentials: Credentials,
}

/// How two orders for one target differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Not at all.
    Same,
    /// In the secrets alone.
    OtherSecrets,
    /// They ask for different things.
    Other,
}

impl Order {
    /// Compares what selects the content, and the credentials.
    pub(super) fn compare(&self, other: &Self) -> Likeness {
        let asked = |order: &Self| (order.request.read_only, order.request.group);
        if self.request.spec != other.request.spec || asked(self) != asked(other) {
            return Likeness::Other;
        }
        let (ours, theirs) = (self.credentials.secret_keys(), other.credentials.secret_keys());
        let equal = ours.len() == theirs.len()
            && ours
                .iter()
                .zip(theirs)
                .all(|((key, secret), (other, their_secret))| key == other && secret.expose() == their_secret.expose());
        if equal { Likeness::Same } else { Likeness::OtherSecrets }
    }

    /// Whether both need the same tree in the store, for whatever target and credentials.
    pub(super) fn needs_the_tree_of(&self, other: &Self) -> bool {
        let tree = |order: &Self| {
            let mut content = order.request.spec.content();
            content.retain(|key, _| key != "writable" && key != "uid");
            content
        };
        tree(self) == tree(other)
    }
}
