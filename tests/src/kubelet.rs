//! The kubelet's side of its contracts with volume drivers, without a cluster.

mod configuration;
pub mod csi;
pub mod flex;
mod pod;

pub use pod::Pod;
