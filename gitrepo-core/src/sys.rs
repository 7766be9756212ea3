//! The only unsafe code: system calls, start-up options, and functions of C libraries that no crate wraps safely.
//!
//! All functions are thin wrappers over borrowed or owned values. Their callers document why they are used.
#![allow(unsafe_code)]

pub(crate) mod attribute;
pub(crate) mod capability;
pub(crate) mod deflate;
pub(crate) mod git;
pub(crate) mod io_priority;
pub(crate) mod lease;
pub(crate) mod loop_device;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod verity;
pub(crate) mod writeback;
