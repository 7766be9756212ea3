//! The messages about objects of Git LFS. Where an object is may be a secret, and so are the headers for it.
//!
//! Secrets are written in base64: texts of a reply are scrubbed, and these must arrive as they are.

use std::fmt;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use zeroize::Zeroizing;

use crate::credentials::Secret;
use crate::lfs::Action;
use crate::lfs::Endpoint;
use crate::lfs::Object;
use crate::lfs::ObjectId;
use crate::remote::ObjectsFetched;
use crate::remote::ObjectsRequest;
use crate::remote::Refused;

/// A secret as part of a message. Only messages to and from the worker have any.
#[derive(Clone)]
struct Sent(Secret);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Sent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(self.0.expose()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| D::Error::custom("a broken secret"))?;
        let text = String::from_utf8(bytes).map_err(|_| D::Error::custom("a secret that is no text"))?;
        Ok(Self(Secret::new(text)))
    }
}

type SentHeaders = Vec<(String, Sent)>;

fn sent(headers: Vec<(String, Secret)>) -> SentHeaders {
    headers.into_iter().map(|(name, value)| (name, Sent(value))).collect()
}

fn received(headers: SentHeaders) -> Vec<(String, Secret)> {
    headers.into_iter().map(|(name, Sent(value))| (name, value)).collect()
}

/// An [`Endpoint`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SentEndpoint {
    url: String,
    headers: SentHeaders,
    expires: Option<SystemTime>,
}

impl From<Endpoint> for SentEndpoint {
    fn from(Endpoint { url, headers, expires }: Endpoint) -> Self {
        Self { url, headers: sent(headers), expires }
    }
}

impl From<SentEndpoint> for Endpoint {
    fn from(SentEndpoint { url, headers, expires }: SentEndpoint) -> Self {
        Self { expires, ..Self::new(url, received(headers)) }
    }
}

/// An [`Action`].
#[derive(Debug, Serialize, Deserialize)]
struct SentAction {
    object: Object,
    url: Sent,
    headers: SentHeaders,
    expires: Option<SystemTime>,
}

impl From<Action> for SentAction {
    fn from(Action { object, url, headers, expires }: Action) -> Self {
        Self { object, url: Sent(url), headers: sent(headers), expires }
    }
}

impl From<SentAction> for Action {
    fn from(SentAction { object, url: Sent(url), headers, expires }: SentAction) -> Self {
        Self { expires, ..Self::new(object, url, received(headers)) }
    }
}

/// An [`ObjectsRequest`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentRequest {
    endpoint: Option<SentEndpoint>,
    reference: Option<String>,
    objects: Vec<Object>,
    actions: Vec<SentAction>,
}

impl SentRequest {
    /// How many objects it is about.
    pub(super) fn count(&self) -> usize {
        self.objects.len() + self.actions.len()
    }

    /// The objects that the verifier is to keep.
    pub(super) fn wanted(&self) -> Vec<Object> {
        self.objects.iter().chain(self.actions.iter().map(|action| &action.object)).cloned().collect()
    }
}

impl From<ObjectsRequest> for SentRequest {
    fn from(ObjectsRequest { endpoint, reference, objects, actions }: ObjectsRequest) -> Self {
        let (endpoint, actions) = (endpoint.map(Into::into), actions.into_iter().map(Into::into).collect());
        Self { endpoint, reference, objects, actions }
    }
}

impl From<SentRequest> for ObjectsRequest {
    fn from(SentRequest { endpoint, reference, objects, actions }: SentRequest) -> Self {
        let (endpoint, actions) = (endpoint.map(Into::into), actions.into_iter().map(Into::into).collect());
        Self { endpoint, reference, objects, actions }
    }
}

/// [`ObjectsFetched`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentFetched {
    bytes: u64,
    here: Vec<ObjectId>,
    elsewhere: Vec<SentAction>,
    refused: Vec<Refused>,
}

impl SentFetched {
    /// The same, with the objects that whoever keeps them says to be here.
    pub(super) fn with(self, here: Vec<ObjectId>) -> Self {
        Self { here, ..self }
    }
}

impl From<ObjectsFetched> for SentFetched {
    fn from(ObjectsFetched { bytes, here, elsewhere, refused }: ObjectsFetched) -> Self {
        Self { bytes, here, elsewhere: elsewhere.into_iter().map(Into::into).collect(), refused }
    }
}

impl From<SentFetched> for ObjectsFetched {
    fn from(SentFetched { bytes, here, elsewhere, refused }: SentFetched) -> Self {
        Self { bytes, here, elsewhere: elsewhere.into_iter().map(Into::into).collect(), refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lfs::Pointer;
    use crate::worker::protocol;
    use crate::worker::protocol::Reply;

    #[test]
    fn s13_secrets_arrive_unchanged_through_the_scrubbing_and_are_not_shown() {
        let url = format!("https://s3.example.com/staging/x?{}", "canary".repeat(480));
        let object = Object::new(&Pointer { id: ObjectId::from_bytes([1; 32]), size: 1 }, b"a\nfile");
        let header = ("Authorization".to_owned(), Secret::new("canary".to_owned()));
        let expires = Some(SystemTime::now());
        let action = Action { expires, ..Action::new(object, Secret::new(url.clone()), vec![header]) };
        let refused = vec![Refused { id: ObjectId::from_bytes([2; 32]), code: Some(403) }];
        let fetched =
            ObjectsFetched { bytes: 1, elsewhere: vec![action], refused: refused.clone(), ..ObjectsFetched::default() };
        let line = protocol::line(&Reply::ObjectsFetched(fetched.into())).unwrap();
        let places = [("/staging".to_owned(), "/store/staging/1".to_owned())];
        let reply = protocol::reply(&line, &places).unwrap();
        assert!(!format!("{reply:?}").contains("canary"));
        let Reply::ObjectsFetched(fetched) = reply else { panic!("another reply") };
        let read = ObjectsFetched::from(fetched);
        assert_eq!(read.elsewhere[0].url.expose(), url);
        assert_eq!(read.elsewhere[0].headers[0].1.expose(), "canary");
        assert_eq!(read.elsewhere[0].object.path, "a?file");
        assert_eq!((read.elsewhere[0].expires, read.refused), (expires, refused));
    }
}
