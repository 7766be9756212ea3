//! git's protocol: version 2 (gitprotocol-v2(5)), and versions 1 and 0 (gitprotocol-pack(5)) where a server has no other.
//!
//! A request says everything at once: what is wanted, what is here, and "done". So no version needs more than one round,
//! and none of the protocol's ways to negotiate is used.

use std::collections::BTreeSet;
use std::io;

use super::ConnectRequest;
use super::FetchRequest;
use super::RemoteError;
use super::Resolved;
use super::Unsupported;
use super::advertisement::Advertisement;
use super::repository::Offer;
use super::repository::Repository;
use super::transport;
use super::transport::Transport;
use crate::error::Cause;
use crate::pack::Outlet;
use crate::spec::CommitId;
use crate::spec::Revision;

mod answer;
mod ask;
mod below;
#[cfg(feature = "testing")]
pub(super) mod fuzz;
mod hello;
mod packet;
mod prove;
mod sink;

pub(super) use sink::Arrived;
pub(super) use sink::SinkError;
pub(super) use sink::receive;

use answer::AnswerError;
use ask::Wants;
use hello::Hello;
use hello::Version;
use packet::Packets;

/// Depths of the search for a commit that no ref names, on a server that serves refs alone.
const SEARCH_DEPTHS: [u32; 3] = [50, 500, ask::WHOLE];

/// Servers' words for a missing repository: git and git-daemon, GitHub, GitLab, Gitea, Bitbucket, Gerrit.
const NOT_FOUND: &[&str] = &[
    "does not appear to be a git repository",
    "not a git repository",
    "repository not found",
    "repository not exported",
    "could not be found",
    "does not exist",
    "not found",
    "no such",
];

/// Their words for a repository without access.
const FORBIDDEN: &[&str] = &["permission denied", "access denied", "denied", "forbidden", "not allowed"];

/// A server, with its first words once it is connected.
pub(super) struct Server<'a> {
    request: &'a ConnectRequest,
    transport: Box<dyn Transport + 'a>,
    hello: Option<Hello>,
    /// Whether the server has answered the current fetch, in whichever way.
    answered: bool,
}

impl<'a> Server<'a> {
    pub(super) fn new(request: &'a ConnectRequest, transport: Box<dyn Transport + 'a>) -> Self {
        Self { request, transport, hello: None, answered: false }
    }

    pub(super) fn accepted_host_key(&self) -> Option<String> {
        self.transport.accepted_host_key()
    }

    /// Connects, if necessary, and hears the server's first words.
    pub(super) fn greet(&mut self) -> Result<(), RemoteError> {
        self.connect().map(drop)
    }

    /// Asks where `revision`, which is not a commit's id, stands.
    pub(super) fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        let url = &self.request.errand.url;
        self.connect()?;
        if let Some(Hello { version: Version::Zero { refs, .. }, .. }) = &self.hello {
            return refs.resolve(revision).ok_or_else(|| refs.missing(revision, url));
        }
        let found = self.refs(&Advertisement::prefixes(revision))?.resolve(revision);
        match found {
            Some(resolved) => Ok(resolved),
            // All names are asked for only to find the one that was meant.
            None => Err(self.refs(&[])?.missing(revision, url)),
        }
    }

    /// Fetches the commit and what is missing of its history in `repository`, and hands it over. Of a narrow request, only
    /// what is missing of the directory, if the server does that.
    pub(super) fn bring(
        &mut self,
        request: &FetchRequest,
        offer: &Offer,
        repository: &Repository,
        outlet: &mut Outlet,
    ) -> Result<Arrived, RemoteError> {
        if let Some(directory) = &request.narrow {
            let narrow = self.despite_silence(|server| server.bring_below(request, directory, repository, outlet));
            if let Some(arrived) = self.unless_refused(narrow, outlet)? {
                return Ok(arrived);
            }
            if request.refuses_whole {
                return Err(RemoteError::NotNarrow { url: self.url() });
            }
        }
        self.despite_silence(|server| server.bring_whole(request, offer, repository, outlet))
    }

    /// Makes a second attempt, on a new connection, if the server did not answer: it may have closed the idle one.
    fn despite_silence<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let was_connected = self.hello.is_some();
        self.answered = false;
        match attempt(self) {
            Err(RemoteError::Unreachable { .. } | RemoteError::Protocol { .. }) if was_connected && !self.answered => {
                self.hello = None;
                attempt(self)
            }
            outcome => outcome,
        }
    }

    fn bring_whole(
        &mut self,
        request: &FetchRequest,
        offer: &Offer,
        repository: &Repository,
        outlet: &mut Outlet,
    ) -> Result<Arrived, RemoteError> {
        let commit = request.resolved.commit;
        let depth = if request.depth == 0 && !offer.shallow.is_empty() { ask::WHOLE } else { request.depth };
        let hello = self.connect()?;
        let wanted = match &hello.version {
            Version::Two => Some(commit),
            Version::Zero { refs, .. } => refs
                .leading_to(commit, request.resolved.reference.as_deref())
                .or(hello.gives_commits_by_id().then_some(commit)),
        };
        match wanted {
            Some(object) => {
                let (haves, shallow) = (offer.commits.clone(), offer.shallow.iter().copied().collect());
                self.fetch(
                    Wants { objects: vec![object], haves, shallow, depth, ..Wants::default() },
                    repository,
                    outlet,
                )
            }
            None => self.search((commit, request.depth), offer, repository, outlet),
        }
        // Even for a ref that it just told of: a branch may move in between, and a server may lie.
        .map_err(|error| error.about(commit))
    }

    /// Fetches more and more history of all refs until `commit` is in it, and so many commits of its own history; all of
    /// it if that is 0.
    fn search(
        &mut self,
        (commit, wanted): (CommitId, u32),
        offer: &Offer,
        repository: &Repository,
        outlet: &mut Outlet,
    ) -> Result<Arrived, RemoteError> {
        let mut total = Arrived::default();
        for depth in SEARCH_DEPTHS {
            let Version::Zero { refs, .. } = &self.connect()?.version else { break };
            let objects: Vec<_> = refs.targets().collect::<BTreeSet<_>>().into_iter().collect();
            if objects.is_empty() {
                break;
            }
            // What came before is offered, so that only older history is sent.
            let mut haves = offer.commits.clone();
            if total != Arrived::default() {
                haves.extend(&objects);
            }
            let shallow = repository.shallow()?.difference(&offer.untold).copied().collect();
            let arrived =
                self.fetch(Wants { objects, haves, shallow, depth, ..Wants::default() }, repository, outlet)?;
            total = Arrived { bytes: total.bytes + arrived.bytes, objects: total.objects + arrived.objects };
            let repository = repository.anew()?;
            if repository.reaches(commit, wanted)? {
                return Ok(total);
            }
            if repository.shallow()?.is_empty() || depth == ask::WHOLE {
                // There is no more history than this.
                if repository.has(commit)? {
                    return Ok(total);
                }
                break;
            }
        }
        Err(RemoteError::CommitUnreachable { url: self.url(), commit })
    }

    /// Returns the request for a pack, and whether it asks for a side band.
    fn pack_request(&mut self, mut wants: Wants) -> Result<(Vec<u8>, bool), RemoteError> {
        let hello = self.connect()?;
        let request = match &hello.version {
            Version::Two => {
                if !hello.capabilities.has_feature("fetch", "shallow") {
                    wants.whole();
                }
                (ask::pack(&hello.capabilities, &wants), true)
            }
            Version::Zero { .. } => {
                if !hello.capabilities.has("shallow") {
                    wants.whole();
                }
                (ask::old_pack(&hello.capabilities, &wants), hello.capabilities.has("side-band-64k"))
            }
        };
        if matches!(hello.version, Version::Zero { .. }) && self.transport.ends_with_fetch() {
            self.hello = None;
        }
        Ok(request)
    }

    /// Asks for a pack, and hands its objects over.
    fn fetch(&mut self, wants: Wants, repository: &Repository, outlet: &mut Outlet) -> Result<Arrived, RemoteError> {
        let remote_shallow = match &self.connect()?.version {
            Version::Zero { shallow, .. } => shallow.clone(),
            Version::Two => BTreeSet::new(),
        };
        let (message, banded) = self.pack_request(wants)?;
        let stream = self.transport.ask(&message)?;
        let outcome = match answer::read_to_pack(Packets::new(stream), banded) {
            Ok((boundary, mut pack)) => {
                self.answered = true;
                receive(&mut pack, repository, outlet, self.request).map(|arrived| (boundary, arrived))
            }
            Err(error) => return Err(self.failure(error)),
        };
        let (boundary, arrived) = match outcome {
            Ok(outcome) => outcome,
            Err(SinkError::Remote(error)) => return Err(error),
            Err(SinkError::Stream(error)) => return Err(self.failure(AnswerError::from_stream(error))),
        };
        let mut shallow = repository.shallow()?;
        shallow.extend(boundary.shallow);
        if !remote_shallow.is_empty() {
            shallow.extend(repository.anew()?.all_present(remote_shallow)?);
        }
        for commit in boundary.unshallow {
            shallow.remove(&commit);
        }
        repository.set_shallow(&shallow)?;
        Ok(arrived)
    }

    /// Asks for the refs with these prefixes, over version 2.
    fn refs(&mut self, prefixes: &[String]) -> Result<Advertisement, RemoteError> {
        let message = ask::refs(&self.connect()?.capabilities, prefixes);
        let stream = self.transport.ask(&message)?;
        answer::read_refs(&mut Packets::new(stream)).map_err(|error| self.failure(error))
    }

    /// Ends an answer that goes on although nobody needs it. Over HTTP, the server need not be greeted again.
    fn hang_up(&mut self) {
        self.transport.hang_up();
        if self.transport.ends_with_fetch() {
            self.hello = None;
        }
    }

    fn connect(&mut self) -> Result<&Hello, RemoteError> {
        let hello = match self.hello.take() {
            Some(hello) => hello,
            None => {
                let stream = self.transport.connect()?;
                let hello = Hello::read(&mut Packets::new(stream)).map_err(|error| self.failure(error))?;
                if let Some(hash) = hello.capabilities.foreign_hash() {
                    let what = Unsupported::Hash { name: Cause::new(hash).to_string() };
                    return Err(RemoteError::Unsupported { url: self.url(), what });
                }
                hello
            }
        };
        Ok(self.hello.insert(hello))
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    /// The meaning of an answer that cannot be read.
    fn failure(&mut self, error: AnswerError) -> RemoteError {
        let url = self.url();
        self.hello = None;
        let has_pack = self.answered;
        let words = self.transport.last_words();
        self.answered |= words.is_some() || !matches!(error, AnswerError::Stream(_));
        match (error, words) {
            (AnswerError::Said(words), _) => said(url, words),
            // A server that refuses says why and hangs up.
            (AnswerError::Nonsense(_), Some(words)) if !has_pack => said(url, Cause::new(words)),
            (AnswerError::Stream(error), Some(words)) if !has_pack && is_end(&error) => said(url, Cause::new(words)),
            (AnswerError::Nonsense(what), _) => RemoteError::Protocol { url, source: Cause::new(what) },
            (AnswerError::Stream(error), words) => transport::failure(error, &url).with_words(words),
        }
    }
}

/// Whether the stream just ends.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none_or(|inner| !inner.is::<RemoteError>())
}

/// The meaning of a server's words before it hangs up.
fn said(url: String, words: Cause) -> RemoteError {
    let lower = words.to_string().to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    // git's words, and JGit's.
    if says(&["not our ref"]) || (says(&["want "]) && says(&[" not valid"])) {
        RemoteError::CommitNotFound { url, commit: CommitId::from_bytes([0; 20]), source: Some(words) }
    } else if says(NOT_FOUND) {
        RemoteError::RepositoryNotFound { url, source: Some(words) }
    } else if says(FORBIDDEN) {
        RemoteError::Forbidden { url, source: Some(words) }
    } else {
        RemoteError::Protocol { url, source: Cause::new(format_args!("it says: {words}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_words_of_a_server_tell_what_is_wrong() {
        for (words, kind) in [
            ("upload-pack: not our ref 0123", Kind::NotFound),
            ("want 0123 not valid", Kind::NotFound),
            ("fatal: '/x.git' does not appear to be a git repository", Kind::NotFound),
            ("ERROR: Repository not found.", Kind::NotFound),
            ("access denied or repository not exported: /x", Kind::NotFound),
            ("Permission denied to this deploy key", Kind::PermissionDenied),
            ("out of disk", Kind::Unavailable),
        ] {
            let error = said("https://git.example.com/a".to_owned(), Cause::new(words));
            assert_eq!(error.kind(), kind, "{words}");
        }
    }
}
