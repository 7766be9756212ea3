//! The CSI driver of gitrepo: git repositories as Kubernetes volumes over the Container Storage Interface.
//!
//! | module | idea |
//! |---|---|
//! | [`proto`] | the messages and services of CSI and of the kubelet's plugin registration |
//! | [`authority`] | any `:authority` of a client becomes `localhost` |
//! | [`server`] | gRPC on a Unix socket: who may listen, who may call, how it ends |
//! | [`registration`] | the driver tells the kubelet where it is |
//! | [`http`] | metrics and health |
//! | [`lifecycle`] | the order in which all of this appears and goes |

pub mod authority;
pub mod http;
pub mod lifecycle;
pub mod proto;
pub mod registration;
pub mod server;
