//! The CSI driver.

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use tonic::Code;

use super::Driver;
use super::Manifest;
use crate::canaries::Canaries;
use crate::kubelet::Pod;
use crate::kubelet::csi::Failed;
use crate::kubelet::csi::Node;
use crate::kubelet::csi::TornDown;
use crate::kubelet::csi::Volume;
use crate::repository::Repository;

impl Driver for Node {
    type Volume = Volume;
    type Failed = Failed;

    const MANY: usize = 100;
    /// In one process, calls share an answer.
    const QUESTIONS: usize = 49;
    /// `vol_data.json`.
    const BESIDE_TARGET: usize = 2;
    const SSH_KEY: &str = "ssh-privatekey";

    fn start(bytes: u64, configuration: &Value) -> Option<Self> {
        Self::configured(bytes, configuration)
    }

    fn inline(name: &str, options: &[(&str, &str)]) -> Volume {
        Volume::inline(name, options)
    }

    fn persistent(name: &str, options: &[(&str, &str)]) -> Volume {
        Volume::persistent(name, &format!("handle of {name}/../x"), options)
    }

    /// The repository's base name, as with `gitRepo`.
    fn default_directory(repository: &Repository) -> &str {
        repository.name().trim_end_matches(".git")
    }

    fn target(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        self.kubelet().target(pod, volume)
    }

    fn set_up(&self, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        self.kubelet().set_up(pod, volume)
    }

    fn tear_down(&self, pod: &Pod, volume: &Volume) {
        match self.kubelet().tear_down(pod, volume) {
            Ok(TornDown::Unpublished) => {}
            Ok(TornDown::NothingKnown) => self.kubelet().forget(pod, volume),
            Err(failed) => panic!("UnmountVolume.TearDown of {volume:?}: {failed:?}"),
        }
    }

    fn give_up(&self, pod: &Pod, volume: &Volume) {
        self.kubelet().tear_down(pod, volume).unwrap();
    }

    /// Publishes it again, as after a restart, and asks for its usage.
    fn look_after(&self, pod: &Pod, volume: &Volume) {
        self.kubelet().must_set_up(pod, volume);
        self.kubelet().stats(pod, volume).unwrap();
    }

    fn call_publish(&self, pod: &Pod, volume: &Volume) {
        let target = self.kubelet().target(pod, volume);
        self.kubelet().call_publish(volume.request(pod, target.to_str().unwrap())).unwrap();
    }

    fn call_unpublish(&self, pod: &Pod, volume: &Volume) {
        let target = self.kubelet().target(pod, volume);
        self.kubelet().call_unpublish(&volume.id(pod), target.to_str().unwrap()).unwrap();
        assert!(!target.exists(), "the driver has to remove {}", target.display());
    }

    fn assert_code(failed: &Failed, code: Code) {
        assert_eq!((failed.code, failed.is_final()), (Some(code), true), "{failed:?}");
    }

    fn restart(&self) {
        self.stop_driver();
        self.start_driver();
    }

    fn log(&self) -> String {
        Self::log(self)
    }

    fn store(&self) -> PathBuf {
        Self::store(self)
    }

    fn assert_nothing_set_up(&self) {
        self.assert_nothing_published();
    }

    fn assert_unseen(&self, canaries: &Canaries) {
        let log = self.log();
        assert!(log.contains("NodeGetCapabilities"), "the driver logs at level debug: {log}");
        canaries.assert_absent("the log", log.as_bytes());
        canaries.assert_absent("the metrics", self.get("/metrics").1.as_bytes());
        canaries.assert_absent_below(self.home());
        canaries.assert_absent_below(Path::new("/run/gitrepo"));
    }
}

impl Manifest for Volume {
    fn read_only(self) -> Self {
        self.read_only()
    }

    fn with(self, key: &str, value: &str) -> Self {
        self.with_attribute(key, value)
    }

    fn with_secret(self, keys: &[(&str, &str)]) -> Self {
        self.with_secret(keys)
    }

    /// As with `tokenRequests`.
    fn with_pod_token(self, token: &str) -> Self {
        let tokens = format!(r#"{{"":{{"token":"{token}"}}}}"#);
        self.with_attribute("csi.storage.k8s.io/serviceAccount.tokens", &tokens)
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only()
    }
}
