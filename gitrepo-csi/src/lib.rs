//! The CSI driver of gitrepo: git repositories as Kubernetes volumes over the Container Storage Interface.
//!
//! | module | idea |
//! |---|---|
//! | [`authority`] | any `:authority` of a client becomes `localhost` |
//! | [`proto`] | the messages and services of CSI and of the kubelet's plugin registration |

pub mod authority;
pub mod proto;
