//! The kubelet's side of its contracts with volume drivers, without a cluster.

mod configuration;
pub mod csi;
mod driver;
pub mod flex;
mod pod;

pub use driver::Driver;
pub use driver::Manifest;
pub use pod::Pod;
