//! Takes a signed object apart into what is signed and the signature (gitformat-signature(5)).

use super::Flaw;
use super::LONGEST;
use crate::object;

/// The headers of a commit that hold a signature: by itself, and by the same commit with SHA-256 ids. Neither is signed.
const HEADERS: [&[u8]; 2] = [b"gpgsig", b"gpgsig-sha256"];

/// How a signature is made, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Ssh,
    OpenPgp,
    X509,
}

/// The first line of each kind of signature, as git knows them.
const BEGINNINGS: [(&[u8], Format); 4] = [
    (b"-----BEGIN SSH SIGNATURE-----", Format::Ssh),
    (b"-----BEGIN PGP SIGNATURE-----", Format::OpenPgp),
    (b"-----BEGIN PGP MESSAGE-----", Format::OpenPgp),
    (b"-----BEGIN SIGNED MESSAGE-----", Format::X509),
];

/// A signature and what it signs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ObjectSignature {
    pub(super) format: Format,
    /// With its armor.
    pub(super) armored: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// When the object was made, as it says itself, in seconds since 1970. `None` if it does not say.
    pub(super) time: Option<u64>,
}

/// Takes the signature out of a commit: the rest of it is what was signed.
pub(super) fn of_commit(commit: &[u8]) -> Result<ObjectSignature, Flaw> {
    let (mut payload, mut armored) = (Vec::with_capacity(commit.len()), Vec::new());
    let (mut signatures, mut inside) = (0, None);
    let mut rest = commit;
    while !rest.is_empty() && rest[0] != b'\n' {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |newline| newline + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        inside = match line.strip_prefix(b" ") {
            Some(continuation) if inside == Some(HEADERS[0]) => {
                armored.extend_from_slice(continuation);
                inside
            }
            Some(_) if inside.is_some() => inside,
            _ => HEADERS.into_iter().find(|header| is_header(line, header)),
        };
        match inside {
            None => payload.extend_from_slice(line),
            Some(header) if header == HEADERS[0] && !line.starts_with(b" ") => {
                signatures += 1;
                armored.extend_from_slice(&line[header.len() + 1..]);
            }
            Some(_) => {}
        }
    }
    payload.extend_from_slice(rest);
    match signatures {
        0 => Err(Flaw::new("is not signed")),
        1 => signed(armored, payload, b"committer "),
        _ => Err(Flaw::new("has more than one signature")),
    }
}

/// Splits a tag: its signature is at the end of its message.
pub(super) fn of_tag(tag: &[u8]) -> Result<ObjectSignature, Flaw> {
    let mut start = None;
    let mut at = 0;
    for line in tag.split_inclusive(|byte| *byte == b'\n') {
        if format_of(line).is_some() {
            if start.is_some() {
                return Err(Flaw::new("has more than one signature"));
            }
            start = Some(at);
        }
        at += line.len();
    }
    let (payload, armored) = tag.split_at(start.ok_or_else(|| Flaw::new("is not signed"))?);
    signed(armored.to_vec(), payload.to_vec(), b"tagger ")
}

fn is_header(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(b" "))
}

fn format_of(armored: &[u8]) -> Option<Format> {
    BEGINNINGS.iter().find(|(beginning, _)| armored.starts_with(beginning)).map(|(_, format)| *format)
}

fn signed(armored: Vec<u8>, payload: Vec<u8>, time: &[u8]) -> Result<ObjectSignature, Flaw> {
    if armored.len() > LONGEST {
        return Err(Flaw::new(format!("has a signature of more than {LONGEST} bytes")));
    }
    let format = format_of(&armored).ok_or_else(|| Flaw::new("has a signature of an unknown kind"))?;
    let time = object::stamp(&payload, time).and_then(|time| u64::try_from(time).ok());
    Ok(ObjectSignature { format, armored, payload, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----";

    fn header(name: &str) -> String {
        format!("{name} {}\n", BLOCK.replace('\n', "\n "))
    }

    fn reason(found: Result<ObjectSignature, Flaw>) -> String {
        found.unwrap_err().reason
    }

    #[test]
    fn what_is_signed_is_the_commit_without_its_signature() {
        let (before, after) =
            ("tree 1\nparent 2\nauthor A <a> 1 +0000\ncommitter C <c> 7 +0000\n", "\nm\ngpgsig x\n y\n");
        let mergetag = "mergetag object 1\n type commit\n -----BEGIN PGP SIGNATURE-----\n";
        for (lines, more) in [
            (header("gpgsig"), String::new()),
            (format!("{}{}", header("gpgsig"), header("gpgsig-sha256")), String::new()),
            (format!("{}{}", header("gpgsig-sha256"), header("gpgsig")), String::new()),
            (header("gpgsig"), mergetag.to_owned()),
        ] {
            let found = of_commit(format!("{before}{lines}{more}{after}").as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found.payload).unwrap(), format!("{before}{more}{after}"));
            assert_eq!((found.format, found.time), (Format::Ssh, Some(7)));
            assert_eq!(String::from_utf8(found.armored).unwrap(), format!("{BLOCK}\n"));
        }
    }

    #[test]
    fn a_commit_has_one_signature_in_its_header_or_none() {
        let commit = |lines: &str| format!("tree 1\ncommitter C <c> 7 +0000\n{lines}\nm\n").into_bytes();
        assert_eq!(reason(of_commit(&commit(""))), "is not signed");
        assert_eq!(reason(of_commit(&commit(&header("gpgsig-sha256")))), "is not signed");
        assert_eq!(reason(of_commit(format!("tree 1\n\n{}", header("gpgsig")).as_bytes())), "is not signed");
        assert_eq!(reason(of_commit(&commit(&header("gpgsig").repeat(2)))), "has more than one signature");
        assert_eq!(reason(of_commit(&commit("gpgsig nonsense\n"))), "has a signature of an unknown kind");
        let huge = format!("gpgsig -----BEGIN SSH SIGNATURE-----\n {}\n", "A".repeat(LONGEST));
        assert!(reason(of_commit(&commit(&huge))).contains("more than"));
    }

    #[test]
    fn the_signature_of_a_tag_is_at_its_end() {
        let tag = "object 1\ntype commit\ntag v1\ntagger T <t> 9 +0000\n\nm\n";
        let found = of_tag(format!("{tag}{BLOCK}\n").as_bytes()).unwrap();
        assert_eq!((found.format, found.time), (Format::Ssh, Some(9)));
        assert_eq!(String::from_utf8(found.payload).unwrap(), tag);
        assert_eq!(reason(of_tag(tag.as_bytes())), "is not signed");
        assert_eq!(reason(of_tag(format!("{tag}{BLOCK}\n{BLOCK}\n").as_bytes())), "has more than one signature");
        let pgp = BLOCK.replace("SSH", "PGP");
        assert_eq!(of_tag(format!("{tag}{pgp}\n").as_bytes()).unwrap().format, Format::OpenPgp);
    }
}
