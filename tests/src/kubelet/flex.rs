//! The kubelet's FlexVolume plugin with a real driver (pkg/volume/flexvolume): how it calls, how it handles an answer,
//! and what it does before and after.
//!
//! | module | idea |
//! |---|---|
//! | `kubelet` | set-up and tear-down of a pod's volume |
//! | `call` | one run of the driver, as the kubelet runs it |
//! | `answer` | the driver's output, decoded by the rules of Go's JSON |
//! | `volume` | a volume in a manifest, and the options for the driver |
//! | `node` | the machine: its file system, its configuration, its reboot |

mod answer;
mod call;
mod kubelet;
mod node;
mod volume;

pub use answer::Answer;
pub use answer::Capabilities;
pub use call::DriverCall;
pub use call::Finished;
pub use call::Plugin;
pub use kubelet::Failed;
pub use kubelet::Kubelet;
pub use kubelet::SettingUp;
pub use kubelet::TearingDown;
pub use node::Node;
pub use volume::Volume;
