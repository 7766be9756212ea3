//! Properties of the parsers of HTTP, for fuzzing: each function panics on input that breaks one.

use curl::easy::Handler;

use super::answer::Answer;
use super::authentication;
use super::redirect::LONGEST;
use super::redirect::Redirection;
use crate::spec::RepositoryUrl;

/// Longest message about a redirect, without the address.
const LONGEST_WORDS: usize = 200;

/// A head, line by line as curl delivers it: names are in lower case, values have no space around them.
pub fn head(bytes: &[u8]) {
    let mut answer = Answer::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !answer.header(line) {
            break;
        }
    }
    assert!(answer.status() <= 999 || answer.text("status").is_none());
    for name in ["content-type", "location", "retry-after", "content-encoding", "www-authenticate"] {
        for value in answer.fields(name) {
            assert_eq!(value, value.trim_ascii());
        }
    }
}

/// Challenges, one a line: each scheme is one word, and Basic is found in a field of its own whatever the others are.
pub fn challenges(bytes: &[u8]) {
    let mut fields: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let before = authentication::schemes(&fields);
    assert!(before.iter().all(|scheme| !scheme.is_empty() && !scheme.contains([' ', '\t', '='])));
    fields.push(b"Basic realm=\"a, b\"".to_vec());
    let after = authentication::schemes(&fields);
    assert_eq!(after, [before, vec!["Basic".to_owned()]].concat());
}

/// A `Location`: the message is short and shows neither query nor control characters, and what is followed stays on its
/// host.
pub fn location(bytes: &[u8]) {
    for url in ["https://git.example.com/group/a.git", "http://git.example.com:8080/a", "https://[::1]/a.git"] {
        let Ok(url) = RepositoryUrl::parse(url) else { continue };
        for suffix in ["/info/refs", "/git-upload-pack"] {
            let to = Redirection::read(&url, suffix, &[bytes]);
            let shown = to.to_string();
            assert!(shown.len() <= LONGEST + LONGEST_WORDS && !shown.contains(char::is_control), "{shown:?}");
            if let Redirection::Repository { write, .. } = to {
                let there = RepositoryUrl::parse(&write);
                assert!(there.is_ok_and(|there| there.host() == url.host()), "{write}");
            }
        }
    }
}
