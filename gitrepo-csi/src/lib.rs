//! The CSI driver of gitrepo: git repositories as Kubernetes volumes over the Container Storage Interface.
//!
//! | module | idea |
//! |---|---|
//! | [`authority`] | any `:authority` of a client becomes `localhost` |
//! | [`proto`] | the messages and services of CSI and of the kubelet's plugin registration |
//! | [`identity`], [`node`], [`controller`] | the services: request → core → answer |
//! | [`jobs`] | publishing that outlives its call |
//! | [`admission`] | how many sessions speak to remotes at once, and whose turn it is |
//! | [`storage`] | the node's volumes, once their store can be opened |
//! | [`capability`], [`context`], [`target`], [`deadline`] | what requests say |
//! | [`failure`], [`status`] | why a call fails, and with which code |
//! | [`metrics`], [`store_size`], [`rpc_log`] | what can be seen from outside |

pub mod authority;
pub mod admission;
pub mod blocking;
pub mod capability;
pub mod context;
pub mod controller;
pub mod deadline;
pub mod failure;
pub mod identity;
pub mod jobs;
pub mod metrics;
pub mod node;
pub mod proto;
pub mod rpc_log;
pub mod status;
pub mod storage;
pub mod store_size;
pub mod target;
