//! Talks to git servers through libgit2: smart HTTP (over our own HTTP client), SSH, git's own protocol, and
//! repositories on this machine.
//!
//! Only this module uses git2 for the network. It has no protocol v2, so every connection receives the list of all
//! refs. Servers may refuse commits by id; such commits are searched in the history of the branches and tags.
//!
//! **Per process.** libgit2 has one set of options per process. Its timeouts and the isolation from the host's git
//! configuration are those of the first conversation. The confined worker has only one conversation in its life.
//!
//! **Cancellation.** The cancel token is checked before each request and whenever a part of a pack arrives. While
//! connecting or receiving the list of refs, only `limits.stall` applies, to each single read. That list does not count
//! towards `limits.fetch_bytes`. To stop at once, kill the worker; to count all its bytes, relay them.

use std::cell::OnceCell;
use std::path::PathBuf;

use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::Remote;

mod authentication;
mod callbacks;
mod connection;
mod error;
mod host_key;
mod http;
mod start_up;

/// Access to git servers through libgit2.
#[derive(Debug, Clone, Default)]
pub struct Libgit2 {
    home: Option<PathBuf>,
}

impl Libgit2 {
    /// `home` is a directory, now or later, that only this process uses: libgit2 takes it for the user's home. A file
    /// in it makes SSH servers present a host key of a known type. Without it, a server with keys of several types may
    /// present another one, and is refused.
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
