//! The repository that a volume shows as `.git`.

use serde::Deserialize;
use serde::Serialize;

use crate::spec::GitDir;
use crate::spec::Revision;
use crate::spec::VolumeSpec;

/// Beginning of the full name of a branch.
const BRANCHES: &str = "refs/heads/";

/// What the `.git` of a volume says besides the commit. Equal ones of the same commit have the same
/// pack and the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkingRepository {
    /// Commits of history; 0 for all.
    pub depth: u32,
    /// The branch that is checked out, without `refs/heads/`; `None` if `HEAD` is detached. A valid name by git's rules.
    pub branch: Option<String>,
    /// The URL of the remote `origin`. No secret is in it.
    pub origin: String,
}

impl VolumeSpec {
    /// The repository that the volume shows if `reference` led to its commit, by its full name; `None` without `gitDir:
    /// keep`. The remote told the name, so nothing is believed of it: what is not the name of a branch leaves `HEAD`
    /// detached.
    pub(crate) fn working_repository(&self, reference: Option<&str>) -> Option<WorkingRepository> {
        let branch = reference.and_then(branch_of);
        let shown = || WorkingRepository { depth: self.depth, branch, origin: self.repository.to_string() };
        (self.git_dir == GitDir::Keep).then(shown)
    }
}

/// The short name of a branch. git takes none that begins with a dash.
fn branch_of(reference: &str) -> Option<String> {
    let Ok(Revision::Ref(name)) = Revision::parse(reference) else { return None };
    let short = name.strip_prefix(BRANCHES)?;
    (!short.starts_with('-') && short != "HEAD").then(|| short.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RepositoryUrl;

    #[test]
    fn only_the_well_formed_name_of_a_branch_is_checked_out() {
        let mut spec = VolumeSpec::new(RepositoryUrl::parse("https://git.example.com/a.git").unwrap());
        assert_eq!(spec.working_repository(Some("refs/heads/main")), None);
        spec.git_dir = GitDir::Keep;
        let branch = |reference: Option<&str>| spec.working_repository(reference).unwrap().branch;
        assert_eq!(branch(Some("refs/heads/feature/ü#\"x\"")), Some("feature/ü#\"x\"".to_owned()));
        for reference in [
            None,
            Some("HEAD"),
            Some("refs/tags/v1"),
            Some("refs/heads/"),
            Some("refs/heads/-x"),
            Some("refs/heads/HEAD"),
            Some("refs/heads/../../x"),
            Some("refs/heads/a\n[core]\n\tfsmonitor = evil"),
            Some("refs/heads/a b"),
            Some("refs/heads/a.lock"),
            Some("refs/heads/.a"),
        ] {
            assert_eq!(branch(reference), None, "{reference:?}");
        }
    }
}
