//! The batch API (git-lfs's `docs/api/batch.md`) and the answer of `git-lfs-authenticate`
//! (`docs/api/server-discovery.md`), as text.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use super::Endpoint;
use super::Object;
use super::Origin;
use super::address;
use super::expiry;
use crate::credentials::Secret;
use crate::error::Cause;

/// The type of requests and answers.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Most objects that a server is asked for at once, as git-lfs does.
pub(crate) const MOST: usize = 100;

/// Most bytes of an answer.
pub(crate) const LONGEST_ANSWER: u64 = 4 << 20;

/// Most headers of one object.
const MOST_HEADERS: usize = 16;

/// Headers that are the connection's, and not for a server to choose.
const OWN_HEADERS: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "proxy-authorization",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Where an object is. Both its URL and its headers may be secrets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Action {
    /// The object.
    pub object: Object,
    /// Where to get it.
    pub url: Secret,
    /// What to send along: to that origin, and to no other.
    pub headers: Vec<(String, Secret)>,
    /// When it ceases to be there, if its server says so.
    pub expires: Option<SystemTime>,
}

impl Action {
    /// An object at this URL.
    pub(crate) fn new(object: Object, url: Secret, headers: Vec<(String, Secret)>) -> Self {
        Self { object, url, headers, expires: None }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self) -> bool {
        is_over(self.expires)
    }

    /// At least the bytes that it takes in a message, where secrets are in base64.
    pub(crate) fn length(&self) -> usize {
        let header = |(name, value): &(String, Secret)| name.len() + value.expose().len() * 4 / 3 + 16;
        let headers: usize = self.headers.iter().map(header).sum();
        self.url.expose().len() * 4 / 3 + headers + 2 * self.object.path.len() + 320
    }
}

/// Whether the time of something is over, if it has one.
pub(crate) fn is_over(expires: Option<SystemTime>) -> bool {
    expires.is_some_and(|end| end <= SystemTime::now())
}

/// What a server says of an object.
#[derive(Debug)]
pub(crate) enum Answered {
    /// Where it is.
    At(Action),
    /// That it does not give it out.
    Refused {
        object: Object,
        /// As a status of HTTP.
        code: u16,
        message: Cause,
    },
}

/// The body of the request for these objects. `reference` is the full name of the ref that led to the commit.
pub(crate) fn question(objects: &[Object], reference: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Question<'a> {
        operation: &'static str,
        transfers: [&'static str; 1],
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Ref<'a>>,
        objects: Vec<Named>,
        hash_algo: &'static str,
    }
    #[derive(Serialize)]
    struct Ref<'a> {
        name: &'a str,
    }
    #[derive(Serialize)]
    struct Named {
        oid: String,
        size: u64,
    }
    let question = Question {
        operation: "download",
        transfers: ["basic"],
        reference: reference.map(|name| Ref { name }),
        objects: objects.iter().map(|object| Named { oid: object.id.to_string(), size: object.size }).collect(),
        hash_algo: "sha256",
    };
    // Neither a key nor a value can fail.
    serde_json::to_vec(&question).unwrap_or_default()
}

/// Reads the answer about these objects, one for each.
///
/// # Errors
///
/// What is wrong with it. It is not quoted, since it may hold secrets.
pub(crate) fn read(answer: &[u8], objects: &[Object]) -> Result<Vec<Answered>, &'static str> {
    let Answer { transfer, objects: told, hash_algo } =
        serde_json::from_slice(answer).map_err(|_| "it is not the JSON of Git LFS's batch API")?;
    if transfer.is_some_and(|transfer| transfer != "basic") {
        return Err("it names a way of transfer that was not offered");
    }
    if hash_algo.is_some_and(|name| name != "sha256") {
        return Err("it names a hash that was not offered");
    }
    let mut told: HashMap<_, _> = told.into_iter().map(|told| (told.oid.clone(), told)).collect();
    let answered = |object: &Object| {
        let told = told.remove(&object.id.to_string()).ok_or("it does not answer for every object")?;
        answered(object, told)
    };
    objects.iter().map(answered).collect()
}

fn answered(object: &Object, told: Told) -> Result<Answered, &'static str> {
    if let Some(Refusal { code, message }) = told.error {
        return Ok(Answered::Refused { object: object.clone(), code, message: Cause::new(message) });
    }
    if told.size != Some(object.size) {
        let message = Cause::new("the server has an object of another size");
        return Ok(Answered::Refused { object: object.clone(), code: 422, message });
    }
    let Some(place) = told.actions.and_then(|actions| actions.download) else {
        let message = Cause::new("the server does not say where it is");
        return Ok(Answered::Refused { object: object.clone(), code: 404, message });
    };
    let expires = place.expires();
    let url = Secret::new(place.href);
    if Origin::of(url.expose()).is_none() {
        return Err("it names a place that is no URL of https or http, or a very long one");
    }
    Ok(Answered::At(Action { expires, ..Action::new(object.clone(), url, headers(place.header)?) }))
}

/// Reads what `git-lfs-authenticate` prints, for the server beside this repository, if it names none.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn read_endpoint(answer: &[u8]) -> Result<Endpoint, &'static str> {
    let place: Place = serde_json::from_slice(answer).map_err(|_| "it is not the JSON of git-lfs-authenticate")?;
    let expires = place.expires();
    let url = place.href.trim_end_matches('/');
    if url.contains(['?', '#']) || Origin::of(url).is_none() {
        return Err("it names a server that is no URL of https or http, or one with a query");
    }
    Ok(Endpoint { expires, ..Endpoint::new(url.to_owned(), headers(place.header)?) })
}

/// Checks headers: none ends early and becomes two, and none is the connection's own.
fn headers(given: Option<HashMap<String, String>>) -> Result<Vec<(String, Secret)>, &'static str> {
    let given: Vec<_> = given.into_iter().flatten().map(|(name, value)| (name, Secret::new(value))).collect();
    check_headers(&given)?;
    Ok(given)
}

/// The same for headers that a receiver says to come from a server.
pub(crate) fn check_headers(given: &[(String, Secret)]) -> Result<(), &'static str> {
    if given.len() > MOST_HEADERS {
        return Err("it names too many headers");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, value) in given {
        let value = value.expose();
        if name.is_empty() || !name.bytes().all(is_token) || OWN_HEADERS.contains(&&*name.to_ascii_lowercase()) {
            return Err("it names a header that is not to be chosen");
        }
        let is_text = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if name.len() + value.len() > address::LONGEST || !is_text || value.trim().is_empty() {
            return Err("it names a header with a value that is no short text");
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Answer {
    transfer: Option<String>,
    #[serde(default)]
    objects: Vec<Told>,
    hash_algo: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    oid: String,
    size: Option<u64>,
    actions: Option<Actions>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    href: String,
    header: Option<HashMap<String, String>>,
    expires_in: Option<serde_json::Value>,
    expires_at: Option<serde_json::Value>,
}

impl Place {
    fn expires(&self) -> Option<SystemTime> {
        expiry::end(self.expires_in.as_ref(), self.expires_at.as_ref(), SystemTime::now())
    }
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    message: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ObjectId;
    use super::*;

    fn object(number: u8) -> Object {
        Object { id: ObjectId::from_bytes([number; 32]), size: number.into(), path: format!("file {number}") }
    }

    fn told(number: u8, rest: &str) -> String {
        format!(r#"{{"oid":"{}","size":{number}{rest}}}"#, object(number).id)
    }

    fn download(href: &str, header: &str) -> String {
        format!(r#","actions":{{"download":{{"href":"{href}","header":{header},"expires_in":1}}}}"#)
    }

    fn read_one(told: &str) -> Result<Answered, &'static str> {
        let answer = format!(r#"{{"transfer":"basic","objects":[{told}]}}"#);
        read(answer.as_bytes(), &[object(7)]).map(|mut found| found.remove(0))
    }

    #[test]
    fn a_question_names_what_is_wanted_and_no_path() {
        let question: serde_json::Value =
            serde_json::from_slice(&question(&[object(7)], Some("refs/heads/x"))).unwrap();
        assert_eq!(question["operation"], "download");
        assert_eq!(question["ref"]["name"], "refs/heads/x");
        assert_eq!(question["objects"][0]["oid"], object(7).id.to_string());
        assert_eq!(question["objects"][0]["size"], 7);
        assert!(!question.to_string().contains("file 7"));
    }

    #[test]
    fn places_and_refusals_are_read_in_the_order_of_the_question() {
        let answer = format!(
            r#"{{"objects":[{},{},{}]}}"#,
            told(2, r#","error":{"code":404,"message":"gone\u0007"}"#),
            told(1, &download("https://s3.example.com/x?signature=canary", r#"{"Authorization":"canary"}"#)),
            told(9, ""),
        );
        let found = read(answer.as_bytes(), &[object(1), object(2)]).unwrap();
        let [Answered::At(action), Answered::Refused { object: refused, code: 404, message }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((&action.object, refused), (&object(1), &object(2)));
        assert_eq!(action.url.expose(), "https://s3.example.com/x?signature=canary");
        assert_eq!((&*action.headers[0].0, action.headers[0].1.expose()), ("Authorization", "canary"));
        assert_eq!(message.to_string(), "gone ");
        assert!(!format!("{found:?}").contains("canary"), "a secret is shown");
    }

    #[test]
    fn an_object_without_a_place_is_refused() {
        for (rest, expected) in [(r#","actions":{}"#, 404), ("", 404)] {
            assert!(matches!(read_one(&told(7, rest)), Ok(Answered::Refused { code, .. }) if code == expected));
        }
        let other = told(7, &download("https://x/y", "{}")).replace(r#""size":7"#, r#""size":8"#);
        assert!(matches!(read_one(&other), Ok(Answered::Refused { code: 422, .. })));
        assert!(read_one(&told(8, "")).is_err(), "another object");
    }

    #[test]
    fn what_would_become_another_request_is_refused() {
        for (href, header) in [
            ("file:///etc/passwd", "{}"),
            ("https://user:password@x/y", "{}"),
            ("//x/y", "{}"),
            ("https://x/y z", "{}"),
            ("https://x/y", r#"{"Host":"z"}"#),
            ("https://x/y", r#"{"range":"bytes=0-1"}"#),
            ("https://x/y", r#"{"A\r\nB":"c"}"#),
            ("https://x/y", r#"{"A":"b\r\nHost: z"}"#),
            ("https://x/y", r#"{"A":""}"#),
            ("https://x/y", r#"{"":"b"}"#),
        ] {
            assert!(read_one(&told(7, &download(href, header))).is_err(), "{href} {header}");
        }
        let many: Vec<_> = (0..=MOST_HEADERS).map(|number| format!(r#""a{number}":"b""#)).collect();
        assert!(read_one(&told(7, &download("https://x/y", &format!("{{{}}}", many.join(","))))).is_err());
        let long = "x".repeat(address::LONGEST);
        assert!(read_one(&told(7, &download(&format!("https://x/{long}"), "{}"))).is_err());
        assert!(read_one(&told(7, &download("https://x/y", &format!(r#"{{"a":"{long}"}}"#)))).is_err());
        for answer in ["", "[]", r#"{"transfer":"tus","objects":[]}"#, r#"{"hash_algo":"md5","objects":[]}"#] {
            assert!(read(answer.as_bytes(), &[]).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_server_over_ssh_names_one_over_https() {
        let read = |text: &str| read_endpoint(text.as_bytes());
        let found = read(r#"{"href":"https://x/y/","header":{"Authorization":"canary"},"expires_in":86400}"#).unwrap();
        assert_eq!((&*found.url, found.headers[0].1.expose()), ("https://x/y", "canary"));
        assert!(!format!("{found:?}").contains("canary"));
        for bad in ["", "{}", r#"{"href":"ssh://x/y"}"#, r#"{"href":"https://x/y?z"}"#, r#"{"href":"https://x"}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(answer in any::<Vec<u8>>(), text in "[\\[\\]{}\",:a-z0-9]{0,200}") {
            drop(read(&answer, &[object(7)]));
            drop(read(text.as_bytes(), &[object(7)]));
            drop(read_one(&text));
            drop(read_endpoint(text.as_bytes()));
        }
    }
}
