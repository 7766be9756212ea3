//! Whether two requests are the same, or need the same.

use gitrepo_core::volume::VolumeRequest;

/// How alike two requests are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// In everything that counts.
    Same,
    /// But for the secrets.
    OtherSecrets,
    /// They ask for different things.
    Other,
}

/// Compares what selects the content, and as whom.
pub(super) fn compare(a: &VolumeRequest, b: &VolumeRequest) -> Likeness {
    if (&a.spec, a.read_only, a.group) != (&b.spec, b.read_only, b.group) {
        return Likeness::Other;
    }
    let (a, b) = (a.credentials.secret_keys(), b.credentials.secret_keys());
    let equal = a.len() == b.len()
        && a.iter().zip(b).all(|((key, secret), (other, theirs))| key == other && secret.expose() == theirs.expose());
    if equal { Likeness::Same } else { Likeness::OtherSecrets }
}

/// Whether two requests need the same tree in the store, as whomever and wherever they want it.
pub(super) fn need_the_same_tree(a: &VolumeRequest, b: &VolumeRequest) -> bool {
    let tree = |request: &VolumeRequest| {
        let mut content = request.spec.content();
        content.retain(|key, _| key != "writable" && key != "uid");
        content
    };
    tree(a) == tree(b)
}
