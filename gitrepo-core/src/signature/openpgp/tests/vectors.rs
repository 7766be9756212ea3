//! Commits and a tag that git signed with gpg, and a key of RFC 9580, in `vectors/openpgp`.

use git2::ObjectType;
use git2::Oid;

use super::super::super::Evidence;
use super::super::super::On;
use super::super::super::Requirement;
use super::super::super::SignatureError;
use super::super::super::TrustFile;
use super::super::super::verify as verify_evidence;
use super::*;
use crate::spec::CommitId;

const KEYS: &str = include_str!("../../vectors/openpgp/keys.asc");

/// By the user IDs of the keys that signed them.
const COMMITS: [(&str, &[u8]); 4] = [
    ("ed25519", include_bytes!("../../vectors/openpgp/ed25519.commit")),
    ("rsa2048", include_bytes!("../../vectors/openpgp/rsa2048.commit")),
    ("nistp384", include_bytes!("../../vectors/openpgp/nistp384.commit")),
    ("subkey", include_bytes!("../../vectors/openpgp/subkey.commit")),
];

/// Of the last commit, by the first key.
const TAG: &[u8] = include_bytes!("../../vectors/openpgp/v1.0.tag");

/// RFC 9580, appendix A.3.
const SAMPLE: &str = include_str!("../../vectors/openpgp/rfc9580.asc");

/// After the keys were made, in seconds since 1970.
const LATER: u64 = 1_800_000_000;

fn check(on: On, keys: &str, content: &[u8], tag: Option<(&[u8], &str)>) -> Result<Signer, SignatureError> {
    let id = Oid::hash_object(ObjectType::Commit, content).unwrap();
    let file = TrustFile { path: "/etc/gitrepo/keys.asc".to_owned(), text: keys.to_owned() };
    let requirement = Requirement { on, allowed_signers: None, openpgp_keys: Some(file) };
    let commit = CommitId::from_bytes(id.as_bytes().try_into().unwrap());
    verify_evidence(&requirement, &Evidence { commit, content, tag }, LATER)
}

fn refusal(result: Result<Signer, SignatureError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::PermissionDenied);
    error.to_string()
}

#[test]
fn s20_what_git_signed_with_gpg_is_accepted_and_any_change_of_it_is_noticed() {
    for (name, commit) in COMMITS {
        let signer = check(On::Commit, KEYS, commit, None).unwrap();
        assert_eq!((signer.name, signer.tag, signer.until), (format!("{name} <{name}@example.com>"), false, None));
        assert_eq!(signer.key.len(), 40);
        let text = String::from_utf8(commit.to_vec()).unwrap();
        for changed in [
            text.replacen("tree 4b825dc", "tree 4b825dd", 1),
            text.replacen("author A", "author B", 1),
            text.replacen("1717200000", "1717200001", 1),
            format!("{text}more\n"),
            text.replacen("\ngpgsig", "\nencoding x\ngpgsig", 1),
        ] {
            assert_ne!(changed, text);
            let reason = refusal(check(On::Commit, KEYS, changed.as_bytes(), None));
            assert!(
                reason.contains("but the signature is not of this content") && reason.contains(&signer.key),
                "{reason}"
            );
        }
        let unsigned = text.replacen("gpgsig ", "gpgsig-sha256 ", 1);
        assert!(refusal(check(On::Commit, KEYS, unsigned.as_bytes(), None)).contains("the commit is not signed"));
        let unknown = refusal(check(On::Commit, SAMPLE, commit, None));
        assert!(unknown.contains(&signer.key) && unknown.contains("/etc/gitrepo/keys.asc"), "{unknown}");
    }
}

#[test]
fn s20_a_tag_that_gpg_signed_vouches_for_its_commit_under_its_own_name_alone() {
    let (_, commit) = COMMITS[3];
    let of = |tag, reference| check(On::Tag, KEYS, commit, Some((tag, reference)));
    let signer = of(TAG, "refs/tags/v1.0").unwrap();
    assert_eq!((signer.name.as_str(), signer.tag), ("ed25519 <ed25519@example.com>", true));
    assert!(refusal(of(TAG, "refs/tags/v2.0")).contains("under another name"));
    let changed = String::from_utf8(TAG.to_vec()).unwrap().replace("\none\n", "\ntwo\n");
    assert!(refusal(of(changed.as_bytes(), "refs/tags/v1.0")).contains("not of this content"));
}

#[test]
fn a_key_of_version_6_is_read_as_the_standard_says() {
    let packets = armor::keys(SAMPLE).unwrap();
    let keyring = Keyring::read(&packets).unwrap();
    let name = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9";
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&name[2 * at..2 * at + 2], 16).unwrap()).collect();
    let found: Vec<_> = keyring.named(Issuer::Fingerprint(&bytes)).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key().name(), name);
    // Its signature of itself is good, and it may sign.
    let standing = found[0].standing(LATER).unwrap();
    assert_eq!((standing.end, standing.owner), (None, None));
    // Its subkey is for encryption.
    let subkey = keyring.named(Issuer::Id(&[0x12, 0xc8, 0x3f, 0x1e, 0x70, 0x6f, 0x63, 0x08])).next().unwrap();
    assert!(subkey.standing(LATER).unwrap_err().contains("not for signing"));
}
