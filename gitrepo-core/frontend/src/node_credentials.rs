//! Credentials that an administrator keeps on the node (`nodeCredentials`), for pods that bring none.
//!
//! The files are read at each use, so that a new key needs no restart. A pod never sees them: only the worker that speaks
//! to the remote gets them.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use gitrepo_core::credentials::CredentialSource;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::SourceError;
use gitrepo_core::error::Kind;
use gitrepo_core::policy::NodeCredential;
use gitrepo_core::spec::RepositoryUrl;

use crate::secret_directory;
use crate::secret_directory::SecretDirectoryError;

/// The credential of the node cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the node's credential for {url} cannot be used (nodeCredentials, {})", directory.display())]
pub struct NodeCredentialError {
    /// The repository.
    url: String,
    /// The configuration's `secretDir`.
    directory: PathBuf,
    /// The reason.
    #[source]
    source: Box<SecretDirectoryError>,
}

impl NodeCredentialError {
    /// The kind of this failure. The administrator has to correct it, not the pod's author.
    pub fn kind(&self) -> Kind {
        Kind::FailedPrecondition
    }
}

/// Returns the credentials for a pod's volume: the pod's own, if it brought any key, or else the node's for this
/// repository and namespace, if there is one.
///
/// A pod's keys are never combined with the node's: with a certificate authority or a host key of the pod's author, the
/// node's key would go to a server of theirs. Submodules get the node's credentials in the same way, each those for its own
/// repository. `namespace` must come from the kubelet; `None` if it is not known for sure.
///
/// # Errors
///
/// If the node's credential cannot be read, or others may read it.
pub fn for_pod(
    all: &[NodeCredential],
    url: &RepositoryUrl,
    namespace: Option<&str>,
    own: Credentials,
) -> Result<Credentials, NodeCredentialError> {
    let Some(namespace) = namespace.filter(|_| own.secret_keys().is_empty()) else { return Ok(own) };
    let node = OfNode::new(all.iter().filter(|credential| credential.is_for(namespace)).cloned().collect());
    node.credentials_of(url)
}

/// Returns the node's credentials for what it fetches for itself, in whatever namespaces pods may use them; none if no
/// pattern covers the repository.
///
/// # Errors
///
/// As for [`for_pod`].
pub fn for_node(all: &[NodeCredential], url: &RepositoryUrl) -> Result<Credentials, NodeCredentialError> {
    let node = OfNode::new(all.to_vec());
    node.credentials_of(url)
}

/// The credentials of the node that one call for a volume may use.
struct OfNode {
    all: Vec<NodeCredential>,
    /// What was read already, by its directory. A submodule is not recorded with a newer key than the one that proved
    /// access to it.
    read: Mutex<HashMap<PathBuf, Credentials>>,
}

impl OfNode {
    fn new(all: Vec<NodeCredential>) -> Self {
        Self { all, read: Mutex::default() }
    }

    /// Returns the one for the volume's repository, if any. The others are for its submodules.
    fn credentials_of(self, url: &RepositoryUrl) -> Result<Credentials, NodeCredentialError> {
        let own = self.find(url)?;
        Ok(if self.all.is_empty() { own } else { own.with_source(Arc::new(self)) })
    }

    fn find(&self, url: &RepositoryUrl) -> Result<Credentials, NodeCredentialError> {
        let Some(found) = closest(self.all.iter(), url) else { return Ok(Credentials::none()) };
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credentials) = known.get(&found.secret_dir) {
            return Ok(credentials.clone());
        }
        tracing::debug!(%url, directory = %found.secret_dir.display(), "using a credential of the node");
        let credentials = read(found, url)?;
        known.insert(found.secret_dir.clone(), credentials.clone());
        Ok(credentials)
    }
}

impl CredentialSource for OfNode {
    fn credentials(&self, url: &RepositoryUrl) -> Result<Credentials, SourceError> {
        Ok(self.find(url)?)
    }
}

/// Finds the credential with the longest pattern that covers the repository; of two as long, the first.
fn closest<'a>(
    candidates: impl Iterator<Item = &'a NodeCredential>,
    url: &RepositoryUrl,
) -> Option<&'a NodeCredential> {
    let mut closest: Option<&NodeCredential> = None;
    for candidate in candidates.filter(|candidate| candidate.matches.covers(url)) {
        if closest.is_none_or(|closest| candidate.matches.length() > closest.matches.length()) {
            closest = Some(candidate);
        }
    }
    closest
}

fn read(credential: &NodeCredential, url: &RepositoryUrl) -> Result<Credentials, NodeCredentialError> {
    secret_directory::read_private(&credential.secret_dir).map_err(|source| NodeCredentialError {
        url: url.to_string(),
        directory: credential.secret_dir.clone(),
        source: Box::new(source),
    })
}

/// Whether a target `<kubelet>/pods/<uid>/volumes/…` is that of the pod with this uid. The author of a pod cannot know the
/// uid when they write the volume's attributes, so one that fits was set by the kubelet, as was the namespace beside it.
pub fn is_target_of(target: &Path, pod_uid: &str) -> bool {
    let names: Vec<_> = target.iter().map(|name| name.to_string_lossy()).collect();
    !pod_uid.is_empty() && names.windows(3).any(|at| at[0] == "pods" && at[1] == pod_uid && at[2] == "volumes")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credential(matches: &str, directory: &Path, namespaces: &[&str]) -> NodeCredential {
        let namespaces: Vec<_> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let json = serde_json::json!({ "match": matches, "secretDir": directory, "namespaces": namespaces });
        serde_json::from_value(json).unwrap()
    }

    fn url() -> RepositoryUrl {
        RepositoryUrl::parse("https://git.example.com/team/a.git").unwrap()
    }

    /// A directory with a token, and the pattern that selects it.
    struct Secrets(tempfile::TempDir);

    impl Secrets {
        fn add(&self, token: &str) -> PathBuf {
            let directory = self.0.path().join(token);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("token"), token).unwrap();
            self.set_mode(token, 0o400);
            directory
        }

        fn set_mode(&self, token: &str, mode: u32) {
            let file = self.0.path().join(token).join("token");
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn token(credentials: &Credentials) -> Option<String> {
        credentials.secret_keys().get("token").map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_longest_pattern_among_those_of_the_namespace_wins_and_the_first_of_two() {
        let secrets = Secrets(tempfile::tempdir().unwrap());
        let all = [
            credential("https://git.example.com/*", &secrets.add("wide"), &["*"]),
            credential("https://git.example.com/team/*", &secrets.add("close"), &["ci", "web"]),
            credential("https://git.example.com/team/*", &secrets.add("second"), &["ci"]),
            credential("https://git.example.com/team/a.git", &secrets.add("nobody"), &[]),
            credential("https://other.example.com/*", &secrets.add("other"), &["*"]),
        ];
        let of = |namespace: Option<&str>| token(&for_pod(&all, &url(), namespace, Credentials::none()).unwrap());
        assert_eq!(of(Some("ci")).as_deref(), Some("close"));
        assert_eq!(of(Some("web")).as_deref(), Some("close"));
        assert_eq!(of(Some("default")).as_deref(), Some("wide"));
        assert_eq!(of(None), None, "the namespace is not known for sure");
        assert_eq!(of(Some("")), None);
        assert_eq!(token(&for_node(&all, &url()).unwrap()).as_deref(), Some("nobody"));
    }

    #[test]
    fn a_submodule_gets_the_nodes_credential_for_its_own_repository() {
        let secrets = Secrets(tempfile::tempdir().unwrap());
        let all = [
            credential("https://git.example.com/team/a.git", &secrets.add("own"), &["ci"]),
            credential("https://other.example.com/*", &secrets.add("other"), &["ci"]),
            credential("https://other.example.com/web/*", &secrets.add("web"), &["web"]),
        ];
        let pod = for_pod(&all, &url(), Some("ci"), Credentials::none()).unwrap();
        let of = |submodule: &str| {
            let submodule = RepositoryUrl::parse(submodule).unwrap();
            token(&pod.for_submodule(&url(), &submodule).unwrap())
        };
        assert_eq!(
            of("https://other.example.com/web/x").as_deref(),
            Some("other"),
            "that of another namespace is not used"
        );
        assert_eq!(of("https://git.example.com/team/b.git"), None, "the node has none for it");
        assert_eq!(of("https://git.example.com/team/a.git").as_deref(), Some("own"));
        // The superproject is public.
        let public = RepositoryUrl::parse("https://public.example.com/x").unwrap();
        let pod = for_pod(&all, &public, Some("ci"), Credentials::none()).unwrap();
        assert!(pod.is_empty());
        let found = pod.for_submodule(&public, &url()).unwrap();
        assert_eq!(token(&found).as_deref(), Some("own"));
    }

    #[test]
    fn s13_a_pods_own_keys_are_never_combined_with_the_nodes() {
        let secrets = Secrets(tempfile::tempdir().unwrap());
        let all = [credential("https://git.example.com/*", &secrets.add("node"), &["*"])];
        for (key, value) in [("token", "own"), ("known_hosts", "h ssh-ed25519 AAAA"), ("username", "u")] {
            let keys = [(key.to_owned(), gitrepo_core::credentials::Secret::new(value.to_owned()))].into();
            let Ok(own) = Credentials::from_secret_keys(keys) else { continue };
            let used = for_pod(&all, &url(), Some("ci"), own).unwrap();
            assert_eq!(used.secret_keys().keys().collect::<Vec<_>>(), [key]);
            assert_ne!(token(&used).as_deref(), Some("node"));
        }
    }

    #[test]
    fn a_credential_that_others_may_read_is_refused_and_a_new_one_is_read_at_once() {
        let secrets = Secrets(tempfile::tempdir().unwrap());
        let directory = secrets.add("old");
        let all = [credential("https://git.example.com/*", &directory, &["ci"])];
        let use_it = || for_pod(&all, &url(), Some("ci"), Credentials::none());
        assert_eq!(token(&use_it().unwrap()).as_deref(), Some("old"));
        std::fs::remove_file(directory.join("token")).unwrap();
        std::fs::write(directory.join("token"), "new").unwrap();
        secrets.set_mode("old", 0o444);
        let error = use_it().unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        let words = gitrepo_core::error::chain(&error);
        assert!(words.contains("others may read it") && !words.contains("new"), "{words}");
        secrets.set_mode("old", 0o440);
        assert_eq!(token(&use_it().unwrap()).as_deref(), Some("new"));
        std::fs::remove_file(directory.join("token")).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        assert!(use_it().is_err());
    }

    #[test]
    fn the_pod_of_a_target_is_known_by_its_uid() {
        let uid = "a32c0b1b-7f3e-4c55-9d1e-000000000001";
        let target = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/v/mount");
        assert!(is_target_of(Path::new(&target), uid));
        for (target, uid) in
            [(target.as_str(), ""), (target.as_str(), "other"), ("/mnt/a", uid), (&format!("/{uid}"), uid)]
        {
            assert!(!is_target_of(Path::new(target), uid), "{target} {uid}");
        }
    }
}
