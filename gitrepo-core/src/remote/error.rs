//! Why a remote could not be talked to.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::CertificateProblem;
use super::ObjectsError;
use super::Redirection;
use crate::cancel::Interrupted;
use crate::credentials::HostKeyError;
use crate::error::Cause;
use crate::error::Kind;
use crate::spec::CommitId;
use crate::spec::looks_abbreviated;

/// A failure to talk to a remote.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RemoteError {
    /// The server reports that there is no such repository. Many servers report this also if access is denied.
    #[error("{url}: the server has no such repository, or hides it from this credential")]
    RepositoryNotFound {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// There is no such branch, tag or ref.
    #[error("{url} has no branch, tag or ref {revision:?}{}", advice(revision, nearest.as_deref()))]
    RevisionNotFound {
        /// Without user information.
        url: String,
        /// As requested.
        revision: String,
        /// The most similar name that the remote has.
        nearest: Option<String>,
    },
    /// The remote's HEAD points nowhere: the repository is empty.
    #[error("{url} is empty: it has no commit on its default branch")]
    EmptyRepository {
        /// Without user information.
        url: String,
    },
    /// The remote's HEAD names a branch that does not exist, while others do.
    #[error(
        "the default branch of {url}{} does not exist; write a revision: it has {}",
        head.as_ref().map(|head| format!(", {head:?},")).unwrap_or_default(),
        branches.iter().map(|branch| format!("{branch:?}")).collect::<Vec<_>>().join(", ")
    )]
    NoDefaultBranch {
        /// Without user information.
        url: String,
        /// The ref that HEAD names, if the server tells.
        head: Option<String>,
        /// Some branches that exist.
        branches: Vec<String>,
    },
    /// The revision is neither a commit nor a tag of one.
    #[error("{revision:?} of {url} is not a commit but a {object}")]
    NotACommit {
        /// Without user information.
        url: String,
        /// As requested.
        revision: String,
        /// Type of the object.
        object: String,
    },
    /// The commit does not exist, or no ref of the server leads to it.
    #[error(
        "commit {commit} cannot be had from {url}: the server does not give out commits by id, and none of its branches \
         and tags leads to this one"
    )]
    CommitUnreachable {
        /// Without user information.
        url: String,
        /// As requested.
        commit: CommitId,
    },
    /// The server does not tell without a fetch whether this credential may have the commit.
    #[error(
        "{url} does not give out commits by id, and none of its refs stands at {commit}; name the branch or tag that leads to \
         it, or allow uploadpack.allowReachableSHA1InWant on the server"
    )]
    CommitNotProven {
        /// Without user information.
        url: String,
        /// As requested.
        commit: CommitId,
    },
    /// The server serves commits by id, but not this one.
    #[error("{url} does not give out commit {commit}: there is none, or no branch or tag leads to it any more")]
    CommitNotFound {
        /// Without user information.
        url: String,
        /// As requested.
        commit: CommitId,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// The server does not give out one directory of a commit.
    #[error("{url} does not give out a directory alone, but the whole commit")]
    NotNarrow {
        /// Without user information.
        url: String,
    },
    /// The server requires a credential, and the secret has none for it.
    #[error("{url} wants a credential ({wanted}), and the volume has no secret with one")]
    CredentialMissing {
        /// Without user information.
        url: String,
        /// Secret keys that it would accept.
        wanted: String,
        /// What the server did, if it did not say so.
        #[source]
        source: Option<Cause>,
    },
    /// The server refused the credential.
    #[error(
        "{url} refused the credential ({offered}); {}",
        match offered.contains("ssh-privatekey") {
            true => "use the key that the server knows, or add its public key there, for example as a deploy key",
            false => "check that it is right, has not expired, and may read the repository",
        }
    )]
    CredentialRefused {
        /// Without user information.
        url: String,
        /// Names of the secret keys that were tried.
        offered: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// The SSH key is damaged or its passphrase wrong; it was not sent to the server.
    #[error("the private key for {url} cannot be used{}", if *encrypted { "; is ssh-passphrase its passphrase?" } else { "" })]
    UnusableKey {
        /// Without user information.
        url: String,
        /// Whether it needs a passphrase.
        encrypted: bool,
        /// What libssh2 said.
        #[source]
        source: Cause,
    },
    /// The proxy wants a login, or another one.
    #[error(
        "cannot reach {url}: the proxy {proxy} {}; they are in the file proxy.credentialsFile of the configuration, or before \
         the host in https_proxy or http_proxy of the environment",
        if *given { "refuses the user and password" } else { "wants a user and a password" }
    )]
    ProxyLogin {
        /// Without user information.
        url: String,
        /// Its address.
        proxy: String,
        /// Whether it got a login.
        given: bool,
    },
    /// The certificate that was to be shown to the server.
    #[error("the client certificate for {url} (tls.crt, tls.key) cannot be used")]
    ClientCertificate {
        /// Without user information.
        url: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The server knows the user but denies access.
    #[error("{url}: the server forbids access")]
    Forbidden {
        /// Without user information.
        url: String,
        /// What the server said.
        #[source]
        source: Option<Cause>,
    },
    /// A credential would be sent over plain http.
    #[error(
        "{url} is plain http: a credential over it would be readable on the way; use https, or allow credentialsOverHttp"
    )]
    CredentialOverHttp {
        /// Without user information.
        url: String,
    },
    /// The server redirects, which could send a credential or a request elsewhere.
    #[error("{url} redirects to {to}")]
    Redirected {
        /// Without user information.
        url: String,
        /// The target.
        to: Redirection,
    },
    /// The SSH host key is unknown, changed or revoked.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The TLS certificate is not trusted, or not for this host.
    #[error("the certificate of {url} {problem}")]
    Certificate {
        /// Without user information.
        url: String,
        /// The problem, which decides the advice.
        problem: CertificateProblem,
        /// What TLS said.
        #[source]
        source: Cause,
    },
    /// The trusted certificate authorities cannot be read.
    #[error("the certificate authorities to trust for {url} cannot be used")]
    Authorities {
        /// Without user information.
        url: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The network or the server does not respond.
    #[error("cannot reach {url}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The server answers, but wants to be asked later.
    #[error("{url} is busy, and wants to be asked later")]
    Busy {
        /// Without user information.
        url: String,
        /// What it answered.
        #[source]
        source: Cause,
    },
    /// This node does not permit the connection.
    #[error("this node does not permit the connection to {url}: is it the confinement of the worker, or a firewall?")]
    NotPermitted {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// The server has gone silent.
    #[error("{url} went silent: no byte for {seconds} s while {phase}")]
    Stalled {
        /// Without user information.
        url: String,
        /// How long it was silent.
        seconds: u64,
        /// The current phase.
        phase: String,
    },
    /// The server sends, but hardly anything.
    #[error(
        "{url} was too slow while {phase}: it sent fewer than the {rate} bytes a second of limits.minimumRate; check the \
         network and the server"
    )]
    TooSlow {
        /// Without user information.
        url: String,
        /// The minimum, in bytes per second.
        rate: u64,
        /// The current phase.
        phase: String,
    },
    /// The pack exceeds a limit of the configuration.
    #[error("{url} sends more than the {limit} bytes that limits.fetchBytes allows")]
    TooLarge {
        /// Without user information.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The content of the pack exceeds both limits of the configuration.
    #[error(
        "{url} sends more than {limit} bytes of content, which neither limits.fetchBytes nor limits.treeBytes allows"
    )]
    ContentTooLarge {
        /// Without user information.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The index of the pack alone would use all memory.
    #[error("{url} sends a pack of more than {limit} objects")]
    TooManyObjects {
        /// Without user information.
        url: String,
        /// Objects.
        limit: u64,
    },
    /// A list of refs or an object does not fit in memory.
    #[error("what {url} sends needs more memory than worker.memory allows")]
    OutOfMemory {
        /// Without user information.
        url: String,
    },
    /// The processes that receive and verify the objects of a fetch lost each other.
    #[error("the process that verifies what {url} sends has ended or was lost; try again")]
    HandOver {
        /// Without user information.
        url: String,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// Objects of Git LFS cannot be had.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The server shows a web page where a repository should be.
    #[error(
        "{url} is a web page{}, not a repository; does the URL name a repository, and does that want a credential?",
        title.as_ref().map(|title| format!(" ({title:?})")).unwrap_or_default()
    )]
    WebPage {
        /// Without user information.
        url: String,
        /// Its title.
        title: Option<String>,
    },
    /// The repository is of a kind that cannot be served.
    #[error("{url} {what}")]
    Unsupported {
        /// Without user information.
        url: String,
        /// Of which kind it is.
        what: Unsupported,
    },
    /// The server speaks git, but what it sends is not a whole repository.
    #[error("the repository of {url} is damaged; run `git fsck` there")]
    BadData {
        /// Without user information.
        url: String,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// The server does not speak git, or aborts.
    #[error("{url} does not answer as a git server should")]
    Protocol {
        /// Without user information.
        url: String,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// The operation was interrupted.
    #[error("asking {url} was given up")]
    Interrupted {
        /// Without user information.
        url: String,
        /// The cause.
        #[source]
        source: Interrupted,
    },
    /// The local repository cannot be written or read.
    #[error("cannot use the local repository {path}")]
    Local {
        /// The path.
        path: PathBuf,
        /// Whether the disk is full; otherwise it is damaged.
        full: bool,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// This libgit2 cannot be used.
    #[error("cannot use libgit2")]
    Library {
        /// The cause.
        #[source]
        source: Cause,
    },
}

/// What to write in place of a name that the remote does not have.
fn advice(revision: &str, nearest: Option<&str>) -> String {
    let abbreviated = "; it looks like an abbreviated commit id: write all 40 digits";
    let abbreviated = if looks_abbreviated(revision) { abbreviated } else { "" };
    let nearest = nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
    format!("{abbreviated}{nearest}")
}

/// A kind of repository that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Unsupported {
    /// Its objects are not named by SHA-1.
    #[error("is a repository of the object format {name}; only sha1 is supported")]
    Hash {
        /// The name of the hash.
        name: String,
    },
    /// It is served as plain files.
    #[error(
        "is served as plain files (git's dumb HTTP); have the server run git http-backend, or a forge, for smart HTTP"
    )]
    DumbHttp,
}

impl RemoteError {
    /// Adds to a broken connection what the server said beside it.
    pub(super) fn with_words(self, words: Option<String>) -> Self {
        let Some(words) = words else { return self };
        let with = |source: &Cause| Cause::new(format_args!("{source}; it said: {words}"));
        match self {
            Self::Unreachable { url, source } => Self::Unreachable { source: with(&source), url },
            Self::Protocol { url, source } => Self::Protocol { source: with(&source), url },
            other => other,
        }
    }

    /// Names the commit that was asked for, which the server's words do not.
    pub(super) fn about(self, commit: CommitId) -> Self {
        match self {
            Self::CommitNotFound { url, source, .. } => Self::CommitNotFound { url, commit, source },
            other => other,
        }
    }

    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::RepositoryNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::EmptyRepository { .. }
            | Self::NoDefaultBranch { .. }
            | Self::CommitUnreachable { .. }
            | Self::CommitNotProven { .. }
            | Self::CommitNotFound { .. } => Kind::NotFound,
            Self::NotACommit { .. } | Self::WebPage { .. } => Kind::InvalidRequest,
            Self::NotPermitted { .. } => Kind::FailedPrecondition,
            Self::Unsupported { .. } | Self::NotNarrow { .. } => Kind::Unsupported,
            Self::BadData { .. } => Kind::BadData,
            // The node's configuration has to change, not the volume's credential.
            Self::ProxyLogin { .. } => Kind::FailedPrecondition,
            Self::CredentialMissing { .. }
            | Self::CredentialRefused { .. }
            | Self::UnusableKey { .. }
            | Self::ClientCertificate { .. }
            | Self::Certificate { .. }
            | Self::Authorities { .. } => Kind::Unauthenticated,
            Self::Forbidden { .. } | Self::CredentialOverHttp { .. } | Self::Redirected { .. } => {
                Kind::PermissionDenied
            }
            Self::HostKey(error) => error.kind(),
            Self::Objects(error) => error.kind(),
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Local { full: false, .. }
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::Protocol { .. } => Kind::Unavailable,
            Self::TooLarge { .. }
            | Self::ContentTooLarge { .. }
            | Self::TooManyObjects { .. }
            | Self::OutOfMemory { .. } => Kind::ResourceExhausted,
            Self::Interrupted { source, .. } => source.kind(),
            Self::Local { full: true, .. } => Kind::ResourceExhausted,
            Self::HandOver { .. } | Self::Library { .. } => Kind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_part_of_a_commit_id_gets_advice() {
        for (revision, nearest, expected) in [
            ("v1", None, r#""v1""#),
            ("v1", Some("v2"), r#""v1"; did you mean "v2"?"#),
            ("0123abc", None, r#""0123abc"; it looks like an abbreviated commit id: write all 40 digits"#),
            (
                "20240101",
                Some("20240102"),
                r#""20240101"; it looks like an abbreviated commit id: write all 40 digits; did you mean "20240102"?"#,
            ),
        ] {
            let (revision, nearest) = (revision.to_owned(), nearest.map(str::to_owned));
            let error = RemoteError::RevisionNotFound { url: "u".to_owned(), revision, nearest };
            assert_eq!(error.to_string(), format!("u has no branch, tag or ref {expected}"));
        }
    }
}
