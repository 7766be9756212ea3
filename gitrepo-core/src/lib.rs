//! Git repositories as volumes: a repository and a revision become a directory with exactly that tree.
//!
//! Data flows one way. A frontend builds a [`volume::VolumeRequest`]. [`volume`] calls [`lease`] to bring the tree to
//! the node. [`lease`] checks [`policy`], then asks [`store`] for a proof of access and the snapshot; on a miss, a
//! [`worker`] session provides both. [`mount`] then attaches the tree to the target.
//!
//! | module | idea |
//! |---|---|
//! | [`spec`] | the request: validated newtypes |
//! | [`policy`] | what the admin allows: schemes, hosts, addresses, limits |
//! | [`credentials`] | secrets and host keys |
//! | [`remote`] | talking to a git server |
//! | [`snapshot`] | a commit's tree as an immutable thing on disk |
//! | [`worker`] | the confined child that runs `remote` and `snapshot` code |
//! | [`gateway`] | the one door to a remote: policy, pinned address, admission, session |
//! | [`store`] | what is kept on the node |
//! | [`mount`] | attaching and detaching |
//! | [`lease`] | a tree on the node, for a credential that may read it |
//! | [`volume`] | show a tree on a target, hide it, list, sweep |
//! | [`watch`] | cancellation and progress of one operation |
//! | [`capabilities`] | what root drops at the start of a driver |
//! | [`clone`] | the same tree in a plain directory, without store or mount |

pub mod cancel;
pub mod capabilities;
pub mod clone;
pub mod credentials;
pub mod error;
pub mod gateway;
pub mod lease;
pub mod mount;
mod object;
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
pub mod watch;
pub mod worker;
