//! Brings the objects of Git LFS that a tree lacks, from wherever their server says they are.
//!
//! A worker can reach one origin. So where a server has objects at another one, such as a storage of objects, another
//! worker goes there, if the policy allows that URL. It gets what the server gave for the object, and no credential, and
//! sees nothing of the repository. No worker holds its place while another one is waited for.

use super::Errand;
use super::GatewayError;
use super::Purpose;
use super::Session;
use crate::credentials::Credentials;
use crate::credentials::Secret;
use crate::error::Cause;
use crate::lfs;
use crate::lfs::Action;
use crate::lfs::Endpoint;
use crate::lfs::Missing;
use crate::lfs::Origin;
use crate::remote::ObjectsError;
use crate::remote::ObjectsFetched;
use crate::remote::ObjectsRequest;
use crate::remote::RemoteError;
use crate::snapshot::TreeRequest;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;
use crate::worker::WorkerError;

mod left;

use left::Left;
use left::Rounds;

/// Bytes of places with which the server is not asked for more at once. With the next ones, they make one message.
const MANY_PLACES: usize = 2 << 20;

impl Session<'_> {
    /// Brings what the tree of the fetched commit lacks into the session's repository. `reference` is the ref that led to the
    /// commit. Returns how many bytes were received.
    ///
    /// # Errors
    ///
    /// Those of listing the tree; and [`GatewayError::Objects`], after which those that came are there.
    pub(crate) fn bring_objects(&mut self, tree: &TreeRequest, reference: Option<&str>) -> Result<u64, GatewayError> {
        let (mut rounds, mut last) = (Rounds::default(), Vec::new());
        loop {
            let missing = self.worker(Purpose::Fetch)?.missing_objects(tree)?;
            if missing.objects.is_empty() {
                return Ok(rounds.received);
            }
            if missing.objects == last {
                let source = Cause::new("it says that it has handed over objects of Git LFS, and has not");
                return Err(WorkerError::Protocol { url: self.errand.url.to_string(), source }.into());
            }
            last.clone_from(&missing.objects);
            self.bring_listed(missing, reference, &mut rounds).map_err(|source| self.about_objects(source))?;
        }
    }

    /// Brings the objects of one listing.
    fn bring_listed(
        &mut self,
        missing: Missing,
        reference: Option<&str>,
        rounds: &mut Rounds,
    ) -> Result<(), GatewayError> {
        let limit = self.errand.limits.fetch_bytes;
        if missing.bytes > limit {
            return Err(remote(RemoteError::TooLarge { url: self.errand.url.to_string(), limit }));
        }
        let mut left = Left::new(missing.objects);
        while !left.is_empty() {
            // What authorises may be good for a short time.
            let endpoint = self.endpoint(missing.server.as_deref())?;
            let is_private = !self.is_plain() || origin(&endpoint.url)?.0.scheme() == Scheme::Https;
            let places = self.ask_where(&endpoint, reference, &mut left, rounds)?;
            self.bring_from(places, is_private, &mut left, rounds)?;
        }
        Ok(())
    }

    /// Has the server say where objects are. Those that are at the server itself are brought. Returns the places of many
    /// of the others: each visit to another origin leaves a segment.
    fn ask_where(
        &mut self,
        endpoint: &Endpoint,
        reference: Option<&str>,
        left: &mut Left,
        rounds: &mut Rounds,
    ) -> Result<Vec<Action>, GatewayError> {
        let there = origin(&endpoint.url)?;
        self.check_headers(&endpoint.headers)?;
        let mut places: Vec<Action> = Vec::new();
        loop {
            let wanted = left.without(&places);
            if wanted.is_empty() || places.iter().map(Action::length).sum::<usize>() >= MANY_PLACES {
                return Ok(places);
            }
            let request = ObjectsRequest::of(endpoint.clone(), reference.map(str::to_owned), wanted);
            let fetched = match there.is(&Origin(self.errand.url.clone())) {
                true => self.ask(Purpose::Fetch, |worker| worker.fetch_objects(request.clone()))?,
                false => {
                    self.check_privacy(&there, !self.is_plain())?;
                    let credentials = self.errand.credentials.for_submodule(&self.errand.url, &there.0);
                    self.elsewhere(&there.0, credentials.unwrap_or_default(), request)?
                }
            };
            rounds.count(&fetched, left, &endpoint.url)?;
            left.note(&fetched, &endpoint.url)?;
            let told = left.told(fetched.elsewhere);
            if told.is_empty() && fetched.here.is_empty() {
                return Ok(places);
            }
            places.extend(told);
        }
    }

    /// Brings objects from these places, one origin after the other.
    fn bring_from(
        &mut self,
        mut places: Vec<Action>,
        is_private: bool,
        left: &mut Left,
        rounds: &mut Rounds,
    ) -> Result<(), GatewayError> {
        while let Some(first) = places.first() {
            let there = origin(first.url.expose())?;
            self.check_privacy(&there, is_private)?;
            let is_there = |action: &Action| origin(action.url.expose()).is_ok_and(|found| found.is(&there));
            let (these, others): (Vec<_>, _) = places.into_iter().partition(is_there);
            these.iter().try_for_each(|action| self.check_headers(&action.headers))?;
            let credentials = trust_at(&self.errand.credentials, &self.errand.url, &there.0);
            let fetched = self.elsewhere(&there.0, credentials, ObjectsRequest::at(these))?;
            let url = there.0.to_string();
            rounds.count(&fetched, left, &url)?;
            left.note(&fetched, &url)?;
            places = others;
            places.extend(left.told(fetched.elsewhere));
        }
        Ok(())
    }

    /// The server that has the repository's objects.
    fn endpoint(&mut self, named: Option<&str>) -> Result<Endpoint, GatewayError> {
        if let Some(server) = named {
            return Endpoint::named(server, &self.errand.url).map_err(|reason| {
                let server = lfs::without_secrets(server);
                remote(ObjectsError::ForeignServer { server, reason: reason.to_owned() }.into())
            });
        }
        match Endpoint::beside(&self.errand.url) {
            Some(endpoint) => Ok(endpoint),
            None if self.errand.url.scheme() == Scheme::Ssh => {
                self.ask(Purpose::Fetch, |worker| worker.objects_endpoint())
            }
            None => Err(remote(ObjectsError::WithoutServer.into())),
        }
    }

    /// Fetches from another origin, in a worker of its own.
    fn elsewhere(
        &mut self,
        there: &RepositoryUrl,
        credentials: Credentials,
        request: ObjectsRequest,
    ) -> Result<ObjectsFetched, GatewayError> {
        self.end_worker()?;
        let policy = self.gateway.policy();
        policy.check(there)?;
        let errand = Errand {
            url: there.clone(),
            credentials,
            proxy: policy.proxy_access(there)?,
            shows_base: false,
            shows_kept: false,
            ..self.errand.clone()
        };
        let mut session = Session::open(self.gateway, errand, &self.watch);
        session.room = self.room.clone();
        let fetched = session.ask(Purpose::Fetch, |worker| worker.fetch_objects(request.clone()));
        let ended = session.finish();
        let fetched = fetched?;
        ended.map(|()| fetched)
    }

    /// What is secret goes over plain text only where the repository itself does, or the configuration allows it.
    fn check_privacy(&self, there: &Origin, was_private: bool) -> Result<(), GatewayError> {
        let is_plain = there.0.scheme() == Scheme::Http;
        if is_plain && was_private && !self.errand.credentials_over_http {
            return Err(remote(RemoteError::CredentialOverHttp { url: there.0.to_string() }));
        }
        Ok(())
    }

    /// What a worker says to come from a server may be its own invention, and another worker sends it.
    fn check_headers(&self, headers: &[(String, Secret)]) -> Result<(), GatewayError> {
        lfs::batch::check_headers(headers).map_err(|reason| {
            let source = Cause::new(format_args!("of an object of Git LFS {reason}"));
            WorkerError::Protocol { url: self.errand.url.to_string(), source }.into()
        })
    }

    fn is_plain(&self) -> bool {
        self.errand.url.scheme() == Scheme::Http
    }

    fn about_objects(&self, source: GatewayError) -> GatewayError {
        GatewayError::Objects { url: self.errand.url.to_string(), source: Box::new(source) }
    }
}

fn remote(error: RemoteError) -> GatewayError {
    WorkerError::from(error).into()
}

/// The origin of a URL that a worker says to be one.
fn origin(url: &str) -> Result<Origin, GatewayError> {
    let nonsense = || ObjectsError::Protocol {
        url: lfs::without_secrets(url),
        source: Cause::new("it is no URL of https or http"),
    };
    Origin::of(url).ok_or_else(|| remote(nonsense().into()))
}

/// The certificate authorities of a secret for this URL, without its other keys: with a prefix those of its host, without
/// one if it is on the host of the repository.
fn trust_at(credentials: &Credentials, own: &RepositoryUrl, there: &RepositoryUrl) -> Credentials {
    const KEY: &str = "ca.crt";
    let host = there.host().unwrap_or_default();
    let (prefixed, is_own) = (format!("{host}.{KEY}"), own.host() == there.host());
    let is_for_it = |name: &str| name.eq_ignore_ascii_case(&prefixed) || is_own && name == KEY;
    let given = credentials.secret_keys().iter().filter(|(name, _)| is_for_it(name));
    let given = given.map(|(name, value)| (name.clone(), Secret::new(value.expose().to_owned()))).collect();
    // They were accepted together with the other keys.
    Credentials::from_secret_keys(given).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_no_key_but_an_authority_goes_to_another_place_of_objects() {
        let authority = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let keys = [
            ("token", "t"),
            ("ca.crt", authority),
            ("s3.example.com.ca.crt", authority),
            ("s3.example.com.token", "t"),
        ];
        let secret = keys.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
        let credentials = Credentials::from_secret_keys(secret.into()).unwrap();
        let own = RepositoryUrl::parse("https://git.example.com/a").unwrap();
        for (there, expected) in [
            ("https://s3.example.com/x", &["s3.example.com.ca.crt"][..]),
            ("https://git.example.com:9000/x", &["ca.crt"]),
            ("https://other.example.com/x", &[]),
        ] {
            let found = trust_at(&credentials, &own, &RepositoryUrl::parse(there).unwrap());
            assert_eq!(found.secret_keys().keys().map(String::as_str).collect::<Vec<_>>(), expected, "{there}");
        }
    }
}
