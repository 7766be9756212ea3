//! The calls into C that no safe crate offers: each with the reason why it is sound.

#![allow(unsafe_code)]

pub(crate) mod git;
