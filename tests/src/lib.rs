//! The one integration harness of gitrepo: repositories, good and bad servers, and the conditions that tests need.
//!
//! Everything is real where it can be (git, `git http-backend`, sshd, ext4), runs on the loopback with ports from the
//! kernel, and ends when its value is dropped. The tests of the harness itself are in `suites/`.
//!
//! | module | idea |
//! |---|---|
//! | [`require`] | skips, or fails, a test that cannot run here |
//! | [`http`], [`ssh`], [`daemon`], [`web`], [`authority`] | git servers that behave |
//! | [`odd`] | servers that behave as few others do |
//! | [`hostile`], [`pktline`] | git servers that do not |
//! | [`tinyproxy`] | a proxy of the machine |
//! | [`attempts`], [`lies`] | what a compromised worker would try, and tell |
//! | [`snapshot_format`] | the format of snapshots in a whole run |
//! | [`volumes`], [`shell`] | a node with a store and pods, and one driven from a shell |
//! | [`csi`] | clients of a CSI driver's sockets |
//! | [`kubelet`] | calls a driver on a node |
//! | [`program`], [`person`] | the workspace's executables, and their users |
//! | [`canaries`] | secrets that must not appear anywhere |
//! | [`residue`] | secrets that a process still has in memory |
//! | [`process`] | what every process can see of a running program |
//! | [`random`] | random choices that can be repeated |
//! | [`steps`] | a program that is stopped, or fails, at any step |
//! | [`repository`], [`fixtures`] | repositories made to order, and the standard ones |
//! | [`tree`] | whether a directory is exactly a commit's tree |
//! | [`git`] | the git command line, isolated |
//! | [`namespace`], [`loopfs`] | mounts and networks that vanish with the test, and a fresh ext4, also after a power failure |
//! | [`erofs`] | EROFS images, read and mounted |
//! | [`faulty`] | a filesystem that fails or hangs |
//! | [`chroot`], [`name_server`] | an empty root directory, and a DNS server for it |
//! | [`bench`](mod@bench) | repositories, measures and reports of benchmarks |
//! | [`manifests`] | Kubernetes objects, read as the API server reads them |

// The harness is test code: its failures are panics, reported by the test that hits them.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod attempts;
pub mod authority;
pub mod bench;
pub mod canaries;
pub mod chroot;
pub mod csi;
pub mod daemon;
pub mod erofs;
pub mod faulty;
pub mod file_capability;
pub mod fixtures;
mod foreground;
pub mod git;
pub mod hostile;
pub mod http;
pub mod images;
pub mod kubelet;
pub mod label;
pub mod lfs;
pub mod lies;
mod listener;
pub mod loopfs;
pub mod manifests;
pub mod name_server;
pub mod namespace;
pub mod odd;
pub mod openpgp;
pub mod person;
pub mod pktline;
pub mod process;
pub mod program;
pub mod proxy;
pub mod random;
pub mod repository;
pub mod require;
pub mod residue;
pub mod shell;
pub mod signing;
pub mod snapshot_format;
pub mod ssh;
pub mod steps;
pub mod submodules;
mod sys;
pub mod tinyproxy;
pub mod tmpfs;
pub mod tree;
pub mod user_namespace;
pub mod volumes;
pub mod web;
pub mod working_repository;
