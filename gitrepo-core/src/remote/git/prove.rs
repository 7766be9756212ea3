//! Asks for one commit by its id, with nothing of ours on offer. A server gives it only to a credential that may have it,
//! so the commit object itself proves access. It is not kept.

use std::io;
use std::io::Read;

use git2::ObjectType;

use super::Server;
use super::answer;
use super::answer::AnswerError;
use super::ask::Share;
use super::ask::Wants;
use super::hello::Version;
use super::packet::Packets;
use crate::error::Cause;
use crate::pack;
use crate::pack::PackError;
use crate::remote::RemoteError;
use crate::remote::repository::oid;
use crate::spec::CommitId;

/// Most bytes that are read after the commit so that the connection can be used again.
const REST: u64 = 16 * 1024;

impl Server<'_> {
    /// Has the server give out `commit`, and returns its content. That a ref stands there is not enough: whoever knows the
    /// id can say so.
    ///
    /// # Errors
    ///
    /// [`RemoteError::CommitNotFound`] if it does not, and [`RemoteError::CommitNotProven`] if it gives out no commit in
    /// this way.
    pub(in crate::remote) fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        let not_proven = RemoteError::CommitNotProven { url: self.url(), commit };
        let hello = self.connect()?;
        let by_id = hello.gives_commits_by_id().then_some(commit);
        let wanted = match &hello.version {
            // A tag is sent with its commit.
            Version::Zero { refs, .. } => refs.leading_to(commit, None).or(by_id),
            Version::Two => by_id,
        };
        let Some(wanted) = wanted else { return Err(not_proven) };
        match self.find(commit, wanted)? {
            Some((ObjectType::Commit, content)) => Ok(content),
            Some((kind, _)) => {
                Err(RemoteError::NotACommit { url: self.url(), revision: commit.to_string(), object: kind.to_string() })
            }
            None => Err(not_proven),
        }
    }

    /// Asks for an annotated tag that a ref names, and returns its content.
    pub(in crate::remote) fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.connect()?;
        match self.find(tag, tag)? {
            Some((ObjectType::Tag, content)) => Ok(content),
            _ => {
                let source = Cause::new(format_args!("it did not send the tag {tag}"));
                Err(RemoteError::Protocol { url: self.url(), source })
            }
        }
    }

    /// Asks for a pack with `wanted`, and [finds](pack::find) the object `id` in it.
    fn find(&mut self, id: CommitId, wanted: CommitId) -> Result<Option<(ObjectType, Vec<u8>)>, RemoteError> {
        self.look_for((id, wanted, 1), |pack| pack::find(pack, oid(id)))
    }

    /// Asks for a pack with the object `wanted` alone, cut at this depth, and has `look` find the object `id` in it.
    pub(super) fn look_for<T>(
        &mut self,
        (id, wanted, depth): (CommitId, CommitId, u32),
        look: impl FnOnce(&mut dyn Read) -> Result<Option<T>, PackError>,
    ) -> Result<Option<T>, RemoteError> {
        self.answered = false;
        let wants = Wants { objects: vec![wanted], depth, share: Share::Alone, ..Wants::default() };
        let (message, banded) = self.pack_request(wants)?;
        let stream = self.transport.ask(&message)?;
        let (found, is_at_end) = match answer::read_to_pack(Packets::new(stream), banded) {
            Ok((_, mut pack)) => {
                self.answered = true;
                let found = look(&mut pack);
                let is_at_end = found.is_ok() && is_quickly_read(&mut pack);
                (found, is_at_end)
            }
            Err(error) => return Err(self.failure(error).about(id)),
        };
        if let Err(PackError::Stream(error)) = found {
            return Err(self.failure(AnswerError::from_stream(error)).about(id));
        }
        if !is_at_end {
            // A server that cannot filter sends the whole tree.
            self.hang_up();
        }
        match found {
            Ok(found) => Ok(found),
            Err(PackError::TooLarge(_)) => Ok(None),
            Err(PackError::OutOfMemory) => Err(RemoteError::OutOfMemory { url: self.url() }),
            Err(error) => Err(RemoteError::Protocol { url: self.url(), source: Cause::new(error) }),
        }
    }
}

/// Reads the rest of a pack, unless it is long.
fn is_quickly_read(pack: &mut dyn Read) -> bool {
    io::copy(&mut pack.take(REST), &mut io::sink()).is_ok_and(|read| read < REST)
}
