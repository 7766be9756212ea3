//! The FlexVolume driver under a kubelet: every call answered with exactly one JSON object and exit status 0. What both
//! drivers promise alike is in `drivers`.

use gitrepo_tests::kubelet::flex::Kubelet;
use gitrepo_tests::kubelet::flex::Node;
use gitrepo_tests::kubelet::flex::Volume;

use crate::drivers;
use crate::drivers::read;

mod calls;
mod deaths;
mod failures;
mod host_target;
mod lifecycle;
mod odd_input;
mod reboots;
mod secrets;
mod sharing;
mod together;

type Scene = drivers::Scene<Node>;

impl Scene {
    /// With a disk of `bytes`. A small one has blocks of 1 KiB, which long links do not fit into.
    fn with_disk(bytes: u64) -> Option<Self> {
        Some(Self::of(Node::new(bytes)?, |server| server))
    }

    fn kubelet(&self) -> &Kubelet {
        self.node.kubelet()
    }

    /// The same as [`Self::assert_not_set_up`], and what the driver says.
    fn assert_fails(&self, volume: &Volume, words: &[&str]) -> String {
        self.assert_not_set_up(volume, words).reason
    }
}
