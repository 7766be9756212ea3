//! Why objects of Git LFS cannot be had.

use serde::Deserialize;
use serde::Serialize;

use crate::error::Cause;
use crate::error::Kind;
use crate::lfs::Object;
use crate::remote::RemoteError;

/// A failure to fetch objects of Git LFS.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ObjectsError {
    /// The repository is not reached over HTTP or SSH.
    #[error("Git LFS needs a repository at an https, http or ssh URL; leave out lfs, or use one of these")]
    WithoutServer,
    /// The commit names another server.
    #[error(
        "the commit's .lfsconfig names the Git LFS server {server:?}, and {reason}; take lfs.url out of it, or leave out lfs"
    )]
    ForeignServer {
        /// As written, without a password.
        server: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// There is no server where it should be.
    #[error("{url}: there is no Git LFS server for this repository, or it hides the repository from this credential")]
    NoServer {
        /// The server's URL.
        url: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// The server refuses an object.
    #[error("{url} does not give out the Git LFS object {oid} of {path:?}")]
    Refused {
        /// The server's URL.
        url: String,
        /// The SHA-256.
        oid: String,
        /// A file that has it.
        path: String,
        /// As a status of HTTP.
        code: u16,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// Where the server says that an object is, it is not given out.
    #[error(
        "{url} does not give out the Git LFS object {oid} of {path:?} (status {code}), although its server said anew that it \
         is there; try again, or check that the server may sign for this storage, and both clocks"
    )]
    PlaceRefused {
        /// The origin of the place.
        url: String,
        /// The SHA-256.
        oid: String,
        /// A file that has it.
        path: String,
        /// The status of the answer.
        code: u16,
    },
    /// What `git-lfs-authenticate` gave is good for a time that is over.
    #[error("{url} does not accept any more what git-lfs-authenticate gave for it, as its time is over; try again")]
    Expired {
        /// The server's URL.
        url: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// What the server sends is not the object.
    #[error(
        "the Git LFS object {oid} of {path:?} is damaged at {url}; run `git lfs fsck` in a clone that has it, and push it again"
    )]
    Corrupt {
        /// The server's URL.
        url: String,
        /// The SHA-256.
        oid: String,
        /// A file that has it.
        path: String,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// A download breaks off, and gets no further.
    #[error("the download of the Git LFS object {oid} of {path:?} breaks off at byte {at} of {size}")]
    BrokenOff {
        /// The SHA-256.
        oid: String,
        /// A file that has it.
        path: String,
        /// How much has arrived, in bytes.
        at: u64,
        /// Its length, in bytes.
        size: u64,
        /// What failed.
        #[source]
        source: Box<RemoteError>,
    },
    /// The server answers in words that cannot be understood.
    #[error("{url} does not answer as a Git LFS server should")]
    Protocol {
        /// The server's URL.
        url: String,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// So many answers are needed that the store would have too many files.
    #[error("{url} gives out its Git LFS objects in too many small portions; those that came are kept: try again")]
    TooMany {
        /// The server's URL.
        url: String,
    },
}

impl ObjectsError {
    /// The server refuses an object, with a status as of HTTP.
    pub(crate) fn refused(url: String, object: &Object, code: u16, source: Cause) -> Self {
        Self::Refused { url, oid: object.id.to_string(), path: object.path.clone(), code, source }
    }

    /// A place refuses an object, for the second time.
    pub(crate) fn place_refused(url: String, object: &Object, code: u16) -> Self {
        Self::PlaceRefused { url, oid: object.id.to_string(), path: object.path.clone(), code }
    }

    pub(super) fn corrupt(url: String, object: &Object, what: impl std::fmt::Display) -> Self {
        Self::Corrupt { url, oid: object.id.to_string(), path: object.path.clone(), source: Cause::new(what) }
    }

    /// A download breaks off after so many bytes.
    pub(super) fn broken_off(object: &Object, at: u64, source: RemoteError) -> Self {
        let (oid, path, size) = (object.id.to_string(), object.path.clone(), object.size);
        Self::BrokenOff { oid, path, at, size, source: Box::new(source) }
    }

    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::WithoutServer => Kind::Unsupported,
            Self::ForeignServer { .. } => Kind::PermissionDenied,
            Self::NoServer { .. } => Kind::NotFound,
            Self::Refused { code, .. } => match code {
                401 | 403 => Kind::PermissionDenied,
                404 | 410 => Kind::NotFound,
                400..=499 if !matches!(code, 408 | 429) => Kind::BadData,
                _ => Kind::Unavailable,
            },
            Self::Corrupt { .. } => Kind::BadData,
            Self::PlaceRefused { .. } | Self::Expired { .. } | Self::Protocol { .. } => Kind::Unavailable,
            Self::BrokenOff { source, .. } => source.kind(),
            Self::TooMany { .. } => Kind::ResourceExhausted,
        }
    }
}

/// The error for a repository without a server of Git LFS.
pub(in crate::remote) fn without_server() -> RemoteError {
    ObjectsError::WithoutServer.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lfs::ObjectId;
    use crate::lfs::Pointer;

    #[test]
    fn what_a_server_says_of_an_object_decides_the_kind() {
        let object = Object::new(&Pointer { id: ObjectId::from_bytes([1; 32]), size: 1 }, b"a/file");
        for (code, kind) in [
            (403, Kind::PermissionDenied),
            (404, Kind::NotFound),
            (410, Kind::NotFound),
            (422, Kind::BadData),
            (429, Kind::Unavailable),
            (500, Kind::Unavailable),
        ] {
            let error = ObjectsError::refused("https://x/y".to_owned(), &object, code, Cause::new("no"));
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.to_string().contains("a/file") && error.to_string().contains(&object.id.to_string()));
        }
    }
}
