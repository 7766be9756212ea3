//! What no vector shows: keys in hardware, weak keys, and other hashes, signed here.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::pkey::PKey;
use openssl::pkey::Private;
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::sha::sha512;
use openssl::sign::Signer as Pen;

use super::*;

const PAYLOAD: &[u8] = b"tree 1\n\nm\n";

/// What an SSH signature of the payload signs, with SHA-512.
fn signed(namespace: &[u8]) -> Vec<u8> {
    [MAGIC, &string(namespace), &string(b""), &string(b"sha512"), &string(&sha512(PAYLOAD))].concat()
}

fn armored(key: &[u8], namespace: &[u8], signature: &[u8]) -> Vec<u8> {
    let number = VERSION.to_be_bytes();
    let parts =
        [MAGIC, &number, &string(key), &string(namespace), &string(b""), &string(b"sha512"), &string(signature)];
    let body = BASE64_STANDARD.encode(parts.concat());
    format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n").into_bytes()
}

fn line(kind: &str, key: &[u8]) -> String {
    format!("a@b {kind} {}", BASE64_STANDARD.encode(key))
}

fn edwards(key: &PKey<Private>, message: &[u8]) -> Vec<u8> {
    Pen::new_without_digest(key).unwrap().sign_oneshot_to_vec(message).unwrap()
}

fn reason(result: Result<Signer, Flaw>) -> String {
    result.unwrap_err().reason
}

#[test]
fn s20_a_key_in_hardware_signs_for_its_application() {
    let (kind, secret) = ("sk-ssh-ed25519@openssh.com", PKey::generate_ed25519().unwrap());
    let public = secret.raw_public_key().unwrap();
    let key = |application: &[u8]| [string(kind.as_bytes()), string(&public), string(application)].concat();
    let rest = [&[1_u8][..], &7_u32.to_be_bytes()].concat();
    let message = [&sha256(b"ssh:")[..], &rest, &sha256(&signed(b"git"))].concat();
    let value = edwards(&secret, &message);
    let signature = [string(kind.as_bytes()), string(&value), rest].concat();
    let allowed = line(kind, &key(b"ssh:"));
    assert_eq!(verify(&armored(&key(b"ssh:"), b"git", &signature), PAYLOAD, &allowed, 0).unwrap().name, "a@b");
    let allowed = line(kind, &key(b"ssh:other"));
    let other = verify(&armored(&key(b"ssh:other"), b"git", &signature), PAYLOAD, &allowed, 0);
    assert_eq!(reason(other), "but the signature is not of this content");
}

#[test]
fn s20_a_signature_of_a_file_is_none_of_a_commit() {
    let secret = PKey::generate_ed25519().unwrap();
    let key = [string(b"ssh-ed25519"), string(&secret.raw_public_key().unwrap())].concat();
    let allowed = line("ssh-ed25519", &key);
    let sign = |namespace: &[u8]| [string(b"ssh-ed25519"), string(&edwards(&secret, &signed(namespace)))].concat();
    assert!(verify(&armored(&key, b"git", &sign(b"git")), PAYLOAD, &allowed, 0).is_ok());
    let of_file = verify(&armored(&key, b"file", &sign(b"file")), PAYLOAD, &allowed, 0);
    assert_eq!(reason(of_file), "for \"file\" and not for git");
    let relabelled = verify(&armored(&key, b"git", &sign(b"file")), PAYLOAD, &allowed, 0);
    assert_eq!(reason(relabelled), "but the signature is not of this content");
}

#[test]
fn s20_rsa_needs_a_long_key_and_no_sha_1() {
    let make = |bits, algorithm: &[u8], digest| {
        let secret = Rsa::generate(bits).unwrap();
        let positive = |number: Vec<u8>| string(&[&[0][..], &number].concat());
        let parts = [string(b"ssh-rsa"), positive(secret.e().to_vec()), positive(secret.n().to_vec())];
        let (key, secret) = (parts.concat(), PKey::from_rsa(secret).unwrap());
        let value = Pen::new(digest, &secret).unwrap().sign_oneshot_to_vec(&signed(b"git")).unwrap();
        let armored = armored(&key, b"git", &[string(algorithm), string(&value)].concat());
        verify(&armored, PAYLOAD, &line("ssh-rsa", &key), 0)
    };
    assert!(make(2048, b"rsa-sha2-256", MessageDigest::sha256()).is_ok());
    assert!(make(2048, b"rsa-sha2-512", MessageDigest::sha512()).is_ok());
    for (bits, algorithm, digest, expected) in [
        (2048, &b"ssh-rsa"[..], MessageDigest::sha1(), "but the signature is not of this content"),
        (2048, b"rsa-sha2-512", MessageDigest::sha256(), "but the signature is not of this content"),
        (
            1024,
            b"rsa-sha2-256",
            MessageDigest::sha256(),
            "is signed with an SSH key that is weak or of an unknown type",
        ),
    ] {
        assert_eq!(reason(make(bits, algorithm, digest)), expected);
    }
}
