//! Commits and tags that git signed with keys of ssh-keygen, in `vectors`.

use git2::ObjectType;
use git2::Oid;
use proptest::prelude::*;

use super::*;

pub(super) const ALLOWED: &str = include_str!("vectors/allowed_signers");

const COMMITS: [(&str, &[u8]); 6] = [
    ("ed25519", include_bytes!("vectors/ed25519.commit")),
    ("p256", include_bytes!("vectors/p256.commit")),
    ("p384", include_bytes!("vectors/p384.commit")),
    ("p521", include_bytes!("vectors/p521.commit")),
    ("rsa", include_bytes!("vectors/rsa.commit")),
    ("alice", include_bytes!("vectors/certified.commit")),
];

/// Of the last commit, by the first key.
const TAG: &[u8] = include_bytes!("vectors/v1.0.tag");

fn required(on: On, allowed: &str) -> Requirement {
    let file = TrustFile { path: "/etc/gitrepo/allowed_signers".to_owned(), text: allowed.to_owned() };
    Requirement { on, allowed_signers: Some(file), openpgp_keys: None }
}

fn id(content: &[u8]) -> CommitId {
    let id = Oid::hash_object(ObjectType::Commit, content).unwrap();
    CommitId::from_bytes(id.as_bytes().try_into().unwrap())
}

fn try_commit(content: &[u8], allowed: &str) -> Result<Signer, SignatureError> {
    let evidence = Evidence { commit: id(content), content, tag: None };
    verify(&required(On::Commit, allowed), &evidence, 0)
}

/// The allowed signers but those whose line contains `text`, and with `options` after the principals.
fn signers(without: &str, options: &str) -> String {
    let lines = ALLOWED.lines().filter(|line| without.is_empty() || !line.contains(without));
    lines.map(|line| line.replacen(' ', &format!(" {options}"), 1) + "\n").collect()
}

fn refusal(result: Result<Signer, SignatureError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied);
    error.to_string()
}

#[test]
fn s20_what_git_signed_with_a_key_of_any_type_is_accepted() {
    for (name, commit) in COMMITS {
        let signer = try_commit(commit, ALLOWED).unwrap();
        assert_eq!((signer.name, signer.tag), (format!("{name}@example.com"), false));
        assert!(signer.key.starts_with("SHA256:"), "{}", signer.key);
    }
}

#[test]
fn s20_a_wrong_key_another_time_and_another_purpose_are_refused_and_named() {
    for (name, commit) in COMMITS {
        for (allowed, expected) in [
            (String::new(), "which allowedSigners does not name"),
            (signers(if name == "alice" { "cert-authority" } else { name }, ""), "which allowedSigners does not name"),
            (signers("*", "valid-before=\"20240531\" "), "which was no longer valid"),
            (signers("*", "valid-after=\"20240602\" "), "which was not valid yet"),
            (signers("*", "namespaces=\"file\" "), "which may not sign for git"),
        ] {
            // The line of the authority has options already.
            if name == "alice" && !allowed.is_empty() && allowed.contains("\" ") {
                continue;
            }
            let text = refusal(try_commit(commit, &allowed));
            assert!(text.contains(expected) && text.contains("SHA256:"), "{name}: {text}");
            assert!(text.contains(&id(commit).to_string()) && text.contains("/etc/gitrepo/allowed_signers"), "{text}");
        }
        try_commit(commit, &signers("*", "valid-before=\"20240602\",valid-after=\"20240531\" ")).map_or_else(
            |error| assert_eq!(name, "alice", "{error}"),
            |signer| assert_ne!(signer.name, "alice@example.com"),
        );
    }
}

#[test]
fn s20_any_change_of_a_signed_commit_is_noticed() {
    for (name, commit) in COMMITS {
        let text = String::from_utf8(commit.to_vec()).unwrap();
        let (head, message) = text.split_once("\n\n").unwrap();
        let parent = head.lines().find(|line| line.starts_with("parent ")).unwrap();
        for changed in [
            text.replace("4b825dc642cb6eb9a060e54bf8d69288fbee4904", "4b825dc642cb6eb9a060e54bf8d69288fbee4905"),
            text.replace(&format!("{parent}\n"), ""),
            text.replace(parent, &format!("{parent}\n{parent}")),
            text.replacen("author A", "author B", 1),
            text.replacen("committer A <a@example.com> 1717200000", "committer A <a@example.com> 1717200001", 1),
            format!("{head}\n\n{message}more\n"),
            format!("{head}\nencoding x\n\n{message}"),
            // A header that moved behind the author.
            text.replace(&format!("{parent}\n"), "").replacen("\ncommitter", &format!("\n{parent}\ncommitter"), 1),
        ] {
            assert_ne!(changed, text);
            let reason = refusal(try_commit(changed.as_bytes(), ALLOWED));
            assert!(reason.contains("the signature is not of this content"), "{name}: {reason}");
        }
        let unsigned = refusal(try_commit(text.replacen("gpgsig ", "gpgsig-sha256 ", 1).as_bytes(), ALLOWED));
        assert!(unsigned.contains("the commit is not signed"), "{unsigned}");
    }
}

#[test]
fn s20_a_certificate_counts_for_its_principals_while_it_is_valid() {
    let (_, commit) = COMMITS[5];
    let authority = ALLOWED.lines().last().unwrap();
    for (line, expected) in [
        (authority.replace("*@", "bob@"), "for none of the principals"),
        (authority.replace("*@example.com", "*@example.com,!alice@example.com"), "for none of the principals"),
        (authority.replace("cert-authority ", ""), "does not name"),
        (authority.replace("cert-authority", "cert-authority,valid-before=\"20200101\""), "no longer valid"),
    ] {
        assert_ne!(line, authority);
        let reason = refusal(try_commit(commit, &line));
        assert!(reason.contains(expected), "{reason}");
    }
    for (time, expected) in [("1700000000", "was not valid yet"), ("1735689600", "had expired")] {
        let moved = String::from_utf8(commit.to_vec()).unwrap().replace("1717200000", time);
        let reason = refusal(try_commit(moved.as_bytes(), ALLOWED));
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn s20_a_signed_tag_vouches_for_its_commit_under_its_own_name_alone() {
    let (_, commit) = COMMITS[5];
    let check = |on, content: &[u8], tag, reference| {
        let evidence = Evidence { commit: id(content), content, tag: Some((tag, reference)) };
        verify(&required(on, &signers("cert-authority", "")), &evidence, 0)
    };
    for on in [On::Tag, On::Either] {
        let signer = check(on, commit, TAG, "refs/tags/v1.0").unwrap();
        assert_eq!((signer.name.as_str(), signer.tag), ("ed25519@example.com", true));
    }
    assert!(refusal(check(On::Commit, commit, TAG, "refs/tags/v1.0")).contains("does not name"));
    assert!(refusal(check(On::Tag, commit, TAG, "refs/tags/v2.0")).contains("under another name"));
    for reference in ["refs/tags/xv1.0", "refs/tags/sub/v1.0", "refs/heads/v1.0", "refs/v1.0", "v1.0", "HEAD"] {
        let reason = refusal(check(On::Tag, commit, TAG, reference));
        assert!(reason.contains("under another name"), "{reference}: {reason}");
    }
    assert!(refusal(check(On::Tag, COMMITS[0].1, TAG, "refs/tags/v1.0")).contains("does not name the commit"));
    let other = String::from_utf8(TAG.to_vec()).unwrap().replace("\none\n", "\ntwo\n");
    assert!(refusal(check(On::Tag, commit, other.as_bytes(), "refs/tags/v1.0")).contains("not of this content"));
    let unsigned = &TAG[..TAG.len() - 295];
    assert!(refusal(check(On::Tag, commit, unsigned, "refs/tags/v1.0")).contains("refs/tags/v1.0 is not signed"));
    let nested = String::from_utf8(TAG.to_vec()).unwrap().replace("type commit", "type tag");
    assert!(refusal(check(On::Tag, commit, nested.as_bytes(), "refs/tags/v1.0")).contains("names another tag"));
    let evidence = Evidence { commit: id(commit), content: commit, tag: None };
    let reason = refusal(verify(&required(On::Tag, ALLOWED), &evidence, 0));
    assert!(reason.contains("no annotated tag led to it"), "{reason}");
}

#[test]
fn a_requirement_is_named_by_all_that_it_says() {
    let keys = |text: &str| TrustFile { path: "/keys".to_owned(), text: text.to_owned() };
    let digests = [
        required(On::Commit, "a"),
        required(On::Tag, "a"),
        required(On::Commit, "b"),
        Requirement { on: On::Commit, allowed_signers: None, openpgp_keys: None },
        Requirement { on: On::Commit, allowed_signers: None, openpgp_keys: Some(keys("a")) },
        Requirement { on: On::Commit, allowed_signers: Some(keys("a")), openpgp_keys: Some(keys("a")) },
    ]
    .map(|requirement| requirement.digest());
    assert_eq!(digests.iter().collect::<std::collections::BTreeSet<_>>().len(), digests.len());
    let moved = Requirement { on: On::Commit, allowed_signers: Some(keys("a")), openpgp_keys: None };
    assert_eq!(moved.digest(), digests[0]);
    // What an earlier check accepted is checked again.
    assert_eq!(moved.digest(), moved.digest_by(CHECK));
    assert_ne!(moved.digest(), moved.digest_by(CHECK - 1));
}

proptest! {
    #[test]
    fn s20_garbage_is_refused_and_nothing_panics(
        signature in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..600,
        flip in 0_usize..600,
        number in 0_usize..6,
    ) {
        use base64::Engine as _;
        let (_, commit) = COMMITS[number];
        let armor = |blob: &[u8]| {
            let body = base64::prelude::BASE64_STANDARD.encode(blob);
            format!("-----BEGIN SSH SIGNATURE-----\n {body}\n -----END SSH SIGNATURE-----")
        };
        let text = String::from_utf8(commit.to_vec()).unwrap();
        let (before, rest) = text.split_once("-----BEGIN SSH SIGNATURE-----").unwrap();
        let (body, after) = rest.split_once("-----END SSH SIGNATURE-----").unwrap();
        let body: String = body.split_ascii_whitespace().collect();
        let good = base64::prelude::BASE64_STANDARD.decode(body).unwrap();
        let intact = format!("{before}{}{after}", armor(&good));
        prop_assert!(try_commit(intact.as_bytes(), ALLOWED).is_ok());
        let mut flipped = good.clone();
        let at = flip % good.len();
        flipped[at] ^= 1;
        let prefixed = [b"SSHSIG".to_vec(), signature.clone()].concat();
        for blob in [signature, prefixed, good[..cut % good.len()].to_vec(), flipped] {
            let commit = format!("{before}{}{after}", armor(&blob));
            prop_assert!(try_commit(commit.as_bytes(), ALLOWED).is_err());
        }
    }
}
