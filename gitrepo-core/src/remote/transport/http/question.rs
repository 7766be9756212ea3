//! Requests to the server, as curl is to send them.

use curl::easy::Easy2;
use curl::easy::List;
use zeroize::Zeroizing;

use super::Answer;
use super::Http;
use crate::lfs::Action;
use crate::lfs::Endpoint;
use crate::lfs::batch::MEDIA_TYPE;
use crate::remote::transport::PROTOCOL;
use crate::remote::transport::authority;

/// The query of git's first request.
pub(super) const SERVICE: &str = "service=git-upload-pack";

/// A request to the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'a> {
    /// Asks for its first words.
    Refs,
    /// Sends words of git's protocol.
    UploadPack(&'a [u8]),
    /// Asks where objects of Git LFS are.
    Batch(&'a Endpoint, &'a [u8]),
    /// Asks for an object of Git LFS, from this byte on.
    Object(&'a Action, u64),
}

impl Question<'_> {
    /// The path after the repository's, or after that of the server of Git LFS.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Refs => "/info/refs",
            Self::UploadPack(_) => "/git-upload-pack",
            Self::Batch(..) => "/objects/batch",
            Self::Object(..) => "",
        }
    }

    /// What is going on, for "while …".
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Refs => "asking for its refs",
            Self::Batch(..) => "asking for Git LFS objects",
            Self::UploadPack(_) | Self::Object(..) => "awaiting its answer",
        }
    }

    pub(super) fn is_refs(self) -> bool {
        matches!(self, Self::Refs)
    }
}

impl Http<'_> {
    /// Makes curl send this question next.
    pub(super) fn prepare(
        &self,
        mut easy: Easy2<Answer>,
        question: Question<'_>,
    ) -> Result<Easy2<Answer>, curl::Error> {
        *easy.get_mut() = Answer::default();
        easy.url(&self.address(question))?;
        // A server does not ask for a certificate when it resumes a session.
        easy.ssl_sessionid_cache(self.silence.is_none())?;
        easy.resolve(self.addresses()?)?;
        let mut headers = List::new();
        headers.append("Expect:")?;
        let given = match question {
            Question::Batch(endpoint, _) => &endpoint.headers[..],
            Question::Object(action, _) => &action.headers[..],
            Question::Refs | Question::UploadPack(_) => &[],
        };
        for (name, value) in given {
            headers.append(&Zeroizing::new(format!("{name}: {}", value.expose())))?;
        }
        // An object is at a place that its server chose. Who was given other headers shows those alone.
        let shows_credential = given.is_empty() && !matches!(question, Question::Object(..));
        if let Some(value) = self.authentication.header().filter(|_| shows_credential) {
            headers.append(&Zeroizing::new(format!("Authorization: {}", *value)))?;
        }
        match question {
            Question::Refs | Question::UploadPack(_) => headers.append(&format!("Git-Protocol: {PROTOCOL}"))?,
            Question::Batch(..) | Question::Object(..) => {}
        }
        match question {
            Question::Refs => {
                headers.append("Accept-Encoding: gzip")?;
                headers.append("Accept: */*")?;
                easy.get(true)?;
            }
            Question::UploadPack(body) => {
                headers.append("Accept-Encoding: gzip")?;
                headers.append("Accept: application/x-git-upload-pack-result")?;
                headers.append("Content-Type: application/x-git-upload-pack-request")?;
                easy.post(true)?;
                easy.post_fields_copy(body)?;
            }
            Question::Batch(_, body) => {
                headers.append("Accept-Encoding: gzip")?;
                headers.append(&format!("Accept: {MEDIA_TYPE}"))?;
                headers.append(&format!("Content-Type: {MEDIA_TYPE}"))?;
                easy.post(true)?;
                easy.post_fields_copy(body)?;
            }
            Question::Object(_, from) => {
                headers.append("Accept: */*")?;
                if from > 0 {
                    headers.append(&format!("Range: bytes={from}-"))?;
                }
                easy.get(true)?;
            }
        }
        easy.http_headers(headers)?;
        Ok(easy)
    }

    fn address(&self, question: Question<'_>) -> Zeroizing<String> {
        let suffix = question.suffix();
        let path = self.base.path().trim_end_matches('/');
        Zeroizing::new(match question {
            Question::Refs => format!("{}://{}{path}{suffix}?{SERVICE}", self.base.scheme(), authority(&self.base)),
            Question::UploadPack(_) => format!("{}://{}{path}{suffix}", self.base.scheme(), authority(&self.base)),
            Question::Batch(endpoint, _) => format!("{}{suffix}", endpoint.url),
            Question::Object(action, _) => action.url.expose().to_owned(),
        })
    }
}
