//! Code shared by the driver (`gitrepo-flex`) and its installer (`gitrepo-flex-install`): the configuration, the stores
//! that it names, and the kubelet's directory of pods.

pub mod configuration;
pub mod pods;
pub mod program;
pub mod stores;
