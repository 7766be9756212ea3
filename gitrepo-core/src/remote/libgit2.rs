//! Speaking to git servers through libgit2: smart HTTP (whose HTTP is our own, see [`http`]), SSH, git's own protocol, and repositories on this machine.
//!
//! This is the only place that names git2 for the network. What it does not do: protocol v2, so every connection receives
//! the list of all refs; and commits by their id from servers that do not allow it, so those are looked for in the history
//! of the branches and tags.
//!
//! **Per process.** libgit2 has one set of options for a process. Its timeouts and the isolation from the host's git
//! configuration are those of the first conversation. In the confined worker, which has one conversation in its life,
//! that is the same thing.
//!
//! **Giving up.** The cancel token is looked at before each question and whenever a part of a pack arrives; not while
//! connecting or while the list of refs arrives, where only `limits.stall` holds, for each single read. Nor does that list
//! count towards `limits.fetch_bytes`. Whoever needs to give up at once kills the worker, and whoever relays its bytes
//! counts them all.

use std::cell::OnceCell;
use std::path::PathBuf;

use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::Remote;
use crate::spec::CommitId;

mod advertisement;
mod authentication;
mod callbacks;
mod connection;
mod error;
mod host_key;
mod http;
mod repository;
mod start_up;
#[cfg(test)]
mod tests;
mod transfer;

/// Git server access through libgit2.
#[derive(Debug, Clone, Default)]
pub struct Libgit2 {
    home: Option<PathBuf>,
}

impl Libgit2 {
    /// `home` is an existing directory of this process alone, or will be: libgit2 takes it for the user's. A file in it
    /// makes SSH servers present a host key of a type that is known. Without it, a server that has keys of several types
    /// may present another one, and is refused.
    pub fn new(home: Option<PathBuf>) -> Self {
        Self { home }
    }
}

impl Remote for Libgit2 {
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection)) {
        let repository = OnceCell::new();
        let callbacks = callbacks::Callbacks::new(request);
        let mut connection = connection::Conversation::new(request, self.home.as_deref(), &repository, &callbacks);
        conversation(&mut connection);
    }
}

fn oid(commit: CommitId) -> git2::Oid {
    // libgit2 fails here only for a length that this array does not have.
    git2::Oid::from_bytes(commit.as_bytes()).unwrap_or(git2::Oid::ZERO_SHA1)
}

fn commit_id(oid: git2::Oid) -> CommitId {
    let mut id = [0; 20];
    id.copy_from_slice(oid.as_bytes());
    CommitId::from_bytes(id)
}
