//! The kubelet's CSI plugin over a real driver (pkg/volume/csi): which calls it makes in which order, what it does before
//! and after them, and what it remembers.
//!
//! | module | idea |
//! |---|---|
//! | `kubelet` | set-up and tear-down of a pod's volume |
//! | `registration` | how the kubelet comes to know the driver |
//! | `call` | one call, on a connection of its own, with a limit |
//! | `volume` | a volume in a manifest, and what the driver is asked for it |
//! | `driver` | the driver's process |
//! | `node` | the machine: its file system, its configuration, its reboot |
//! | `soak` | what the driver takes when it is asked over and over |

mod call;
mod driver;
mod kubelet;
mod node;
mod registration;
mod soak;
mod volume;

pub use kubelet::Failed;
pub use kubelet::Kubelet;
pub use kubelet::TornDown;
pub use node::DRIVER;
pub use node::Node;
pub use soak::Footprint;
pub use soak::Soak;
pub use soak::percentile;
pub use volume::AccessMode;
pub use volume::Volume;
