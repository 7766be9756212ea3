//! What the frontends share and the core does not know.
//!
//! | module | idea |
//! |---|---|
//! | [`configuration`] | the configuration file: core's fields and the frontends', in one schema for all of them |
//! | [`log`] | how much is logged, and in which form |
//! | [`exit`] | exit statuses |

pub mod configuration;
pub mod exit;
pub mod log;
