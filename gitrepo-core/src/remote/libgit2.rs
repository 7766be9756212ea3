//! libgit2
