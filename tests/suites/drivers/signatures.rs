//! `signatures`: commits that the admin wants signed.

use std::path::PathBuf;

use gitrepo_tests::git;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::openpgp;
use gitrepo_tests::openpgp::OpenPgpKey;
use gitrepo_tests::repository::Files;
use gitrepo_tests::require;
use gitrepo_tests::signing;
use gitrepo_tests::signing::SigningKey;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use super::Scene;

/// A time long ago, in seconds since 1970: 2020-09-13.
const LONG_AGO: u64 = 1_600_000_000;

/// A node that wants the commits of every repository signed.
struct Signed<D> {
    scene: Scene<D>,
    key: SigningKey,
    place: TempDir,
}

impl<D: Driver> Signed<D> {
    /// The commit of the branch `main` has no signature.
    fn new(on: &str) -> Option<Self> {
        Self::with_keys(on, "allowedSigners", "allowed_signers")
    }

    /// The same with another file of keys: by its name in the rule and its own.
    fn with_keys(on: &str, field: &str, file: &str) -> Option<Self> {
        let place = TempDir::new().unwrap();
        let rule = json!({"match": "*", "on": on, field: place.path().join(file)});
        let key = SigningKey::new();
        signing::write_allowed(&place.path().join("allowed_signers"), &[key.allowed("alice@example.com", "")]);
        let configuration = json!({"signatures": [rule], "log": {"level": "error"}});
        let scene = Scene::configured(&configuration, |server| server)?;
        Some(Self { scene, key, place })
    }

    fn allow(&self, lines: &[String]) {
        signing::write_allowed(&self.place.path().join("allowed_signers"), lines);
    }

    fn volume(&self, revision: &str) -> D::Volume {
        self.scene.inline("v").read_only().with("revision", revision)
    }

    fn assert_shown(&self, revision: &str) {
        let volume = self.volume(revision);
        let (pod, _) = self.scene.start_pod("shown", &volume);
        self.scene.tear_down(&pod, &volume);
    }

    fn assert_refused(&self, revision: &str, words: &[&str]) {
        let failed = self.scene.assert_not_set_up(&self.volume(revision), words);
        D::assert_code(&failed, Code::PermissionDenied);
    }

    /// Commits `content` literally, as the branch of this name.
    fn branch(&self, name: &str, content: &str) -> String {
        let id = signing::write_commit(&self.scene.repository, content.as_bytes());
        self.scene.repository.set_reference(&format!("refs/heads/{name}"), &id);
        id
    }

    fn audit(&self) -> Vec<Value> {
        let log = self.scene.node.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "audit").collect()
    }
}

pub(super) fn s20_a_commit_needs_its_signature_and_the_refusal_names_the_key<D: Driver>() {
    let Some(signed) = Signed::<D>::new("commit") else { return };
    let (repository, key) = (&signed.scene.repository, &signed.key);
    signed.assert_refused("main", &[&signed.scene.commit, "is not signed", "allowed_signers"]);
    let good = key.sign_branch(repository, "main");
    // The remote was asked about `main` a moment ago.
    signed.assert_shown("refs/heads/main");
    signed.assert_shown(&good);
    let line = signed.audit().into_iter().rfind(|line| line["message"] == "published").unwrap();
    assert_eq!(line["signer"], format!("alice@example.com ({})", key.fingerprint()), "{line}");

    let other = SigningKey::new();
    repository.set_branch("other", "main");
    let wrong = other.sign_branch(repository, "other");
    signed.assert_refused("other", &[&wrong, &other.fingerprint(), "does not name"]);
    let line = signed.audit().into_iter().rfind(|line| line["message"] == "refused").unwrap();
    assert!(line["error"].as_str().unwrap().contains(&other.fingerprint()), "{line}");

    let text = signing::content(repository, "commit", &good);
    let unsigned = signing::content(repository, "commit", &signed.scene.commit);
    for (name, content, words) in [
        ("moved", text.replacen("author ", "Author ", 1), "not of this content"),
        ("message", format!("{text}more\n"), "not of this content"),
        (
            "two",
            signing::with_signatures(&unsigned, &[key.sign("git", unsigned.as_bytes()), key.sign("git", b"x")]),
            "more than one",
        ),
        (
            "file",
            signing::with_signatures(&unsigned, &[key.sign("file", unsigned.as_bytes())]),
            "\"file\" and not for git",
        ),
        (
            "garbage",
            signing::with_signatures(
                &unsigned,
                &["-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n".to_owned()],
            ),
            "malformed",
        ),
        (
            "huge",
            signing::with_signatures(&unsigned, &[format!("-----BEGIN SSH SIGNATURE-----\n{}\n", "A".repeat(200_000))]),
            "more than",
        ),
        (
            "pgp",
            signing::with_signatures(
                &unsigned,
                &["-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n".to_owned()],
            ),
            "OpenPGP",
        ),
    ] {
        let commit = signed.branch(name, &content);
        signed.assert_refused(name, &[&commit, words]);
    }
    let by_hand = signing::with_signatures(&unsigned, &[key.sign("git", unsigned.as_bytes())]);
    signed.branch("by-hand", &by_hand);
    signed.assert_shown("by-hand");
}

pub(super) fn s20_a_tree_in_the_store_is_refused_once_its_signer_is_no_longer_allowed<D: Driver>() {
    let Some(signed) = Signed::<D>::new("either") else { return };
    let commit = signed.key.sign_branch(&signed.scene.repository, "main");
    signed.assert_shown("main");
    for (lines, words) in [
        (Vec::new(), "does not name"),
        (vec![signed.key.allowed("alice@example.com", "valid-before=\"20200101Z\"")], "no longer valid"),
        (vec![signed.key.allowed("alice@example.com", "namespaces=\"file\"")], "may not sign for git"),
    ] {
        signed.allow(&lines);
        signed.assert_refused("main", &[&commit, words, &signed.key.fingerprint()]);
        signed.assert_refused(&commit, &[&commit, words]);
    }
    let file: PathBuf = signed.place.path().join("allowed_signers");
    std::fs::remove_file(&file).unwrap();
    let failed = signed.scene.assert_not_set_up(&signed.volume("main"), &["allowed_signers", "cannot be used"]);
    D::assert_code(&failed, Code::FailedPrecondition);
    signed.allow(&[signed.key.allowed("alice@example.com", "valid-before=\"20300101Z\"")]);
    signed.assert_shown("main");
}

pub(super) fn s20_a_signed_tag_vouches_for_a_commit_that_is_asked_for_by_that_tag<D: Driver>() {
    for on in ["tag", "either"] {
        let Some(signed) = Signed::<D>::new(on) else { return };
        let (repository, key) = (&signed.scene.repository, &signed.key);
        key.sign_tag(repository, "v1.0", "main");
        signed.assert_shown("v1.0");
        let commit = &signed.scene.commit;
        signed.assert_refused("main", &[commit, "no annotated tag led to it"]);
        signed.assert_refused(commit, &[commit, "no annotated tag led to it"]);
        // An old tag under a new name.
        repository.set_reference("refs/tags/v2.0", &repository.resolve("refs/tags/v1.0"));
        signed.assert_refused("v2.0", &[commit, "under another name"]);
        // The remote names another tag now, of the same commit, which is in the store.
        git::output(&mut repository.git(["tag", "--force", "-a", "-m", "unsigned", "v1.0", "main"]));
        signed.assert_refused("refs/tags/v1.0", &[commit, "refs/tags/v1.0 is not signed"]);
        repository.tag("light", "main");
        signed.assert_refused("light", &[commit, "no annotated tag led to it"]);
        // A signed commit has a branch of its own.
        repository.commit("other", &Files::new().file("a", "a"));
        key.sign_branch(repository, "other");
        match on {
            "tag" => signed.assert_refused("other", &["no annotated tag led to it"]),
            _ => signed.assert_shown("other"),
        }
        assert!(signed.audit().iter().any(|line| line["signer"] != Value::Null));
    }
}

pub(super) fn s20_pods_of_a_shared_copy_need_the_signature_too<D: Driver>() {
    let Some(signed) = Signed::<D>::new("tag") else { return };
    signed.key.sign_tag(&signed.scene.repository, "v1.0", "main");
    let volume = signed.scene.persistent("shared").with("revision", "v1.0");
    let (first, _) = signed.scene.start_pod("first", &volume);
    let (second, _) = signed.scene.start_pod("second", &volume);
    signed.allow(&[]);
    let third = Pod::new("third");
    let failed = signed.scene.node.set_up(&third, &volume).expect_err("no key is allowed").to_string();
    assert!(failed.contains("does not name"), "{failed}");
    signed.scene.node.give_up(&third, &volume);
    for pod in [&first, &second] {
        signed.scene.tear_down(pod, &volume);
    }
    signed.scene.node.assert_nothing_set_up();
}

pub(super) fn s20_an_openpgp_signature_counts_and_the_refusal_names_the_key<D: Driver>() {
    if !require::tool("gpg") {
        return;
    }
    let Some(signed) = Signed::<D>::with_keys("either", "openpgpKeys", "keys.asc") else { return };
    let (repository, file) = (&signed.scene.repository, signed.place.path().join("keys.asc"));
    let failed = signed.scene.assert_not_set_up(&signed.volume("main"), &["keys.asc", "cannot be used"]);
    D::assert_code(&failed, Code::FailedPrecondition);
    let alice = OpenPgpKey::new("ed25519", "Alice <alice@example.com>");
    let (bob, old) = (OpenPgpKey::new("rsa2048", "Bob"), OpenPgpKey::expiring("Old", LONG_AGO, "1y"));
    openpgp::write_keys(&file, &[&alice, &old]);
    signed.assert_refused("main", &[&signed.scene.commit, "is not signed", "keys.asc"]);
    alice.sign_tag(repository, "v1.0", "main");
    signed.assert_shown("v1.0");
    for (name, key) in [("bob", &bob), ("old", &old)] {
        repository.set_branch(name, "main");
        key.sign_branch(repository, name);
    }
    repository.set_branch("ssh", "main");
    signed.key.sign_branch(repository, "ssh");
    alice.sign_branch(repository, "main");
    signed.assert_shown("refs/heads/main");
    let line = signed.audit().into_iter().rfind(|line| line["message"] == "published").unwrap();
    assert_eq!(line["signer"], format!("Alice <alice@example.com> ({})", alice.fingerprint()), "{line}");
    signed.assert_refused("bob", &[bob.fingerprint(), "which openpgpKeys does not have"]);
    signed.assert_refused("old", &[old.fingerprint(), "which expired on Mon, 13 Sep 2021"]);
    signed.assert_refused("ssh", &["no allowedSigners are configured"]);
    // In the store is what no longer counts.
    alice.revoke();
    openpgp::write_keys(&file, &[&alice]);
    signed.assert_refused("refs/heads/main", &[alice.fingerprint(), "which was revoked on"]);
    signed.assert_refused("v1.0", &[alice.fingerprint(), "which was revoked on"]);
}
