//! Code that the frontends share, outside core.
//!
//! | module | idea |
//! |---|---|
//! | [`configuration`] | the configuration file: the fields of core and of the frontends, in one schema |
//! | [`audit`] | the audit log |
//! | [`descriptors`] | how many files a process may have open |
//! | [`log`] | how much the drivers log, and in which format |
//! | [`exit`] | exit statuses |
//! | [`secret_directory`] | a secret as a directory with one file per key |
//! | [`node_credentials`] | which pods get a credential of the node |
//! | [`signals`] | signals that ask a program to end |
//! | [`path`] | paths that a caller gives to a program |

pub mod audit;
pub mod configuration;
pub mod descriptors;
pub mod exit;
pub mod log;
pub mod node_credentials;
pub mod path;
pub mod pods;
pub mod secret_directory;
pub mod signals;
