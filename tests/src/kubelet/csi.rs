//! The kubelet's CSI plugin with a real driver (pkg/volume/csi): which calls it makes in which order, what it does
//! before and after them, and what it remembers.
//!
//! | module | idea |
//! |---|---|
//! | `kubelet` | set-up and tear-down of a pod's volume |
//! | `registration` | how the kubelet finds the driver |
//! | `call` | one call, on its own connection, with a timeout |
//! | `volume` | a volume in a manifest, and the requests for it |
//! | `driver` | the driver's process |
//! | `node` | the machine: its file system, its configuration, its reboot |
//! | `soak` | the driver's resources over many calls |

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
