//! The only unsafe code: system calls and start-up options that no library wraps safely.
//!
//! All functions are thin wrappers that take and return owned or borrowed descriptors. Their callers document why they
//! are used.
#![allow(unsafe_code)]

pub(crate) mod capability;
pub(crate) mod deflate;
pub(crate) mod git;
pub(crate) mod lease;
pub(crate) mod loop_device;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod writeback;
