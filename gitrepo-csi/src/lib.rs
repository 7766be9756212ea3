//! The CSI driver of gitrepo: git repositories as Kubernetes volumes over the Container Storage Interface.
//!
//! | module | idea |
//! |---|---|
//! | [`arguments`], [`settings`], [`logging`] | the driver's options |
//! | [`driver`] | builds and runs the parts |
//! | [`lifecycle`] | the order of startup and shutdown |
//! | [`server`], [`authority`] | gRPC on a Unix socket: who may listen and call; any `:authority` becomes `localhost` |
//! | [`registration`] | the driver tells the kubelet where it is |
//! | [`http`] | metrics and health |
//! | [`proto`] | the messages and services of CSI and of the kubelet's plugin registration |
//! | [`identity`], [`node`], [`controller`] | the services: request → core → answer |
//! | [`jobs`] | publishes that outlive their calls |
//! | [`name_lock`] | one call at a time for a volume, if two would interfere |
//! | [`storage`], [`housekeeping`] | the node's volumes, in a store that may be unavailable; background cleanup |
//! | [`user_namespaces`] | volumes of pods with `hostUsers: false` become copies |
//! | [`prefetch`] | trees that every node brings and keeps |
//! | [`scrubbing`] | background search for damage in the store |
//! | [`capability`], [`context`], [`target`] | parsing of the parts of requests |
//! | [`deadline`] | the deadline of a call, and work that must meet it |
//! | [`wipe`], [`memory`] | no secret stays in the driver's memory; its size |
//! | [`failure`], [`status`] | why a call failed, and the code that it answers |
//! | [`metrics`], [`store_size`], [`rpc_log`] | observability |

pub mod arguments;
pub mod authority;
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
pub mod memory;
pub mod metrics;
pub mod name_lock;
pub mod node;
pub mod prefetch;
pub mod proto;
pub mod registration;
pub mod rpc_log;
pub mod scrubbing;
pub mod server;
pub mod settings;
pub mod status;
pub mod storage;
pub mod store_size;
mod sys;
pub mod target;
pub mod user_namespaces;
pub mod wipe;

use gitrepo_core::store::Origin;

/// The name of this driver in the records of its volumes.
pub const ORIGIN: Origin = Origin::driver("csi");
