//! The only unsafe code: system calls and start-up options that no library wraps safely.
//!
//! Everything here is a thin wrapper that takes and gives owned or borrowed descriptors; what the calls are for is told
//! where they are used.
#![allow(unsafe_code)]

pub(crate) mod capability;
pub(crate) mod git;
pub(crate) mod lease;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod process;
