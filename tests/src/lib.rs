//! The one integration harness of gitrepo: repositories, servers that behave and servers that do not, and the
//! conditions a test needs.
//!
//! Everything here is real where it can be (git, `git http-backend`, sshd, ext4), runs on the loopback with ports the
//! kernel chose, and ends when its value is dropped. The harness proves itself in `suites/`.
//!
//! | module | idea |
//! |---|---|
//! | [`require`] | a test that cannot run here says so, or fails where everything must run |
//! | [`http`], [`ssh`], [`daemon`], [`authority`] | git servers that behave |
//! | [`hostile`], [`pktline`] | git servers that do not |
//! | [`attempts`] | what a worker that was taken over would try |
//! | [`volumes`], [`shell`] | a node with a store and pods, and one driven from a shell |
//! | [`csi`] | clients of a CSI driver's sockets |
//! | [`kubelet`] | what calls a driver on a node |
//! | [`program`], [`person`] | the workspace's executables, and who runs them |
//! | [`canaries`] | secrets that must be found nowhere |
//! | [`process`] | what everybody can see of a running program |
//! | [`repository`], [`fixtures`] | repositories made to order, and the standard ones |
//! | [`tree`] | whether a directory is exactly a commit's tree |
//! | [`git`] | the git command line, isolated |
//! | [`namespace`], [`loopfs`] | mounts and networks that vanish with the test, and a fresh ext4 |
//! | [`faulty`] | a filesystem that fails or hangs |
//! | [`chroot`], [`name_server`] | an empty root directory, and a DNS server for it |
//! | [`manifests`] | Kubernetes objects, as the API server would read them |

// The harness is test code: its own failures are panics, reported by the test that meets them.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod attempts;
pub mod authority;
pub mod canaries;
pub mod chroot;
pub mod csi;
pub mod daemon;
pub mod faulty;
pub mod fixtures;
pub mod git;
pub mod hostile;
pub mod http;
pub mod kubelet;
mod listener;
pub mod loopfs;
pub mod manifests;
pub mod name_server;
pub mod namespace;
pub mod person;
pub mod pktline;
pub mod process;
pub mod program;
pub mod repository;
pub mod require;
pub mod shell;
pub mod ssh;
pub mod tree;
pub mod volumes;
