//! A server of Git LFS: its batch API, and downloads (git-lfs's `docs/api/basic-transfers.md`).
//!
//! It is at one origin, that of the errand's URL. What a server says to be elsewhere is for another process.

use std::io::Read;

use super::Http;
use super::Question;
use super::authority;
use super::refusal;
use crate::credentials::Secret;
use crate::error::Cause;
use crate::lfs::Action;
use crate::lfs::Endpoint;
use crate::lfs::Origin;
use crate::lfs::batch;
use crate::remote::ConnectRequest;
use crate::remote::ObjectsError;
use crate::remote::RemoteError;

/// The place that an answer leads to, which may be a secret.
pub(in crate::remote) struct Place {
    pub(in crate::remote) url: Secret,
}

/// What a request for an object brings.
pub(in crate::remote) enum Download {
    /// Its content, from this byte on.
    From(u64),
    /// A redirect.
    Elsewhere(Place),
}

/// A server of Git LFS, or one of its objects.
pub(in crate::remote) struct ObjectServer<'a>(Http<'a>);

impl<'a> ObjectServer<'a> {
    /// Connects on the first request.
    pub(in crate::remote) fn new(request: &'a ConnectRequest) -> Self {
        Self(Http::new(request))
    }

    /// Sends a question of the batch API. Returns the answer.
    pub(in crate::remote) fn batch(&mut self, endpoint: &Endpoint, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        self.check_origin(&endpoint.url)?;
        let question = Question::Batch(endpoint, body);
        let mut retries = self.retries();
        loop {
            let status = self.0.head_of_answer(question)?;
            self.0.decode()?;
            match status {
                200 => return self.whole_answer(&endpoint.url),
                401 if endpoint.headers.is_empty() => {
                    let fields = ["www-authenticate", "lfs-authenticate"];
                    let challenges: Vec<_> = fields.into_iter().flat_map(|name| self.0.fields(name)).collect();
                    self.0.authentication.challenged(&challenges)?;
                }
                404 | 405 | 410 | 501 => {
                    return Err(ObjectsError::NoServer { url: endpoint.url.clone(), source: self.words(status) }.into());
                }
                401 | 403 if batch::is_over(endpoint.expires) => {
                    return Err(ObjectsError::Expired { url: endpoint.url.clone(), source: self.words(status) }.into());
                }
                401 | 403 => {
                    return Err(RemoteError::Forbidden { url: endpoint.url.clone(), source: Some(self.words(status)) });
                }
                status => match retries.pause_before(status, self.0.head(|answer| answer.text("retry-after"))) {
                    Some(pause) => self.0.sleep(pause)?,
                    None => return Err(self.0.refusal(question, status)),
                },
            }
        }
    }

    /// Asks for an object, from byte `from` on.
    pub(in crate::remote) fn download(&mut self, action: &Action, from: u64) -> Result<Download, RemoteError> {
        self.check_origin(action.url.expose())?;
        let question = Question::Object(action, from);
        let mut retries = self.retries();
        loop {
            let status = self.0.head_of_answer(question)?;
            match status {
                200 => {
                    self.check_encoding()?;
                    return Ok(Download::From(0));
                }
                206 if from > 0 => {
                    self.check_encoding()?;
                    self.check_range(from)?;
                    return Ok(Download::From(from));
                }
                301 | 302 | 303 | 307 | 308 => {
                    let place = self.location().ok_or_else(|| self.0.protocol("it redirects to nowhere"))?;
                    return Ok(Download::Elsewhere(place));
                }
                status => match retries.pause_before(status, self.0.head(|answer| answer.text("retry-after"))) {
                    Some(pause) => self.0.sleep(pause)?,
                    None => {
                        let (url, words) = (self.0.url(), self.words(status));
                        return Err(ObjectsError::refused(url, &action.object, status, words).into());
                    }
                },
            }
        }
    }

    /// Reads of the content; 0 at its end.
    pub(in crate::remote) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RemoteError> {
        self.0.read(buffer).map_err(|error| crate::remote::transport::failure(error, &self.0.url()))
    }

    /// Ends an answer whose rest nobody needs.
    pub(in crate::remote) fn hang_up(&mut self) {
        self.0.exchange = None;
    }

    fn retries(&self) -> refusal::Retries<'a> {
        refusal::Retries::new(&self.0.request.watch.cancel, self.0.request.errand.limits.stall)
    }

    /// The repository's credential is for one origin, and so is what this process can connect to.
    fn check_origin(&self, url: &str) -> Result<(), RemoteError> {
        let own = Origin(self.0.request.errand.url.clone());
        match Origin::of(url) {
            Some(there) if there.is(&own) => Ok(()),
            _ => Err(self.0.protocol("it has objects at another origin")),
        }
    }

    fn whole_answer(&mut self, url: &str) -> Result<Vec<u8>, RemoteError> {
        let mut answer = Vec::new();
        let read = (&mut self.0).take(batch::LONGEST_ANSWER + 1).read_to_end(&mut answer);
        read.map_err(|error| crate::remote::transport::failure(error, url))?;
        if answer.len() as u64 > batch::LONGEST_ANSWER {
            self.hang_up();
            let source = Cause::new(format_args!("its answer has more than {} bytes", batch::LONGEST_ANSWER));
            return Err(ObjectsError::Protocol { url: url.to_owned(), source }.into());
        }
        Ok(answer)
    }

    /// What the server says in a refusal: servers of Git LFS send JSON with a message.
    fn words(&mut self, status: u16) -> Cause {
        #[derive(serde::Deserialize)]
        struct Words {
            message: String,
        }
        let beginning = self.0.beginning();
        match serde_json::from_str::<Words>(&beginning) {
            Ok(Words { message }) => Cause::new(format_args!("http status code {status}: {message}")),
            Err(_) => Cause::new(format_args!("http status code {status}")),
        }
    }

    /// Content that is compressed on the way has no bytes to resume at.
    fn check_encoding(&self) -> Result<(), RemoteError> {
        let encoding = self.0.head(|answer| answer.text("content-encoding")).unwrap_or_default().to_ascii_lowercase();
        match encoding.as_str() {
            "" | "identity" => Ok(()),
            other => Err(self.0.protocol(format_args!("it sends an object encoded as {other:?}"))),
        }
    }

    /// A part of an object is the rest of it (RFC 9110, section 14.4).
    fn check_range(&self, from: u64) -> Result<(), RemoteError> {
        let range = self.0.head(|answer| answer.text("content-range")).unwrap_or_default();
        match range.strip_prefix("bytes ").and_then(|range| range.split_once('-')) {
            Some((start, _)) if start.trim().parse() == Ok(from) => Ok(()),
            _ => Err(self.0.protocol(format_args!("it sends another part than that from byte {from} on"))),
        }
    }

    /// Where a redirect leads.
    fn location(&self) -> Option<Place> {
        let [location] = <[Vec<u8>; 1]>::try_from(self.0.fields("location")).ok()?;
        let location = String::from_utf8(location).ok()?;
        let base = &self.0.base;
        let url = match () {
            () if location.starts_with("//") => format!("{}:{location}", base.scheme()),
            () if location.starts_with('/') => format!("{}://{}{location}", base.scheme(), authority(base)),
            () => location,
        };
        Some(Place { url: Secret::new(url) })
    }
}

impl Http<'_> {
    /// Whether an answer is there to be read.
    #[cfg(test)]
    fn is_answering(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.handle.get_ref().has_body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Errand;
    use crate::spec::RepositoryUrl;
    use crate::watch::Watch;

    #[test]
    fn s13_nothing_is_asked_of_another_origin() {
        let errand = Errand::new(RepositoryUrl::parse("https://git.example.com/a").unwrap());
        let request = ConnectRequest::new(errand, Watch::default());
        let mut server = ObjectServer::new(&request);
        for url in
            ["https://evil.example.com/a.git/info/lfs", "http://git.example.com/a", "https://git.example.com:1/a"]
        {
            let error = server.batch(&Endpoint::new(url.to_owned(), Vec::new()), b"{}").unwrap_err();
            assert!(matches!(error, RemoteError::Protocol { .. }) && !server.0.is_answering(), "{url}: {error}");
        }
    }
}
