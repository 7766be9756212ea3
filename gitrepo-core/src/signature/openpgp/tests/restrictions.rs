//! What takes a key back must count, however it is written and wherever it stands: the safe side is refusing.

use super::*;

fn revocation(time: u64) -> Draft {
    Draft::new(kind::REVOKED_KEY, time)
}

/// The subpacket that lets another key revoke the one that says it.
fn revoker(of: &Pen) -> Vec<u8> {
    [&[0x80, of.body[5]], of.public().fingerprint()].concat()
}

/// A signature whose hash nobody knows.
fn with_unknown_hash(pen: &Pen, draft: &Draft, about: &[u8]) -> Vec<u8> {
    let signed = Draft { hashed: [draft.hashed.clone(), pen.issuer()].concat(), ..draft.clone() };
    let mut body = pen.sign_alone(&signed, &[about]);
    body[3] = 99;
    packet(2, &body)
}

fn refused_with(keys: &[u8], pen: &Pen, words: &str) {
    let reason = refused(check_document(keys, pen), pen);
    assert!(reason.contains(words), "{words}: {reason}");
}

#[test]
fn s20_no_later_word_takes_the_right_to_revoke_an_openpgp_key_back() {
    let (pen, bob, carol) = (Pen::gpg(), Pen::gpg(), Pen::gpg());
    let about = pen.public().hashed();
    let trusts = |who: &Pen, time| pen.sign(&Draft::new(kind::DIRECT, time).with(12, &revoker(who)), &[&about]);
    let revoked = bob.sign(&revocation(NOW), &[&about]);
    let words = format!("which {} has revoked for its owner", bob.name());
    let certified = [&about[..], &user(USER)].concat();
    let in_user_id = pen.sign(&Draft::new(0x13, MADE - 1).with(12, &revoker(&bob)), &[&certified]);
    let weak = Draft::new(kind::DIRECT, MADE).with(12, &revoker(&bob)).hash(1);
    for trust in [
        [trusts(&bob, MADE), trusts(&carol, MADE + 1)].concat(),
        [trusts(&carol, MADE + 1), trusts(&bob, MADE)].concat(),
        // Whoever stole the key says it without Bob.
        [trusts(&bob, MADE), pen.sign(&said(kind::DIRECT), &[&about])].concat(),
        pen.sign(&weak, &[&about]),
        in_user_id,
    ] {
        let keys = [pen.certificate(), trust, revoked.clone()].concat();
        refused_with(&keys, &pen, &words);
        // Where Bob's key is here, he must have signed.
        refused_with(&[keys.clone(), bob.certificate()].concat(), &pen, &words);
        let subkey = Pen::gpg();
        refused_with(&[keys, pen.bind(&subkey, &binding())].concat(), &subkey, &words);
    }
    let keys = [pen.certificate(), trusts(&bob, MADE)].concat();
    assert!(check_document(&keys, &pen).is_ok());
    let mut forged = bob.sign(&revocation(NOW), &[&about]);
    *forged.last_mut().unwrap() ^= 1;
    refused_with(&[keys.clone(), forged.clone()].concat(), &pen, &words);
    assert!(check_document(&[keys.clone(), forged, bob.certificate()].concat(), &pen).is_ok());
    // A weak key of his cannot be asked.
    let weak = Pen::rsa(4, 1, 1024);
    let trusts_weak = [pen.certificate(), trusts(&weak, MADE), weak.certificate()].concat();
    let by_weak = weak.sign(&revocation(NOW), &[&about]);
    refused_with(&[trusts_weak, by_weak].concat(), &pen, "has revoked for its owner");
    // He revoked keys of his own, and a subkey.
    let own = bob.sign(&revocation(NOW), &[&bob.public().hashed()]);
    assert!(check_document(&[keys.clone(), own].concat(), &pen).is_ok());
    let subkey = Pen::gpg();
    let bound = [&about[..], &subkey.public().hashed()].concat();
    let lost = bob.sign(&Draft::new(kind::REVOKED_SUBKEY, NOW), &[&bound]);
    let keys = [keys, pen.bind(&subkey, &binding()), lost].concat();
    assert!(check_document(&keys, &pen).is_ok());
    refused_with(&keys, &subkey, &words);
}

#[test]
fn s20_a_revocation_of_an_openpgp_key_counts_with_every_hash_and_in_every_form() {
    let (pen, other) = (Pen::rsa(4, 1, 2048), Pen::gpg());
    let about = pen.public().hashed();
    let junk = |unhashed: &[u8]| {
        let draft = Draft { unhashed: unhashed.to_vec(), ..revocation(NOW) };
        packet(2, &pen.sign_alone(&draft, &[&about]))
    };
    let timeless = Draft { hashed: Vec::new(), ..revocation(NOW) };
    let broken = Draft { hashed: [revocation(NOW).hashed, vec![0]].concat(), ..revocation(NOW) };
    let twice = revocation(NOW).with(2, &short_time(MADE));
    for revoked in [
        pen.sign(&revocation(NOW).hash(1), &[&about]),
        pen.sign(&revocation(NOW).hash(3), &[&about]),
        pen.sign(&revocation(NOW).with(0x80 | 99, b""), &[&about]),
        pen.sign(&twice, &[&about]),
        pen.sign(&timeless, &[&about]),
        pen.sign(&broken, &[&about]),
        pen.sign_old(kind::REVOKED_KEY, NOW, 8, &[&about]),
        pen.sign_old(kind::REVOKED_KEY, NOW, 1, &[&about]),
        // What nobody signs, anybody can have changed: lengths, and the name of the key.
        junk(&[0]),
        junk(&[200]),
        junk(&subpacket(16, b"short")),
        junk(&subpacket(33, b"short")),
        junk(&other.issuer()),
        junk(&subpacket(16, &other.public().fingerprint()[12..])),
    ] {
        for keys in [
            [pen.certificate(), revoked.clone()].concat(),
            [revoked.clone(), pen.certificate()].concat(),
            [pen.certificate(), other.certificate(), revoked].concat(),
        ] {
            refused_with(&keys, &pen, "which was revoked");
        }
    }
    let unknown = with_unknown_hash(&pen, &revocation(NOW), &about);
    let keys = [pen.certificate(), other.certificate(), unknown].concat();
    refused_with(&keys, &pen, "unknown hash (algorithm 99), and may take it back");
    assert!(check_document(&keys, &other).is_ok(), "it says whose it is");
    // Nobody can tell which key one takes back that is cut off.
    for kind in [kind::REVOKED_KEY, kind::REVOKED_SUBKEY] {
        let cut_off = packet(2, &[4, kind]);
        for keys in [[pen.certificate(), cut_off.clone()].concat(), [cut_off, pen.certificate()].concat()] {
            assert_eq!(read_keys(&keys), Err(KeysError::Packet));
        }
    }
}

#[test]
fn s20_a_revocation_of_an_openpgp_subkey_counts_with_every_hash_and_everywhere() {
    let (pen, subkey, second, other) = (Pen::gpg(), Pen::gpg(), Pen::gpg(), Pen::gpg());
    let about = [pen.public().hashed(), subkey.public().hashed()].concat();
    let lost = |hash| pen.sign(&Draft::new(kind::REVOKED_SUBKEY, NOW).hash(hash), &[&about]);
    let good = [pen.certificate(), pen.bind(&subkey, &binding()), pen.bind(&second, &binding())].concat();
    let old = pen.sign_old(kind::REVOKED_SUBKEY, NOW, 2, &[&about]);
    for revoked in [lost(8), lost(1), lost(3), old] {
        for keys in [
            [good.clone(), revoked.clone()].concat(),
            [revoked.clone(), good.clone()].concat(),
            [good.clone(), other.certificate(), revoked].concat(),
        ] {
            refused_with(&keys, &subkey, "which was revoked");
            assert!(check_document(&keys, &second).is_ok() && check_document(&keys, &pen).is_ok());
        }
    }
    let unknown = with_unknown_hash(&pen, &Draft::new(kind::REVOKED_SUBKEY, NOW), &about);
    refused_with(&[good.clone(), unknown].concat(), &subkey, "unknown hash");
    let unknown = with_unknown_hash(&pen, &binding(), &about);
    let keys = [pen.certificate(), pen.bind(&subkey, &binding()), unknown].concat();
    refused_with(&keys, &subkey, "unknown hash");
    assert!(check_document(&keys, &pen).is_ok());
    // It was a key of its own, whose owner took it back.
    let alone = subkey.sign(&revocation(NOW), &[&subkey.public().hashed()]);
    for keys in [
        [good.clone(), subkey.certificate(), alone.clone()].concat(),
        [subkey.certificate(), alone.clone(), good.clone()].concat(),
        [good, alone].concat(),
    ] {
        let reason = refused(check_document(&keys, &subkey), &subkey);
        assert!(reason.contains("which was revoked"), "{reason}");
    }
}

#[test]
fn s20_what_an_openpgp_key_says_of_itself_restricts_it_even_if_it_does_not_count() {
    let pen = Pen::gpg();
    let about = pen.public().hashed();
    let certified = |id: &[u8]| [&about[..], &user(id)].concat();
    let last = |draft: Draft| pen.sign(&draft, &[&certified(USER)]);
    let bob = [packet(13, b"Bob"), pen.sign(&said(0x13), &[&certified(b"Bob")])].concat();
    let newer = || Draft::new(0x13, SIGNED);
    let lasting = || newer().flags(CERTIFIES_AND_SIGNS).key_lifetime(1);
    let timeless = Draft { hashed: Vec::new(), ..newer() };
    for (last, words) in [
        (last(lasting().hash(2)), "which expired"),
        (last(lasting().hash(1)), "which expired"),
        (last(lasting().hash(3)), "which expired"),
        (last(newer().flags(ENCRYPTS).hash(2)), "which is not for signing"),
        (last(newer().with(0x80 | 99, b"")), "has a condition that is not known here"),
        (last(newer().with(9, &short_time(0)).with(9, &short_time(1))), "says something twice"),
        (last(timeless), "is malformed"),
        (last(newer().with(9, b"x")), "is malformed"),
        (last(newer().with(3, &short_time(1))), "expired on"),
        (last(Draft::new(0x13, NOW + 3601)), "in the future"),
        (with_unknown_hash(&pen, &newer(), &certified(USER)), "unknown hash"),
        (packet(2, &[4, 0x13]), "cut off"),
    ] {
        refused_with(&[pen.certificate(), last, bob.clone()].concat(), &pen, words);
    }
    // One that says nothing is in nobody's way, and hides no restriction.
    for quiet in [last(newer().hash(2)), last(newer().hash(1)), pen.sign_old(0x13, SIGNED, 2, &[&certified(USER)])] {
        let signer = check_document(&[pen.certificate(), quiet.clone(), bob.clone()].concat(), &pen).unwrap();
        assert_eq!((signer.name.as_str(), signer.until), ("Bob", None));
        assert!(check_document(&[pen.certificate(), quiet.clone()].concat(), &pen).is_err());
        let ending = pen.certified(&said(0x13).key_lifetime(1));
        refused_with(&[ending, quiet, bob.clone()].concat(), &pen, "which expired");
    }
    // Of two of the same second, nobody knows which is the last.
    for order in [[said(0x13), said(0x13).key_lifetime(1)], [said(0x13).key_lifetime(1), said(0x13)]] {
        let both: Vec<u8> = order.into_iter().flat_map(&last).collect();
        refused_with(&[packet(6, &pen.body), packet(13, USER), both].concat(), &pen, "which expired");
    }
    // Others sign it with what they like.
    let other = Pen::gpg();
    let foreign = [
        with_unknown_hash(&other, &newer(), &certified(USER)),
        other.sign(&lasting(), &[&certified(USER)]),
        other.sign_old(0x10, NOW, 1, &[&certified(USER)]),
        packet(2, &[5, 0x20]),
    ];
    assert!(check_document(&[pen.certificate(), foreign.concat()].concat(), &pen).is_ok());
}

#[test]
fn s20_an_openpgp_key_signs_nothing_by_a_word_about_itself_that_was_taken_back() {
    let pen = Pen::edwards(6, 27);
    let about = pen.public().hashed();
    let back = |time| pen.sign(&Draft::new(kind::REVOKED_CERTIFICATION, time), &[&about]);
    let again = |draft: Draft| pen.sign(&draft, &[&about]);
    let keys = |more: &[Vec<u8>]| [pen.certificate(), more.concat()].concat();
    let words = "which has no signature of its own";
    refused_with(&keys(&[back(MADE)]), &pen, words);
    refused_with(&keys(&[back(NOW)]), &pen, words);
    assert!(
        check_document(&keys(&[back(SIGNED - 1), again(Draft::new(kind::DIRECT, SIGNED).flags(SIGNS))]), &pen).is_ok()
    );
    // What it restricts holds.
    let certified = [&about[..], &user(USER)].concat();
    let named = [packet(13, USER), pen.sign(&said(0x13), &[&certified])].concat();
    assert!(check_document(&keys(&[back(NOW), named.clone()]), &pen).is_ok());
    let ending = again(Draft::new(kind::DIRECT, SIGNED).key_lifetime(1));
    refused_with(&keys(&[ending, back(NOW), named]), &pen, "which expired");
}

#[test]
fn s20_a_signature_is_looked_at_before_all_that_its_openpgp_key_says() {
    let pen = Pen::gpg();
    let revoked = pen.sign(&revocation(NOW), &[&pen.public().hashed()]);
    let keys = [pen.certificate(), revoked].concat();
    let foreign = check_block(&keys, &pen.document(b"tree 2\n\nm\n"));
    assert_eq!(refused(foreign, &pen), "but the signature is not of this content");
    refused_with(&keys, &pen, "which was revoked on");
    let many = packet(10, b"").repeat(10_000);
    assert!(matches!(read_keys(&[pen.certificate(), many].concat()), Err(KeysError::Many { most: 10_000 })));
}

#[test]
fn s20_the_salt_of_an_openpgp_signature_has_the_length_that_its_hash_needs() {
    let pen = Pen::edwards(6, 27);
    let mut short = pen.sign_alone(&Draft { unhashed: pen.issuer(), ..document() }, &[PAYLOAD]);
    let salt = short.windows(17).position(|part| part[0] == 16 && part[1..] == [7; 16]).unwrap();
    short[salt] = 15;
    short.remove(salt + 1);
    let reason = refused(check_block(&pen.certificate(), &block(&packet(2, &short))), &pen);
    assert!(reason.contains("a salt of another length"), "{reason}");
}

#[test]
fn s20_the_name_of_an_openpgp_key_shows_nothing_but_letters() {
    let pen = Pen::gpg();
    let name = "A\u{202e}b\u{2066}\u{200b}\n\u{7f}ü".as_bytes();
    let certified = pen.sign(&said(0x13), &[&pen.public().hashed(), &user(name)]);
    let keys = [packet(6, &pen.body), packet(13, name), certified].concat();
    assert_eq!(check_document(&keys, &pen).unwrap().name, "A\u{fffd}b\u{fffd}\u{fffd}\u{fffd}\u{fffd}ü");
}
