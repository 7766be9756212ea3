//! The common interface of both drivers under their kubelets, so that tests can run with either.

mod csi;
mod flex;

use std::fmt::Debug;
use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use tonic::Code;

use super::Pod;
use crate::canaries::Canaries;
use crate::repository::Repository;
use crate::volumes;

/// A machine where a kubelet runs one of the drivers, which allows servers on the loopback.
pub trait Driver: Sized + Sync {
    /// A volume in a manifest.
    type Volume: Manifest;
    /// Why a volume could not be set up. Its text is that of the pod's event.
    type Failed: Debug + Display;

    /// How many pods a test starts at once: a process per call costs more than a call.
    const MANY: usize;
    /// How often pods of one volume that start at once may ask the remote for its revision.
    const QUESTIONS: usize;
    /// How many entries the kubelet keeps beside a mount point, including the mount point itself.
    const BESIDE_TARGET: usize;

    /// The secret key for an SSH private key in the driver's oldest manifests.
    const SSH_KEY: &str;

    /// A machine with a file system of `bytes` and more driver configuration; `None` without root.
    fn start(bytes: u64, configuration: &Value) -> Option<Self>;

    /// A volume in a pod spec.
    fn inline(name: &str, options: &[(&str, &str)]) -> Self::Volume;

    /// A volume behind a claim.
    fn persistent(name: &str, options: &[(&str, &str)]) -> Self::Volume;

    /// Where the tree appears in a volume by default.
    fn default_directory(repository: &Repository) -> &str;

    /// Where a pod's volume is mounted.
    fn target(&self, pod: &Pod, volume: &Self::Volume) -> PathBuf;

    /// Sets a volume up for a pod.
    fn set_up(&self, pod: &Pod, volume: &Self::Volume) -> Result<(), Self::Failed>;

    /// Tears a pod's volume down, which must succeed.
    fn tear_down(&self, pod: &Pod, volume: &Self::Volume);

    /// Gives up a volume that could not be set up: tears down whatever the kubelet thinks may exist.
    fn give_up(&self, pod: &Pod, volume: &Self::Volume);

    /// Does what the kubelet does periodically with a volume that is set up.
    fn look_after(&self, pod: &Pod, volume: &Self::Volume);

    /// One call to publish a volume, which must succeed, and which the kubelet does not record.
    fn call_publish(&self, pod: &Pod, volume: &Self::Volume);

    /// One call to unpublish it, which must succeed and leave only what the driver may leave.
    fn call_unpublish(&self, pod: &Pod, volume: &Self::Volume);

    /// Fails if the driver returned another code, which the kubelet would treat as final; FlexVolume has none.
    fn assert_code(failed: &Self::Failed, code: Code);

    /// Mounts on `target`.
    fn mounts_on(&self, target: &Path) -> usize {
        volumes::mounts_on(target)
    }

    /// Starts the driver anew, if it is a process that stays.
    fn restart(&self);

    /// What the driver has logged.
    fn log(&self) -> String;

    /// The store.
    fn store(&self) -> PathBuf;

    /// Fails if anything is left of set-up volumes, work in flight or crashes.
    fn assert_nothing_set_up(&self);

    /// Fails if the driver printed, logged or stored any of them, or made the kubelet do so.
    fn assert_unseen(&self, canaries: &Canaries);
}

/// A volume in a manifest, for either driver.
pub trait Manifest: Clone + Debug + Sync {
    /// `readOnly: true`, inline or at the pod's claim.
    #[must_use]
    fn read_only(self) -> Self;

    /// Adds one more key of the volume.
    #[must_use]
    fn with(self, key: &str, value: &str) -> Self;

    /// Adds a secret with these keys.
    #[must_use]
    fn with_secret(self, keys: &[(&str, &str)]) -> Self;

    /// Adds a token of the pod's service account, if the kubelet passes such tokens to the driver.
    #[must_use]
    fn with_pod_token(self, token: &str) -> Self;

    /// Whether the kubelet treats it as read-only.
    fn is_read_only(&self) -> bool;
}
