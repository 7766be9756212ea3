//! Git repositories as volumes: a repository and a revision become a directory with exactly that tree.
//!
//! Data flows one way. A frontend builds a [`volume::VolumeRequest`]; [`volume`] asks [`policy`] whether it may be,
//! [`access`] and a [`worker`] session where the revision stands, [`store`] for the snapshot of that commit (the worker
//! fetches and writes it on a miss), and [`mount`] to attach it to the target.
//!
//! | module | idea |
//! |---|---|
//! | [`spec`] | what is asked: validated newtypes |
//! | [`policy`] | what is allowed: schemes, hosts, addresses, limits |
//! | [`credentials`] | secrets and host keys |
//! | [`access`] | proofs that a credential may read a repository |
//! | [`remote`] | speaking to a git server |
//! | [`snapshot`] | a commit's tree as an immutable thing on disk |
//! | [`worker`] | the confined child that runs `remote` and `snapshot` code |
//! | [`gateway`] | the one door to a remote: policy, pinned address, session |
//! | [`store`] | what is kept on the node |
//! | [`mount`] | attaching and detaching |
//! | [`volume`] | publish, unpublish, list |
//! | [`capabilities`] | what root gives up at the start of a driver |
//! | [`clone`] | the same tree in a plain directory, without store or mount |

pub mod access;
pub mod cancel;
pub mod capabilities;
pub mod clone;
pub mod credentials;
pub mod error;
pub mod gateway;
pub mod mount;
pub mod policy;
pub mod progress;
pub mod remote;
pub mod reserve;
pub mod snapshot;
pub mod spec;
pub mod store;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
pub mod volume;
pub mod worker;
