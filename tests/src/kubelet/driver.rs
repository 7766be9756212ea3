//! What both drivers have in common under their kubelets, so that one scene can be played with either.

mod csi;
mod flex;

use std::fmt::Debug;
use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::mount::mountinfo;
use serde_json::Value;
use tonic::Code;

use super::Pod;
use crate::canaries::Canaries;
use crate::repository::Repository;

/// A machine on which a kubelet runs one of the drivers, configured for servers on the loopback.
pub trait Driver: Sized + Sync {
    /// A volume in a manifest.
    type Volume: Manifest;
    /// Why a volume could not be set up. Its text is that of the pod's event.
    type Failed: Debug + Display;

    /// How many pods a scene starts at once: a process for each call costs more than a call.
    const MANY: usize;
    /// How often the pods of one volume, started at once, may ask the remote where its revision stands.
    const QUESTIONS: usize;
    /// What the kubelet keeps in the directory of a mount point: that, and its own files.
    const BESIDE_TARGET: usize;

    /// A secret's key for a private key of SSH, as the driver's oldest manifests have it.
    const SSH_KEY: &str;

    /// A machine with a file system of `bytes` and more in the driver's configuration; `None` without root.
    fn start(bytes: u64, configuration: &Value) -> Option<Self>;

    /// A volume that the pod spec defines.
    fn inline(name: &str, options: &[(&str, &str)]) -> Self::Volume;

    /// A volume behind a claim.
    fn persistent(name: &str, options: &[(&str, &str)]) -> Self::Volume;

    /// Where in a volume the tree appears if its manifest does not say.
    fn default_directory(repository: &Repository) -> &str;

    /// Where a pod's volume is mounted.
    fn target(&self, pod: &Pod, volume: &Self::Volume) -> PathBuf;

    /// Sets a volume up for a pod.
    fn set_up(&self, pod: &Pod, volume: &Self::Volume) -> Result<(), Self::Failed>;

    /// Tears a pod's volume down, which must succeed.
    fn tear_down(&self, pod: &Pod, volume: &Self::Volume);

    /// Gives up a volume that could not be set up: tears down what may be there for all that the kubelet knows.
    fn give_up(&self, pod: &Pod, volume: &Self::Volume);

    /// Does what the kubelet does from time to time with a volume that is set up.
    fn look_after(&self, pod: &Pod, volume: &Self::Volume);

    /// One call to publish a volume, which must succeed, and of which the kubelet knows nothing.
    fn call_publish(&self, pod: &Pod, volume: &Self::Volume);

    /// One call to unpublish it, which must succeed and leave what the driver is to leave.
    fn call_unpublish(&self, pod: &Pod, volume: &Self::Volume);

    /// Fails if the driver gave another code than this one, which the kubelet takes for final; FlexVolume has none.
    fn assert_code(failed: &Self::Failed, code: Code);

    /// Mounts on `target`.
    fn mounts_on(&self, target: &Path) -> usize {
        mountinfo::read().unwrap().iter().filter(|mount| mount.target == target).count()
    }

    /// The store.
    fn store(&self) -> PathBuf;

    /// Fails if anything is there that only set-up volumes, work in flight or their crashes account for.
    fn assert_nothing_set_up(&self);

    /// Fails if the driver has said, logged or kept any of them, or the kubelet because of it.
    fn assert_unseen(&self, canaries: &Canaries);
}

/// A volume in a manifest, whichever driver it names.
pub trait Manifest: Clone + Debug + Sync {
    /// `readOnly: true`, inline or at the pod's claim.
    #[must_use]
    fn read_only(self) -> Self;

    /// With one more key of the volume's vocabulary.
    #[must_use]
    fn with(self, key: &str, value: &str) -> Self;

    /// With a secret of these keys.
    #[must_use]
    fn with_secret(self, keys: &[(&str, &str)]) -> Self;

    /// With a token of the pod's service account, if the kubelet gives the driver such tokens.
    #[must_use]
    fn with_pod_token(self, token: &str) -> Self;

    /// Whether the kubelet takes it for read-only.
    fn is_read_only(&self) -> bool;
}
