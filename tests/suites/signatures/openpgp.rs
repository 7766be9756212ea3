//! Commits and tags that git signs with gpg, beside what `git verify-commit` says of them.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::chain;
use gitrepo_tests::openpgp;
use gitrepo_tests::openpgp::OpenPgpKey;
use gitrepo_tests::require;

use super::*;

/// A time long ago, in seconds since 1970: 2020-09-13.
const LONG_AGO: u64 = 1_600_000_000;

impl Scene {
    fn keys(&self) -> PathBuf {
        self.place.path().join("keys.asc")
    }

    /// A program that wants commits signed by a key of [`Scene::keys`], and of the file of allowed signers if `or_ssh`.
    fn with_openpgp(&self, on: &str, or_ssh: bool) -> Node {
        let mut rule = json!({"match": "*", "on": on, "openpgpKeys": self.keys()});
        if or_ssh {
            rule["allowedSigners"] = json!(self.file());
        }
        self.program(|config| config.signatures = vec![serde_json::from_value(rule).unwrap()])
    }

    /// Commits as a new branch, with the key's signature. Returns the commit.
    fn signed_branch(&self, name: &str, key: &OpenPgpKey) -> String {
        self.repository.set_branch(name, "main");
        key.sign_branch(&self.repository, name)
    }

    /// Writes a commit as it stands, as a new branch.
    fn branch(&self, name: &str, content: &str) -> String {
        let commit = signing::write_commit(&self.repository, content.as_bytes());
        self.repository.set_reference(&format!("refs/heads/{name}"), &commit);
        commit
    }

    fn assert_shown(&self, node: &Node, revision: &str, key: &str) {
        let request = self.request(node, "shown", revision);
        let published = node.publish(&request);
        let published = published.unwrap_or_else(|error| panic!("{revision}: {}", chain(&error)));
        assert_eq!(published.signer.unwrap().key, key, "{revision}");
        node.unpublish(&request);
    }
}

#[test]
fn s20_what_gpg_signs_counts_if_git_says_so() {
    if !require::tool("gpg") {
        return;
    }
    let scene = Scene::new();
    let algorithms = ["ed25519", "rsa2048", "nistp256", "nistp384", "nistp521"];
    let keys = algorithms.map(|algorithm| OpenPgpKey::new(algorithm, &format!("{algorithm} <a@example.com>")));
    openpgp::write_keys(&scene.keys(), &keys.iter().collect::<Vec<_>>());
    let node = scene.with_openpgp("commit", false);
    for (key, algorithm) in keys.iter().zip(algorithms) {
        let commit = scene.signed_branch(algorithm, key);
        assert!(key.verifies(&scene.repository, &commit));
        scene.assert_shown(&node, algorithm, key.fingerprint());
        // The same signature under another commit, and under a changed one.
        let text = signing::content(&scene.repository, "commit", &commit);
        for (name, changed) in
            [("author", text.replacen("author Author", "author Another", 1)), ("message", format!("{text}more\n"))]
        {
            let branch = format!("{algorithm}-{name}");
            let commit = scene.branch(&branch, &changed);
            assert!(changed != text && !key.verifies(&scene.repository, &commit));
            scene.assert_refused(&node, &branch, "but the signature is not of this content");
        }
    }
    // With a subkey, and its key alone in the file until it is exported again.
    let [key, ..] = &keys;
    let subkey = key.add_subkey("ed25519");
    let commit = scene.signed_branch("subkey", key);
    assert!(key.verifies(&scene.repository, &commit));
    scene.assert_refused(&node, "subkey", &format!("{subkey}, which openpgpKeys does not have"));
    openpgp::write_keys(&scene.keys(), &[key]);
    scene.assert_shown(&node, "subkey", &subkey);
    scene.assert_refused(&node, "rsa2048", &format!("{}, which openpgpKeys does not have", keys[1].fingerprint()));
    // The binary form is the same file.
    fs::write(scene.keys(), keys[1].public_packets()).unwrap();
    scene.assert_shown(&node, "rsa2048", keys[1].fingerprint());
}

#[test]
fn s20_a_key_that_git_no_longer_accepts_is_refused_with_the_reason() {
    if !require::tool("gpg") {
        return;
    }
    let scene = Scene::new();
    let node = scene.with_openpgp("commit", false);
    let key = OpenPgpKey::expiring("old <a@example.com>", LONG_AGO, "1y");
    let commit = scene.signed_branch("old", &key);
    key.set_clock(None);
    openpgp::write_keys(&scene.keys(), &[&key]);
    assert!(!key.verifies(&scene.repository, &commit));
    scene.assert_refused(&node, "old", "which expired on Mon, 13 Sep 2021 12:26:40 GMT");
    key.set_expiry("never");
    scene.assert_refused(&node, "old", "which expired on");
    openpgp::write_keys(&scene.keys(), &[&key]);
    assert!(key.verifies(&scene.repository, &commit));
    scene.assert_shown(&node, "old", key.fingerprint());
    let before = key.public();
    key.revoke();
    assert!(!key.verifies(&scene.repository, &commit));
    // An old copy in the same file does not help.
    fs::write(scene.keys(), format!("{before}{}{before}", key.public())).unwrap();
    scene.assert_refused(&node, "old", "which was revoked on");
}

#[test]
fn s20_a_remembered_verdict_ends_with_the_openpgp_key() {
    if !require::tool("gpg") {
        return;
    }
    let scene = Scene::new();
    let key = OpenPgpKey::new("ed25519", "short <a@example.com>");
    let commit = scene.signed_branch("short", &key);
    key.set_expiry("seconds=20");
    let end = Instant::now() + Duration::from_secs(20);
    openpgp::write_keys(&scene.keys(), &[&key]);
    let node = scene.with_openpgp("commit", false);
    scene.assert_shown(&node, "short", key.fingerprint());
    assert!(Instant::now() < end, "the machine is too slow for this test");
    // Nothing but the clock changes.
    let request = scene.request(&node, "again", &commit);
    let refused = loop {
        match node.publish(&request) {
            Ok(_) => drop(node.unpublish(&request)),
            Err(error) => break error,
        }
        assert!(Instant::now() < end + Duration::from_secs(60), "the key is still good");
        std::thread::yield_now();
    };
    assert!(chain(&refused).contains("which expired on"), "{}", chain(&refused));
}

#[test]
fn s20_ssh_and_openpgp_count_where_the_rule_names_their_keys() {
    if !require::tool("gpg") {
        return;
    }
    let scene = Scene::new();
    let key = OpenPgpKey::new("ed25519", "Alice <a@example.com>");
    openpgp::write_keys(&scene.keys(), &[&key]);
    let pgp = scene.signed_branch("pgp", &key);
    scene.repository.set_branch("ssh", "main");
    scene.key.sign_branch(&scene.repository, "ssh");
    let both = scene.with_openpgp("either", true);
    scene.assert_shown(&both, "pgp", key.fingerprint());
    scene.assert_shown(&both, "ssh", &scene.key.fingerprint());
    scene.assert_refused(&both, "main", "keys.asc");
    let alone = scene.with_openpgp("either", false);
    scene.assert_shown(&alone, "pgp", key.fingerprint());
    scene.assert_refused(&alone, "ssh", "is signed with an SSH key, and no allowedSigners are configured");
    let other = scene.ruled("*", "either");
    scene.assert_refused(
        &other,
        &pgp,
        &format!("{}, which is of OpenPGP, and no openpgpKeys are configured", key.fingerprint()),
    );
}

#[test]
fn s20_an_openpgp_signed_tree_is_checked_offline_and_an_openpgp_tag_under_its_name() {
    if !require::tool("gpg") {
        return;
    }
    let mut scene = Scene::new();
    let key = OpenPgpKey::new("ed25519", "Alice <a@example.com>");
    openpgp::write_keys(&scene.keys(), &[&key]);
    let commit = scene.signed_branch("signed", &key);
    let tags = scene.with_openpgp("tag", false);
    key.sign_tag(&scene.repository, "v1.0", "main");
    scene.assert_shown(&tags, "v1.0", key.fingerprint());
    scene.assert_refused(&tags, "signed", "no annotated tag led to it");
    scene.repository.set_reference("refs/tags/v2.0", &scene.repository.resolve("refs/tags/v1.0"));
    scene.assert_refused(&tags, "v2.0", "under another name");
    // A tag of a signed tag.
    key.sign_tag(&scene.repository, "nested", "refs/tags/v1.0");
    scene.assert_refused(&tags, "nested", "names another tag");
    drop(tags);
    let before = scene.program(|_| {});
    scene.publish(&before, "before", "signed");
    scene.publish(&before, "unsigned", &scene.commit);
    drop(before);
    scene.server = None;
    let node = scene.with_openpgp("commit", false);
    scene.assert_shown(&node, &commit, key.fingerprint());
    scene.assert_refused(&node, &scene.commit, "is not signed");
    openpgp::write_keys(&scene.keys(), &[&OpenPgpKey::new("ed25519", "Bob <b@example.com>")]);
    scene.assert_refused(&node, &commit, key.fingerprint());
}

#[test]
fn s20_odd_openpgp_headers_are_read_as_git_reads_them_or_refused() {
    if !require::tool("gpg") {
        return;
    }
    let scene = Scene::new();
    let key = OpenPgpKey::expiring("Alice <a@example.com>", LONG_AGO, "never");
    key.set_clock(None);
    let other = OpenPgpKey::new("ed25519", "Bob");
    openpgp::write_keys(&scene.keys(), &[&key]);
    let node = scene.with_openpgp("commit", false);
    let unsigned = signing::content(&scene.repository, "commit", &scene.commit);
    let sign = |options: &[&str]| key.sign(unsigned.as_bytes(), options);
    let good = sign(&[]);
    let two_in_one = openpgp::joined(&[other.sign(unsigned.as_bytes(), &[]), good.clone()]);
    for (name, signatures, is_good_for_git, words) in [
        ("plain", vec![good.clone()], true, None),
        ("crlf", vec![good.replace('\n', "\r\n")], true, None),
        ("spaces", vec![good.replace('\n', " \n")], true, None),
        ("comment", vec![good.replacen("\n\n", "\nComment: x\n\n", 1)], true, None),
        // git wants one signature only.
        ("several", vec![two_in_one], false, None),
        ("twice", vec![good.clone(), good.clone()], false, Some("has more than one signature")),
        ("indented", vec![format!(" {good}")], false, Some("of an unknown kind")),
        ("cut", vec![good[..good.len() / 2].to_owned()], false, Some("malformed OpenPGP signature")),
        (
            "empty",
            vec!["-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----".to_owned()],
            false,
            Some("malformed"),
        ),
        ("message", vec![good.replace("PGP SIGNATURE", "PGP MESSAGE")], true, Some("malformed OpenPGP signature")),
        ("text", vec![sign(&["--textmode"])], true, Some("sign without --textmode")),
        ("sha1", vec![sign(&["--digest-algo", "SHA1"])], true, Some("the hash SHA-1, which is too weak")),
        (
            "expired",
            vec![sign(&["--faked-system-time", "1700000000", "--default-sig-expire", "1d"])],
            false,
            Some("but the signature expired on Wed, 15 Nov 2023 22:13:"),
        ),
        ("other", vec![other.sign(unsigned.as_bytes(), &[])], false, Some(other.fingerprint())),
        ("copied", vec![key.sign(b"tree 1\n", &[])], false, Some("not of this content")),
    ] {
        let commit = scene.branch(name, &signing::with_signatures(&unsigned, &signatures));
        // Of what git refuses, only a block of several signatures counts.
        let of_git = key.verifies(&scene.repository, &commit);
        assert!(of_git == is_good_for_git, "{name}: git says {of_git}");
        match words {
            Some(words) => scene.assert_refused(&node, name, words),
            None => scene.assert_shown(&node, name, key.fingerprint()),
        }
    }
}

#[test]
fn s20_a_file_of_openpgp_keys_that_cannot_be_used_refuses_everything_and_is_named() {
    let scene = Scene::new();
    let node = scene.with_openpgp("either", false);
    for (content, words) in [
        (None, "No such file"),
        (Some(""), "no OpenPGP public key"),
        (Some("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"), "line 1 is malformed or cut off"),
        (Some("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n"), "has a secret key in it"),
    ] {
        if let Some(content) = content {
            fs::write(scene.keys(), content).unwrap();
        }
        let error = node.publish(&scene.request(&node, "pod", "main")).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{text}");
        assert!(text.contains("keys.asc") && text.contains(words), "{text}");
    }
}
