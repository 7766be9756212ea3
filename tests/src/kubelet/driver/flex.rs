//! The FlexVolume driver.

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use tonic::Code;

use super::Driver;
use super::Manifest;
use crate::canaries::Canaries;
use crate::kubelet::Pod;
use crate::kubelet::flex::Failed;
use crate::kubelet::flex::Node;
use crate::kubelet::flex::Volume;
use crate::repository::Repository;
use crate::volumes::mounts_on;

impl Driver for Node {
    type Volume = Volume;
    type Failed = Failed;

    const MANY: usize = 12;
    /// Each process asks separately.
    const QUESTIONS: usize = 2 * Self::MANY;
    const BESIDE_TARGET: usize = 1;
    const SSH_KEY: &str = "sshKey";

    fn start(bytes: u64, configuration: &Value) -> Option<Self> {
        let node = Self::new(bytes)?;
        node.configure(configuration);
        Some(node)
    }

    fn inline(name: &str, options: &[(&str, &str)]) -> Volume {
        Volume::inline(name, options)
    }

    fn persistent(name: &str, options: &[(&str, &str)]) -> Volume {
        Volume::persistent(name, options)
    }

    fn default_directory(_: &Repository) -> &str {
        "."
    }

    fn target(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        self.kubelet().target(pod, volume)
    }

    fn set_up(&self, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        self.kubelet().set_up(pod, volume)
    }

    fn tear_down(&self, pod: &Pod, volume: &Volume) {
        self.kubelet().must_tear_down(pod, volume);
    }

    /// The kubelet forgets it.
    fn give_up(&self, _: &Pod, _: &Volume) {}

    /// Sets it up again, as after a restart: the kubelet sees the mount.
    fn look_after(&self, pod: &Pod, volume: &Volume) {
        let calls = self.kubelet().calls().len();
        self.kubelet().must_set_up(pod, volume);
        assert_eq!(self.kubelet().calls().len(), calls, "the driver is not called for what is mounted");
    }

    fn call_publish(&self, pod: &Pod, volume: &Volume) {
        let target = self.kubelet().target(pod, volume);
        let arguments = ["mount", target.to_str().unwrap(), &volume.json(pod)];
        self.kubelet().plugin().call(arguments).assert_success();
    }

    /// The directory may stay, because the kubelet removes it.
    fn call_unpublish(&self, pod: &Pod, volume: &Volume) {
        let target = self.kubelet().target(pod, volume);
        self.kubelet().plugin().call(["unmount", target.to_str().unwrap()]).assert_success();
        assert_eq!(mounts_on(&target), 0);
    }

    fn assert_code(_: &Failed, _: Code) {}

    fn restart(&self) {}

    fn log(&self) -> String {
        Self::log(self)
    }

    fn store(&self) -> PathBuf {
        Self::store(self)
    }

    fn assert_nothing_set_up(&self) {
        Self::assert_nothing_set_up(self);
    }

    fn assert_unseen(&self, canaries: &Canaries) {
        canaries.assert_absent("the kubelet's log", self.kubelet().log().as_bytes());
        assert!(!self.log().is_empty(), "the driver logs at level trace");
        canaries.assert_absent("the log", self.log().as_bytes());
        for place in ["/var/lib", "/var/log", "/etc/gitrepo", "/run/gitrepo"] {
            canaries.assert_absent_below(Path::new(place));
        }
        self.kubelet().plugin().assert_untouched();
    }
}

impl Manifest for Volume {
    fn read_only(self) -> Self {
        self.read_only()
    }

    fn with(self, key: &str, value: &str) -> Self {
        self.with_option(key, value)
    }

    fn with_secret(self, keys: &[(&str, &str)]) -> Self {
        self.with_secret(keys)
    }

    fn with_pod_token(self, _: &str) -> Self {
        self
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only()
    }
}
