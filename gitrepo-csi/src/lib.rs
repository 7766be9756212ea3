//! The CSI driver of gitrepo: git repositories as Kubernetes volumes over the Container Storage Interface.
//!
//! | module | idea |
//! |---|---|
//! | [`arguments`], [`settings`], [`logging`] | what the driver is told |
//! | [`driver`] | the parts, put together |
//! | [`lifecycle`] | the order in which all of this appears and goes |
//! | [`server`], [`authority`] | gRPC on a Unix socket: who may listen, who may call, how it ends; any `:authority` of a client becomes `localhost` |
//! | [`registration`] | the driver tells the kubelet where it is |
//! | [`http`] | metrics and health |
//! | [`proto`] | the messages and services of CSI and of the kubelet's plugin registration |
//! | [`identity`], [`node`], [`controller`] | the services: request → core → answer |
//! | [`jobs`] | publishing that outlives its call |
//! | [`turn`] | one call at a time for a volume, where two would not see each other |
//! | [`admission`] | how many sessions speak to remotes at once, and whose turn it is |
//! | [`storage`], [`housekeeping`] | the node's volumes, once their store can be opened; and what nobody asks for |
//! | `pod` | what the kubelet's directory tells of a pod's end |
//! | [`capability`], [`context`], [`target`], [`deadline`] | what requests say |
//! | [`failure`], [`status`] | why a call fails, and with which code |
//! | [`metrics`], [`store_size`], [`rpc_log`] | what can be seen from outside |

pub mod admission;
pub mod arguments;
pub mod authority;
pub mod blocking;
pub mod capability;
pub mod context;
pub mod controller;
pub mod deadline;
pub mod driver;
pub mod failure;
pub mod housekeeping;
pub mod http;
pub mod identity;
pub mod jobs;
pub mod lifecycle;
pub mod logging;
pub mod metrics;
pub mod node;
mod pod;
pub mod proto;
pub mod registration;
pub mod rpc_log;
pub mod server;
pub mod settings;
pub mod status;
pub mod storage;
pub mod store_size;
pub mod target;
pub mod turn;

use gitrepo_core::store::Origin;

/// The name under which this driver's volumes are on record.
pub const ORIGIN: Origin = Origin::driver("csi");
