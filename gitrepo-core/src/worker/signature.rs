//! Checks the signature of a commit: finds the commit, computes the ids of what is signed, and compares.

use std::path::Path;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use git2::ObjectType;
use git2::Oid;
use git2::Repository;

use crate::error::Cause;
use crate::pack;
use crate::signature;
use crate::signature::Evidence;
use crate::signature::SignatureError;
use crate::signature::SignatureRequest;
use crate::signature::Signer;
use crate::spec::CommitId;

/// Checks a commit that is in the repository, unless the request brings it.
pub(super) fn check(repository: Option<&Path>, request: &SignatureRequest) -> Result<Signer, SignatureError> {
    let commit = request.commit;
    let unreadable = |source| SignatureError::Unreadable { commit, source };
    let found;
    let content = match (&request.content, repository) {
        (Some(content), _) => content,
        (None, Some(repository)) => {
            found = read(repository, commit).map_err(|error| unreadable(Cause::new(error.message())))?;
            &found
        }
        (None, None) => return Err(unreadable(Cause::new("there is no repository"))),
    };
    let is_it = |id, kind, content: &[u8]| pack::is_object(id, kind, content);
    if !is_it(commit, ObjectType::Commit, content) {
        return Err(unreadable(Cause::new("its content has another id")));
    }
    if request.tag.as_ref().is_some_and(|tag| !is_it(tag.id, ObjectType::Tag, &tag.content)) {
        return Err(unreadable(Cause::new("the content of its tag has another id")));
    }
    let tag = request.tag.as_ref().map(|tag| (tag.content.as_slice(), tag.reference.as_str()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    signature::verify(&request.requirement, &Evidence { commit, content, tag }, now.as_secs())
}

fn read(repository: &Path, commit: CommitId) -> Result<Vec<u8>, git2::Error> {
    crate::sys::git::isolate()?;
    let opened = Repository::open_bare(repository)?;
    let objects = opened.odb()?;
    let found = objects.read(Oid::from_bytes(commit.as_bytes())?)?;
    Ok(found.data().to_vec())
}
