//! Git repositories as volumes: a repository and a revision become a directory with exactly that tree.
//!
//! Data flows one way. A frontend builds a [`volume::VolumeRequest`]. [`volume`] calls [`lease`] to bring the tree to
//! the node. [`lease`] checks [`policy`], then asks [`store`] for a proof of access and the snapshot; if one is
//! missing, a [`worker`] session gets it from the remote. [`mount`] then attaches the tree to the target.
//!
//! | module | idea |
//! |---|---|
//! | [`spec`] | the fields of a request, validated |
//! | [`policy`] | the admin's rules: schemes, hosts, addresses, limits |
//! | [`credentials`] | secrets and host keys |
//! | [`signature`] | signatures of commits and tags, and the keys that the admin trusts |
//! | [`lfs`] | pointers, answers and addresses of Git LFS, as text |
//! | [`remote`] | the conversation with a git server |
//! | [`snapshot`] | a commit's tree on disk, immutable |
//! | [`worker`] | the confined child that runs `remote` and `snapshot` code |
//! | [`gateway`] | the only way to a remote: policy, pinned address, admission, session |
//! | [`store`] | repositories, snapshots and records on the node's disk |
//! | [`mount`] | mounts and unmounts |
//! | [`quota`] | project quotas, which limit writable layers |
//! | [`lease`] | a tree on the node, for a credential that may read it |
//! | [`volume`] | publishes a tree on a target, unpublishes, lists, sweeps |
//! | [`watch`] | cancellation and progress of one operation |
//! | [`capabilities`] | the capabilities that a driver drops when it starts |
//! | [`clone`] | a tree in a plain directory, without store or mount |

pub mod cancel;
pub mod capabilities;
pub mod clone;
mod content;
pub mod credentials;
mod digest;
pub mod error;
pub mod gateway;
pub mod lease;
pub mod lfs;
pub mod mount;
mod object;
mod pack;
pub mod policy;
pub mod progress;
pub mod quota;
pub mod remote;
pub mod reserve;
pub mod signature;
pub mod snapshot;
pub mod spec;
pub mod store;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
pub mod volume;
pub mod watch;
pub mod worker;
