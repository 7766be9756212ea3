//! What no vector shows: keys and signatures that gpg does not make, and those that it refuses.

use proptest::prelude::*;

use super::*;

mod pen;
mod restrictions;
mod vectors;

use pen::CERTIFIES_AND_SIGNS;
use pen::Draft;
use pen::ENCRYPTS;
use pen::MADE;
use pen::Pen;
use pen::SIGNED;
use pen::SIGNS;
use pen::USER;
use pen::binding;
use pen::block;
use pen::packet;
use pen::said;
use pen::short_time;
use pen::subpacket;
use pen::user;

const PAYLOAD: &[u8] = b"tree 1\n\nm\n";

/// The time of every check, a while after documents are signed.
const NOW: u64 = SIGNED + 1_000_000;

fn check_block(keys: &[u8], armored: &[u8]) -> Result<Signer, Flaw> {
    verify(armored, PAYLOAD, &read_keys(keys).unwrap(), NOW)
}

/// Checks a document that the pen signs.
fn check_document(keys: &[u8], pen: &Pen) -> Result<Signer, Flaw> {
    check_block(keys, &pen.document(PAYLOAD))
}

/// The refusal, which names the key.
fn refused(result: Result<Signer, Flaw>, pen: &Pen) -> String {
    let flaw = result.unwrap_err();
    assert_eq!(flaw.key, Some(pen.name()), "{}", flaw.reason);
    flaw.reason
}

fn document() -> Draft {
    Draft::new(kind::DOCUMENT, SIGNED)
}

#[test]
fn s20_openpgp_keys_of_every_kind_and_both_versions_sign() {
    let mut pens = vec![Pen::gpg(), Pen::rsa(4, 1, 2048), Pen::rsa(4, 3, 3072), Pen::rsa(6, 1, 2048)];
    for version in [4, 6] {
        pens.extend([Pen::edwards(version, 27), Pen::edwards(version, 28)]);
        pens.extend((0..3).map(|curve| Pen::ecdsa(version, curve)));
    }
    for pen in pens {
        for hash in [8, 9, 10, 12, 14] {
            let armored = block(&pen.sign(&document().hash(hash), &[PAYLOAD]));
            let signer = check_block(&pen.certificate(), &armored).unwrap();
            assert_eq!((signer.key, signer.until), (pen.name(), None));
            assert!(signer.name == pen.name() || signer.name.as_bytes() == USER, "{}", signer.name);
        }
        // A binary file, and what was signed is another content.
        let armored = pen.document(b"tree 2\n\nm\n");
        assert_eq!(
            refused(check_block(&pen.certificate(), &armored), &pen),
            "but the signature is not of this content"
        );
    }
}

#[test]
fn s20_a_weak_openpgp_hash_or_key_counts_for_nothing() {
    let pen = Pen::gpg();
    for (hash, name) in [(2, "SHA-1"), (11, "SHA-224")] {
        let armored = block(&pen.sign(&document().hash(hash), &[PAYLOAD]));
        let reason = refused(check_block(&pen.certificate(), &armored), &pen);
        assert!(reason.contains(name) && reason.contains("too weak"), "{reason}");
        // What the key says about itself, too.
        let reason = refused(check_document(&pen.certified(&said(0x13).hash(hash)), &pen), &pen);
        assert!(reason.contains(name) && reason.contains("whose own signature"), "{reason}");
    }
    for (hash, name) in [(1, "MD5"), (3, "RIPEMD-160"), (99, "unknown hash (algorithm 99)")] {
        let mut armored = pen.sign_alone(&Draft { unhashed: pen.issuer(), ..document() }, &[PAYLOAD]);
        armored[3] = hash;
        let reason = refused(check_block(&pen.certificate(), &block(&packet(2, &armored))), &pen);
        assert!(reason.contains(name), "{reason}");
    }
    let (short, dsa, odd) = (Pen::rsa(4, 1, 1024), Pen::gpg().called(17), Pen::gpg().called(99));
    for (pen, words) in [(&short, "RSA key without the 2048"), (&dsa, "DSA"), (&odd, "algorithm 99")] {
        let reason = refused(check_document(&pen.certificate(), pen), pen);
        assert!(reason.contains(words), "{reason}");
    }
    // A strong subkey of a weak key.
    let keys = [short.certificate(), short.bind(&pen, &binding())].concat();
    let reason = refused(check_document(&keys, &pen), &pen);
    assert!(reason.contains(&format!("a subkey of {}, which is an RSA key", short.name())), "{reason}");
}

#[test]
fn s20_an_openpgp_key_counts_until_it_expires() {
    let pen = Pen::gpg();
    let lasting = |seconds| pen.certified(&said(0x13).key_lifetime(seconds));
    assert_eq!(check_document(&lasting(0), &pen).unwrap().until, None);
    // The last second is the one before.
    assert_eq!(check_document(&lasting(NOW - MADE + 1), &pen).unwrap().until, Some(NOW));
    let reason = refused(check_document(&lasting(NOW - MADE), &pen), &pen);
    assert!(reason.starts_with("which expired on Sun, 26 Nov 2023 12:00:00 GMT"), "{reason}");
    // The owner's last word holds, for each user ID. All of them hold.
    let (about, other) = (pen.public().hashed(), b"Bob".as_slice());
    let extended = Draft::new(0x13, SIGNED).flags(CERTIFIES_AND_SIGNS);
    let extended = [lasting(1), pen.sign(&extended, &[&about, &user(USER)])].concat();
    assert!(check_document(&extended, &pen).is_ok());
    let shortened =
        pen.sign(&Draft::new(0x13, SIGNED + 1).flags(CERTIFIES_AND_SIGNS).key_lifetime(7), &[&about, &user(other)]);
    let both = [extended, packet(13, other), shortened].concat();
    assert!(refused(check_document(&both, &pen), &pen).starts_with("which expired"));
    let direct = pen.sign(&Draft::new(kind::DIRECT, MADE).key_lifetime(8), &[&about]);
    let late = [pen.certificate(), pen.bind(&Pen::gpg(), &binding()), pen.certificate(), direct.clone()].concat();
    assert!(refused(check_document(&late, &pen), &pen).starts_with("which expired"), "it is the key's, wherever it is");
    let direct = [packet(6, &pen.body), direct, pen.certificate()].concat();
    assert!(refused(check_document(&direct, &pen), &pen).starts_with("which expired"));
}

#[test]
fn s20_an_openpgp_signature_has_a_time_that_must_fit() {
    let pen = Pen::gpg();
    let check = |draft: &Draft| check_block(&pen.certificate(), &block(&pen.sign(draft, &[PAYLOAD])));
    let lasting = |seconds| document().with(3, &short_time(seconds));
    assert_eq!(check(&lasting(0)).unwrap().until, None);
    assert_eq!(check(&lasting(1_000_001)).unwrap().until, Some(NOW));
    for (draft, words) in [
        (lasting(1_000_000), "but the signature expired on Sun, 26 Nov 2023"),
        (Draft::new(kind::DOCUMENT, NOW + 3601), "in the future"),
        (Draft::new(kind::DOCUMENT, MADE - 1), "dated before the key was made"),
        (document().with(2, &short_time(SIGNED)), "says something twice"),
        (lasting(0).with(3, &short_time(0)), "says something twice"),
    ] {
        let reason = refused(check(&draft), &pen);
        assert!(reason.contains(words), "{reason}");
    }
    assert!(check(&Draft::new(kind::DOCUMENT, NOW + 60)).is_ok(), "clocks differ");
    let timeless = Draft { hashed: Vec::new(), ..document() };
    assert_eq!(check(&timeless).unwrap_err().reason, "has a malformed OpenPGP signature");
}

#[test]
fn s20_a_revoked_openpgp_key_signs_nothing_whenever_it_signed() {
    let pen = Pen::gpg();
    let about = pen.public().hashed();
    for (hash, time) in [(8, MADE), (2, NOW)] {
        let revocation = pen.sign(&Draft::new(kind::REVOKED_KEY, time).hash(hash), &[&about]);
        let revoked = [packet(6, &pen.body), revocation, pen.certificate()].concat();
        assert!(refused(check_document(&revoked, &pen), &pen).starts_with("which was revoked on"));
        // An older copy does not hide it, before or behind it.
        for keys in [[revoked.clone(), pen.certificate()].concat(), [pen.certificate(), revoked].concat()] {
            assert!(refused(check_document(&keys, &pen), &pen).starts_with("which was revoked on"));
        }
    }
    // A revocation certificate stands alone, before the key or behind another one.
    let alone = pen.sign(&Draft::new(kind::REVOKED_KEY, NOW), &[&about]);
    let other = Pen::gpg().certificate();
    for keys in [[alone.clone(), pen.certificate()].concat(), [pen.certificate(), other, alone].concat()] {
        assert!(refused(check_document(&keys, &pen), &pen).starts_with("which was revoked on"));
    }
    // Of another one, or of something else.
    let other = Pen::gpg();
    for forged in [
        other.sign(&Draft::new(kind::REVOKED_KEY, NOW), &[&about]),
        pen.sign(&Draft::new(kind::REVOKED_KEY, NOW), &[&other.public().hashed()]),
    ] {
        let keys = [packet(6, &pen.body), forged, pen.certificate()].concat();
        assert!(check_document(&keys, &pen).is_ok());
    }
    // Of one that may.
    let fingerprint = &other.issuer()[7..];
    let trusted = said(kind::DIRECT).with(12, &[&[0x80, 22], fingerprint].concat());
    let revocation = other.sign(&Draft::new(kind::REVOKED_KEY, NOW), &[&about]);
    let keys = [packet(6, &pen.body), revocation, pen.sign(&trusted, &[&about])].concat();
    let reason = refused(check_document(&keys, &pen), &pen);
    assert_eq!(reason, format!("which {} has revoked for its owner", other.name()));
}

#[test]
fn s20_an_openpgp_key_without_an_own_user_id_or_flags_signs_nothing() {
    let pen = Pen::gpg();
    let about = [pen.public().hashed(), user(USER)].concat();
    let revoked = |time| pen.sign(&Draft::new(kind::REVOKED_CERTIFICATION, time), &[&about]);
    let again = pen.sign(&Draft::new(0x10, SIGNED).flags(CERTIFIES_AND_SIGNS), &[&about]);
    let unsigned = "which has no signature of its own";
    for (keys, expected) in [
        (packet(6, &pen.body), Some(unsigned)),
        ([packet(6, &pen.body), packet(13, USER)].concat(), Some(unsigned)),
        (
            [
                packet(6, &pen.body),
                packet(13, b"Bob"),
                pen.certificate()[pen.body.len() + 6 + USER.len() + 6..].to_vec(),
            ]
            .concat(),
            Some(unsigned),
        ),
        ([packet(6, &pen.body), packet(13, USER), Pen::gpg().sign(&said(0x13), &[&about])].concat(), Some(unsigned)),
        ([pen.certificate(), revoked(SIGNED)].concat(), Some(unsigned)),
        ([pen.certificate(), revoked(MADE)].concat(), Some(unsigned)),
        ([pen.certificate(), revoked(SIGNED - 1), again].concat(), None),
        (pen.certified(&Draft::new(0x13, MADE)), Some("which is not for signing")),
        (pen.certified(&Draft::new(0x13, MADE).flags(0x01)), Some("which is not for signing")),
        (pen.certified(&said(0x13).flags(SIGNS)), Some("whose own signature of itself says something twice")),
        (
            pen.certified(&said(0x13).with(0x80 | 20, b"x")),
            Some("has a condition that is not known here (subpacket 20)"),
        ),
        (pen.certified(&said(0x13).with(20, b"x")), None),
    ] {
        match (check_document(&keys, &pen), expected) {
            (Ok(signer), None) => assert_eq!(signer.name.as_bytes(), USER),
            (result, Some(expected)) => {
                let reason = refused(result, &pen);
                assert!(reason.contains(expected), "{reason}");
            }
            (Err(flaw), None) => panic!("{}", flaw.reason),
        }
    }
}

#[test]
fn s20_an_openpgp_subkey_signs_if_both_keys_say_so() {
    let (pen, subkey) = (Pen::gpg(), Pen::ecdsa(4, 0));
    let about = [pen.public().hashed(), subkey.public().hashed()].concat();
    let with = |subkeys: &[u8]| [&pen.certificate(), subkeys].concat();
    let good = with(&pen.bind(&subkey, &binding()));
    let signer = check_document(&good, &subkey).unwrap();
    assert_eq!((signer.key, signer.name.as_bytes(), signer.until), (subkey.name(), USER, None));
    assert!(check_document(&good, &pen).is_ok());
    let ends = with(&pen.bind(&subkey, &binding().key_lifetime(NOW - MADE + 1)));
    assert_eq!(check_document(&ends, &subkey).unwrap().until, Some(NOW));

    let in_turn = |pen: &Pen, draft: &Draft| binding().with(32, &pen.sign_alone(draft, &[&about]));
    let revocation = |pen: &Pen, hash| pen.sign(&Draft::new(kind::REVOKED_SUBKEY, MADE - 1).hash(hash), &[&about]);
    let other = Pen::gpg();
    for (subkeys, expected) in [
        (packet(14, &subkey.body), "which that key has not signed"),
        (other.bind(&subkey, &binding()), "which that key has not signed"),
        (pen.bind_alone(&subkey, &binding()), "which has not signed that key in turn"),
        (
            pen.bind_alone(&subkey, &in_turn(&other, &Draft::new(kind::PRIMARY_KEY, MADE))),
            "has not signed that key in turn",
        ),
        (
            pen.bind_alone(&subkey, &in_turn(&subkey, &Draft::new(kind::SUBKEY, MADE))),
            "has not signed that key in turn",
        ),
        (pen.bind_alone(&subkey, &in_turn(&subkey, &Draft::new(kind::PRIMARY_KEY, MADE).hash(2))), "SHA-1"),
        (pen.bind(&subkey, &Draft::new(kind::SUBKEY, MADE).flags(ENCRYPTS)), "which is not for signing"),
        (pen.bind(&subkey, &Draft::new(kind::SUBKEY, MADE)), "which is not for signing"),
        (pen.bind(&subkey, &binding().key_lifetime(1)), "which expired on"),
        (pen.bind(&subkey, &binding().hash(2)), "whose binding signature has the hash SHA-1"),
        (pen.bind(&subkey, &binding().with(3, &short_time(1))), "whose binding signature expired on"),
        ([pen.bind(&subkey, &binding()), revocation(&pen, 8)].concat(), "which was revoked on"),
        ([pen.bind(&subkey, &binding()), revocation(&pen, 2)].concat(), "which was revoked on"),
    ] {
        let reason = refused(check_document(&with(&subkeys), &subkey), &subkey);
        assert!(reason.contains(expected) && reason.contains(&pen.name()), "{expected}: {reason}");
    }
    let forged = [pen.bind(&subkey, &binding()), revocation(&other, 8)].concat();
    assert!(check_document(&with(&forged), &subkey).is_ok());
    // A key that expired takes its subkeys along.
    let expired = [pen.certified(&said(0x13).key_lifetime(1)), pen.bind(&subkey, &binding())].concat();
    assert!(refused(check_document(&expired, &subkey), &subkey).contains("which expired on"));
    // Somebody who claims the subkey gets none of its signatures, and spoils none.
    let claimed = [other.certificate(), other.bind_alone(&subkey, &binding())].concat();
    assert!(refused(check_document(&claimed, &subkey), &subkey).contains("in turn"));
    assert!(check_document(&[claimed, good].concat(), &subkey).is_ok());
}

#[test]
fn s20_an_openpgp_signature_of_something_else_is_none_of_a_commit() {
    let pen = Pen::gpg();
    let sign = |draft: &Draft| pen.sign(draft, &[PAYLOAD]);
    let check = |packets: &[u8]| check_block(&pen.certificate(), &block(packets));
    for (draft, expected) in [
        (Draft::new(kind::TEXT, SIGNED), "sign without --textmode"),
        (Draft::new(0x13, SIGNED), "signature type 0x13"),
        (Draft::new(kind::SUBKEY, SIGNED), "signature type 0x18"),
        (Draft::new(0x02, SIGNED), "signature type 0x02"),
        (document().with(0x80 | 99, b""), "condition that is not known here (subpacket 99)"),
    ] {
        let reason = refused(check(&sign(&draft)), &pen);
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(check(&sign(&document().with(99, b""))).is_ok());
    let unknown = refused(check_block(&Pen::gpg().certificate(), &pen.document(PAYLOAD)), &pen);
    assert!(unknown.contains("which openpgpKeys does not have") && unknown.contains("--export"), "{unknown}");
    // Eight octets of the fingerprint are a name, too, wherever they are.
    let id = subpacket(16, &pen.issuer()[7 + 12..]);
    for draft in
        [Draft { unhashed: id.clone(), ..document() }, Draft { hashed: [document().hashed, id].concat(), ..document() }]
    {
        let alone = packet(2, &pen.sign_alone(&draft, &[PAYLOAD]));
        assert_eq!(check(&alone).unwrap().key, pen.name());
        let flaw = check_block(&Pen::gpg().certificate(), &block(&alone)).unwrap_err();
        assert_eq!(flaw.key.unwrap(), pen.name()[24..]);
    }
    let nameless = packet(2, &pen.sign_alone(&document(), &[PAYLOAD]));
    assert!(check(&nameless).unwrap_err().reason.contains("does not name its key"));
    // Its name is another key's.
    let other = Pen::gpg();
    let renamed = Draft { unhashed: other.issuer(), ..document() };
    let renamed = block(&packet(2, &pen.sign_alone(&renamed, &[PAYLOAD])));
    let keys = [pen.certificate(), other.certificate()].concat();
    assert_eq!(refused(check_block(&keys, &renamed), &other), "but the signature is not of this content");
}

#[test]
fn s20_one_good_openpgp_signature_of_a_bounded_number_is_enough() {
    let (pen, other) = (Pen::gpg(), Pen::gpg());
    let good = pen.sign(&document(), &[PAYLOAD]);
    let bad = other.sign(&document(), &[PAYLOAD]);
    let wrong = pen.sign(&document(), &[b"x"]);
    let old = packet(2, &[3, 5, 0, 0, 0, 0, 0]);
    let check = |packets: &[u8]| check_block(&pen.certificate(), &block(packets));
    for before in [&bad, &wrong, &old] {
        assert!(check(&[&before[..], &good].concat()).is_ok());
    }
    // The one that is told about is that of a key that matters.
    assert_eq!(refused(check(&[bad.clone(), wrong].concat()), &pen), "but the signature is not of this content");
    assert!(check(&old).unwrap_err().reason.contains("of version 3"));
    assert!(check(&[bad.repeat(15), good.clone()].concat()).is_ok());
    assert!(check(&[bad.repeat(16), good.clone()].concat()).unwrap_err().reason.contains("more than 16"));
    for packets in
        [Vec::new(), vec![0xc2], [good.clone(), packet(13, b"x")].concat(), packet(8, &good), good[..40].to_vec()]
    {
        assert_eq!(check(&packets).unwrap_err().reason, "has a malformed OpenPGP signature");
    }
}

#[test]
fn s20_a_file_of_openpgp_keys_that_cannot_be_read_is_an_error() {
    let pen = Pen::gpg();
    let good = pen.certificate();
    assert_eq!(read_keys(&good).unwrap(), armor::of_keys(&good));
    let commented = format!("# Alice\n{}\n", armor::of_keys(&good));
    assert_eq!(read_keys(commented.as_bytes()).unwrap(), commented);
    assert!(read_keys(&[b"\xef\xbb\xbf", commented.as_bytes()].concat()).is_ok());
    // Keys of other versions are passed over, and so is what follows them.
    let old =
        [packet(6, &[3, 0, 0]), packet(13, USER), packet(14, &[5]), good.clone(), packet(14, &[5]), packet(2, &[3])]
            .concat();
    assert!(check_document(&old, &pen).is_ok());
    for (content, expected) in [
        (Vec::new(), KeysError::Empty),
        (b"# nothing\n".to_vec(), KeysError::Empty),
        (packet(6, &[3, 0, 0]), KeysError::Empty),
        (packet(13, USER), KeysError::Empty),
        (b"ssh-ed25519 AAAA a@b\n".to_vec(), KeysError::Line { line: 1 }),
        (b"x\xff".to_vec(), KeysError::NoText),
        (
            commented.replace("=\n-----END", "-----END").replace("-----END", "%\n-----END").into_bytes(),
            KeysError::Block { line: 2 },
        ),
        (good[..good.len() - 1].to_vec(), KeysError::Packet),
        (vec![0xff; 100], KeysError::Packet),
        ([good.clone(), packet(7, &[4])].concat(), KeysError::Secret),
        (packet(5, &[4]), KeysError::Secret),
        (armor::of_keys(&good).replace("PUBLIC", "PRIVATE").into_bytes(), KeysError::Secret),
        ([good.clone(), packet(11, b"x")].concat(), KeysError::Foreign { kind: 11 }),
    ] {
        assert_eq!(read_keys(&content).unwrap_err(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a signature or a key: nothing panics, and no changed content has a signature.
    #[test]
    fn s20_changed_openpgp_keys_and_signatures_are_refused_and_nothing_panics(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        cut in any::<u16>(),
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(4), Just(6)],
    ) {
        let (pen, subkey) = (Pen::edwards(version, 27), Pen::edwards(version, 27));
        let keys = [pen.certificate(), pen.bind(&subkey, &binding())].concat();
        let signature = subkey.sign(&document(), &[PAYLOAD]);
        prop_assert!(check_block(&keys, &block(&signature)).is_ok());
        let changed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, mask) in &changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= mask;
            }
            bytes
        };
        let cut_off = |bytes: &[u8]| bytes[..usize::from(cut) % bytes.len()].to_vec();
        for block in [block(&changed(&signature)), block(&cut_off(&signature)), block(&garbage), changed(&block(&signature))] {
            prop_assert!(verify(&block, b"tree 2\n\nm\n", &read_keys(&keys).unwrap(), NOW).is_err());
            drop(check_block(&keys, &block));
            drop(key_of(&block));
        }
        for keys in [changed(&keys), cut_off(&keys), [keys.clone(), garbage.clone()].concat(), garbage] {
            if let Ok(text) = read_keys(&keys) {
                drop(verify(&block(&signature), PAYLOAD, &text, NOW));
            }
        }
    }
}
