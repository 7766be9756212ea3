//! The CSI driver under a kubelet, where it differs from the FlexVolume driver. Promises of both are in `drivers`.

use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::csi::Failed;
use gitrepo_tests::kubelet::csi::Kubelet;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::Volume;
use tonic::Code;

use crate::drivers;
use crate::drivers::read;

mod errors;
mod lifecycle;
mod mixed;
mod restarts;
mod secrets;
mod service;
mod sharing;
mod slow;
mod soak;
mod starvation;
mod stats;
mod stopping;
mod store_faults;
mod wiping;

type Scene = drivers::Scene<Node>;

impl Scene {
    fn kubelet(&self) -> &Kubelet {
        self.node.kubelet()
    }

    /// Asserts that setting up the volume fails finally with `code` and `words`, and leaves nothing even though the
    /// kubelet never unpublishes it.
    fn assert_fails(&self, volume: &Volume, code: Code, words: &[&str]) -> Failed {
        let failed = self.assert_not_set_up(volume, words);
        Node::assert_code(&failed, code);
        failed
    }

    /// Asserts that setting up the volume fails temporarily with `code` and `words`, and that the unpublish that
    /// follows leaves nothing.
    fn assert_fails_for_now(&self, volume: &Volume, code: Code, words: &[&str]) -> Failed {
        let failed = self.assert_not_set_up(volume, words);
        assert_eq!((failed.code, failed.is_final()), (Some(code), false), "{failed:?}");
        failed
    }
}

fn assert_says(failed: &Failed, words: &[&str]) {
    for words in words {
        assert!(failed.message.contains(words), "{words:?} is not in {:?}", failed.message);
    }
}
