//! The FlexVolume driver under a kubelet: it answers every call with exactly one JSON object and exit status 0.
//! Promises of both drivers are in `drivers`.

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
    /// With a disk of `bytes`. A small disk has blocks of 1 KiB, which are too small for long links.
    fn with_disk(bytes: u64) -> Option<Self> {
        Some(Self::of(Node::new(bytes)?, |server| server))
    }

    fn kubelet(&self) -> &Kubelet {
        self.node.kubelet()
    }

    /// Like [`Self::assert_not_set_up`]; returns the driver's message.
    fn assert_fails(&self, volume: &Volume, words: &[&str]) -> String {
        self.assert_not_set_up(volume, words).reason
    }
}
