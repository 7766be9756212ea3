//! What the driver (`gitrepo-flex`) and its installer (`gitrepo-flex-install`) share: the configuration, the stores that it
//! names, and where the kubelet has its pods.

pub mod configuration;
pub mod pods;
pub mod program;
pub mod stores;
