//! Commits whose signature was checked with what a credential got.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::Access;
use super::CredentialId;
use super::StoreError;
use super::files;
use super::sha256_hex;
use crate::signature::Signer;
use crate::spec::CommitId;

/// The extension of a verdict's file name.
const EXTENSION: &str = "signed";

/// A commit that has the required signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    /// Who signed.
    pub(crate) signer: Signer,
    /// The tag that was signed; `None` if the commit was.
    pub(crate) tag: Option<CommitId>,
}

/// What a verdict is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged<'a> {
    /// The commit.
    pub(crate) commit: &'a CommitId,
    /// The full name of the ref of the signed tag; `None` for the signature of the commit itself.
    pub(crate) reference: Option<&'a str>,
    /// The digest of what is required.
    pub(crate) requirement: &'a str,
}

impl Access {
    /// Returns the verdict about a signature.
    pub(crate) fn verdict(&self, credential: &CredentialId, judged: &Judged<'_>) -> Option<Verdict> {
        self.read(credential, &file_name(judged))
    }

    /// Records that a commit has the required signature. There may be many, as of proofs; a dropped one costs a check.
    pub(crate) fn record_verdict(
        &self,
        credential: &CredentialId,
        judged: &Judged<'_>,
        verdict: &Verdict,
    ) -> Result<(), StoreError> {
        if self.write(credential, &file_name(judged), verdict)? {
            files::bound(&self.directory(credential), EXTENSION, BTreeSet::new)?;
        }
        Ok(())
    }
}

fn file_name(judged: &Judged<'_>) -> String {
    let Judged { commit, reference, requirement } = judged;
    // No name of a ref has a blank in it.
    format!("{}.{EXTENSION}", sha256_hex(format!("{commit} {requirement} {}", reference.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::commit;
    use crate::store::fixture::store;

    #[test]
    fn s20_a_verdict_is_about_one_commit_one_tag_one_requirement_and_one_credential() {
        let (_place, store) = store();
        let access = store.access();
        let [credential, other] = ["a", "b"].map(|digit| CredentialId::try_from(digit.repeat(64)).unwrap());
        let signer = Signer { key: "SHA256:x".to_owned(), name: "a@b".to_owned(), tag: true, until: Some(7) };
        let verdict = Verdict { signer, tag: Some(commit(9)) };
        let (one, two) = (commit(1), commit(2));
        let judged =
            |first, reference, requirement| Judged { commit: if first { &one } else { &two }, reference, requirement };
        let about = judged(true, Some("refs/tags/v1"), "d");
        access.record_verdict(&credential, &about, &verdict).unwrap();
        assert_eq!(access.verdict(&credential, &about), Some(verdict));
        for (credential, judged) in [
            (&other, about),
            (&credential, judged(false, Some("refs/tags/v1"), "d")),
            (&credential, judged(true, Some("refs/tags/v2"), "d")),
            (&credential, judged(true, None, "d")),
            (&credential, judged(true, Some("refs/tags/v1"), "e")),
        ] {
            assert_eq!(access.verdict(credential, &judged), None, "{judged:?}");
        }
    }
}
