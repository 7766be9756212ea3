//! PEM as people paste it (RFC 7468): blocks that are joined without a line break, indented, or with a byte order mark, and
//! any text between them.
//!
//! OpenSSL silently passes over some of these blocks, so what it reads is written anew here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Length of a line, in base64 digits.
const LINE: usize = 64;

/// Labels of a certificate: today's, an older one, and that of OpenSSL's certificates with trust settings.
const CERTIFICATE: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// A block that has no end, or whose content is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Which of the blocks of its kind, counted from 1.
    pub(crate) number: usize,
}

/// A block.
struct Block<'a> {
    label: &'a str,
    /// Between the lines with dashes.
    text: Option<&'a str>,
}

impl Block<'_> {
    /// The content; `None` if it is damaged.
    fn content(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.text?;
        // Never grows, which would leave a copy behind.
        let mut digits = Zeroizing::new(String::with_capacity(text.len()));
        digits.extend(text.chars().filter(|letter| !letter.is_whitespace() && *letter != '\u{feff}'));
        let content = BASE64_STANDARD.decode(digits.as_bytes()).ok().map(Zeroizing::new)?;
        Some(content).filter(|content| !content.is_empty())
    }
}

/// The blocks of a text, in order.
fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(BEGIN)?;
        let (label, after) = after.split_once(DASHES)?;
        let end = after.find(END);
        let is_own =
            |end: &usize| after[*end + END.len()..].strip_prefix(label).is_some_and(|end| end.starts_with(DASHES));
        let text = end.filter(is_own).map(|end| &after[..end]);
        rest = text.map_or(after, |text| &after[text.len() + END.len() + label.len() + DASHES.len()..]);
        Some(Block { label, text })
    })
}

/// The certificates of a text, in DER. Blocks of other kinds are skipped.
pub(crate) fn certificates(text: &str) -> Result<Vec<Zeroizing<Vec<u8>>>, Damaged> {
    let found = blocks(text).filter(|block| CERTIFICATE.contains(&block.label));
    found.zip(1..).map(|(block, number)| block.content().ok_or(Damaged { number })).collect()
}

/// The certificates of a text, written anew.
pub(crate) fn certificates_anew(text: &str) -> Result<String, Damaged> {
    let mut pem = String::new();
    for certificate in certificates(text)? {
        write(&mut pem, CERTIFICATE[0], &certificate);
    }
    Ok(pem)
}

/// The first private key of a text.
pub(super) enum PrivateKey {
    /// There is none.
    Missing,
    Damaged,
    Encrypted,
    /// Written anew.
    Pem(Zeroizing<String>),
}

pub(super) fn private_key(text: &str) -> PrivateKey {
    let Some(block) = blocks(text).find(|block| block.label.ends_with("PRIVATE KEY")) else {
        return PrivateKey::Missing;
    };
    // The header of the older format (RFC 1421).
    let has_header = block.text.is_some_and(|text| text.contains("Proc-Type:"));
    if block.label.starts_with("ENCRYPTED") || has_header {
        return PrivateKey::Encrypted;
    }
    let Some(content) = block.content() else { return PrivateKey::Damaged };
    // Never grows, either.
    let mut pem = Zeroizing::new(String::with_capacity(2 * content.len() + 2 * block.label.len() + LINE));
    write(&mut pem, block.label, &content);
    PrivateKey::Pem(pem)
}

fn write(pem: &mut String, label: &str, content: &[u8]) {
    let mut digits = Zeroizing::new(String::with_capacity(content.len().div_ceil(3) * 4));
    BASE64_STANDARD.encode_string(content, &mut digits);
    let mut rest = digits.as_str();
    pem.extend([BEGIN, label, DASHES, "\n"]);
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        pem.extend([line, "\n"]);
        rest = after;
    }
    pem.extend([END, label, DASHES, "\n"]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_read_however_they_were_pasted() {
        let both = ONE.to_owned() + TWO;
        let indented: Vec<_> = both.lines().map(|line| format!("    {line}")).collect();
        for text in [
            both.clone(),
            both.replace('\n', "\r\n"),
            both.replace('\n', " "),
            both.replace("\n-----BEGIN", "-----BEGIN"),
            format!("\u{feff}{ONE}\u{feff}{TWO}"),
            format!("# one\nsubject=CN = a\n{ONE}\nissuer=-----\n{TWO}the end"),
            indented.join("\n"),
            format!("{ONE}-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n{TWO}"),
            ONE.to_owned() + &TWO.replace("CERTIFICATE", "X509 CERTIFICATE"),
        ] {
            assert_eq!(certificates_anew(&text).as_deref(), Ok(&*both), "{text}");
        }
        assert_eq!(certificates_anew("MIIB").as_deref(), Ok(""));
    }

    #[test]
    fn a_damaged_certificate_is_counted() {
        for (text, number) in [
            (ONE.replace("MIIB", "MI*B"), 1),
            (ONE.replace("MIIB", ""), 1),
            (format!("{ONE}{}", TWO.replace("-----END CERTIFICATE-----", "")), 2),
            (format!("{}{TWO}", ONE.replace("-----END CERTIFICATE-----", "")), 1),
        ] {
            assert_eq!(certificates(&text), Err(Damaged { number }), "{text}");
        }
    }

    #[test]
    fn a_private_key_is_found_among_other_blocks() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n";
        let text = format!("{ONE}-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----{key}");
        assert!(matches!(private_key(&text), PrivateKey::Pem(pem) if *pem == key));
        assert!(matches!(private_key(ONE), PrivateKey::Missing));
        assert!(matches!(private_key(&key.replace("MHcC", "M")), PrivateKey::Damaged));
        assert!(matches!(private_key(&key.replace("EC", "ENCRYPTED")), PrivateKey::Encrypted));
        assert!(matches!(private_key(&key.replace("MHcC", "Proc-Type: 4,ENCRYPTED\n\nMHcC")), PrivateKey::Encrypted));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----|BEGIN |END |CERTIFICATE|PRIVATE KEY|MIIB|\\PC|\n){0,20}") {
            let _read = (certificates(&text), private_key(&text));
        }

        #[test]
        fn what_is_written_anew_reads_back(content in prop::collection::vec(any::<u8>(), 1..300)) {
            let mut pem = String::new();
            write(&mut pem, "CERTIFICATE", &content);
            prop_assert!(pem.lines().all(|line| line.len() <= LINE));
            let read = certificates(&pem).unwrap();
            prop_assert_eq!(read[0].as_slice(), content.as_slice());
        }
    }
}
