//! What the driver's configuration allows: schemes, hosts, addresses, limits.
//!
//! A host is checked twice: by name before any work, and by address after its name was resolved, once. Allowed
//! addresses are pinned: the worker gets these addresses and no resolver. So neither a name that changes its address
//! between check and use (DNS rebinding) nor a redirect leads elsewhere.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::error::Cause;
use crate::error::Kind;
use crate::mount::mountinfo;
use crate::spec::Label;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

mod address;
mod config;
mod limits;
mod lookup;
mod pattern;
mod project_ids;
mod proxy;
mod signatures;
mod url_pattern;

pub use address::AddressClass;
pub use config::CacheConfig;
pub use config::Config;
pub use config::ConfigError;
pub use config::HostKeysConfig;
pub use config::NodeCredential;
pub use config::Offline;
pub use config::PrefetchEntry;
pub use config::SnapshotChoice;
pub use config::UidRange;
pub use config::UidRangeError;
pub use config::WorkerConfig;
pub use limits::Limits;
pub use pattern::HostPattern;
pub use pattern::PatternError;
pub use project_ids::ProjectIds;
pub use project_ids::ProjectIdsError;
pub use proxy::Bypass;
pub use proxy::BypassError;
pub use proxy::EnvironmentError;
pub use proxy::EnvironmentProxies;
pub use proxy::LoginError;
pub use proxy::Proxy;
pub use proxy::ProxyAccess;
pub use proxy::ProxyConfig;
pub use proxy::ProxyError;
pub use proxy::ProxyLogin;
pub use proxy::ProxyProtocol;
pub use signatures::RepositoryPattern;
pub use signatures::SignatureRule;
pub use url_pattern::UrlPattern;
pub use url_pattern::UrlPatternError;

use lookup::LookupError;

/// Decides according to the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    config: Config,
    resolver: lookup::Resolver,
}

/// The only host that may be connected to for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedHost {
    /// As in the URL, or the proxy's: lower case, an IPv6 address without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The allowed addresses that the name resolved to. Never empty.
    pub addresses: Vec<SocketAddr>,
}

/// Why fetching from a repository is not allowed, or its host was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The scheme is not in `allowedSchemes`.
    #[error("{url}: the scheme {scheme} is not allowed; allowedSchemes has {allowed}")]
    Scheme {
        /// Without password.
        url: String,
        /// The scheme.
        scheme: Scheme,
        /// The allowed schemes.
        allowed: String,
    },
    /// A pattern of `deniedHosts` covers the host.
    #[error("{url}: the host is denied by {pattern:?} in deniedHosts")]
    HostDenied {
        /// Without password.
        url: String,
        /// The pattern.
        pattern: String,
    },
    /// No pattern of `allowedHosts` covers the host.
    #[error("{url}: the host is not in allowedHosts")]
    HostNotAllowed {
        /// Without password.
        url: String,
    },
    /// Every address of the host is denied by a pattern or by its class.
    #[error("{url}: its host is at {address}, {class}, which is denied{}", switch_hint(*class))]
    AddressDenied {
        /// Without password.
        url: String,
        /// The first denied address.
        address: IpAddr,
        /// Its class.
        class: AddressClass,
    },
    /// The name cannot be resolved.
    #[error("cannot resolve the name of the host {host}")]
    Unresolved {
        /// The host.
        host: String,
        /// The resolver's error.
        #[source]
        source: Cause,
    },
    /// The login for the proxy cannot be used.
    #[error("the user and password for the proxy, in {}, cannot be used", path.display())]
    ProxyLogin {
        /// Of the configuration's `proxy.credentialsFile`.
        path: PathBuf,
        /// Why.
        #[source]
        source: LoginError,
    },
    /// The keys that signatures are checked with cannot be used.
    #[error("the keys for the signatures of its commits, in {}, cannot be used", path.display())]
    SignatureKeys {
        /// Of the configuration's `signatures`.
        path: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Resolving was interrupted.
    #[error("resolving the name of the host {host} was given up")]
    Interrupted {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        source: Interrupted,
    },
}

fn switch_hint(class: AddressClass) -> String {
    class.switch().map(|switch| format!(" unless the configuration has {switch}")).unwrap_or_default()
}

impl PolicyError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Scheme { .. }
            | Self::HostDenied { .. }
            | Self::HostNotAllowed { .. }
            | Self::AddressDenied { .. } => Kind::PermissionDenied,
            Self::Unresolved { .. } => Kind::Unavailable,
            Self::ProxyLogin { .. } | Self::SignatureKeys { .. } => Kind::FailedPrecondition,
            Self::Interrupted { source, .. } => source.kind(),
        }
    }
}

/// Why connecting to an address is not allowed.
enum Refusal {
    Class(AddressClass),
    Pattern(String),
}

impl Policy {
    /// Decides according to `config`, with the system's resolver.
    pub fn new(config: Config) -> Self {
        Self { config, resolver: lookup::system }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The SELinux label of what volumes show, if this node has SELinux.
    pub fn label(&self) -> Option<&Label> {
        static HAS_LABELS: OnceLock<bool> = OnceLock::new();
        let has_labels = || match HAS_LABELS.get() {
            Some(known) => *known,
            // A failure may pass.
            None => mountinfo::read().is_ok_and(|mounts| *HAS_LABELS.get_or_init(|| mountinfo::has_labels(&mounts))),
        };
        self.config.se_linux_context.as_ref().filter(|_| self.config.se_linux.unwrap_or_else(has_labels))
    }

    /// The limits of one volume.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Checks scheme and host name. Uses no network.
    pub fn check(&self, url: &RepositoryUrl) -> Result<(), PolicyError> {
        let config = &self.config;
        if !config.allowed_schemes.contains(&url.scheme()) {
            let allowed: Vec<String> = config.allowed_schemes.iter().map(Scheme::to_string).collect();
            let (url, scheme) = (url.to_string(), url.scheme());
            return Err(PolicyError::Scheme { url, scheme, allowed: allowed.join(", ") });
        }
        let Some(host) = url.host() else { return Ok(()) };
        if let Some(pattern) = config.denied_hosts.iter().find(|pattern| pattern.covers_name(host)) {
            return Err(PolicyError::HostDenied { url: url.to_string(), pattern: pattern.to_string() });
        }
        if !config.allowed_hosts.iter().any(|pattern| pattern.covers_name(host)) {
            return Err(PolicyError::HostNotAllowed { url: url.to_string() });
        }
        Ok(())
    }

    /// Resolves the name of the host to connect to, once, and keeps the allowed addresses; `None` for `file` URLs.
    /// Takes at most 30 s.
    ///
    /// With a proxy that host is the proxy. The admin chose its address, so it is not checked. The proxy then resolves the
    /// repository's name, but an address in the URL itself is checked, and `localhost` is one: the proxy's own.
    pub fn pin(&self, url: &RepositoryUrl, cancel: &Cancel) -> Result<Option<PinnedHost>, PolicyError> {
        let (Some(name), Some(port)) = (url.host(), url.port()) else { return Ok(None) };
        let literal = url.address();
        if let Some(proxy) = self.proxy(url) {
            let is_localhost = name == "localhost" || name.ends_with(".localhost");
            if let Some(address) = literal.or(is_localhost.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))) {
                self.admit(url, &[address])?;
            }
            let addresses = self.resolve(proxy.host(), cancel)?;
            return Ok(Some(PinnedHost::new(proxy.host(), proxy.port(), &addresses)));
        }
        let addresses = match literal {
            Some(address) => vec![address],
            None => self.resolve(name, cancel)?,
        };
        Ok(Some(PinnedHost::new(name, port, &self.admit(url, &addresses)?)))
    }

    /// The proxy for `url`: the configuration's, or else the environment's.
    fn proxy(&self, url: &RepositoryUrl) -> Option<&Proxy> {
        if !matches!(url.scheme(), Scheme::Https | Scheme::Http) {
            return None;
        }
        match self.config.proxy.url {
            Some(_) => self.config.proxy.of(url),
            None => self.config.environment_proxies.of(url).map(|access| &access.proxy),
        }
    }

    /// The proxy for `url`, with the login that it wants.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ProxyLogin`].
    pub fn proxy_access(&self, url: &RepositoryUrl) -> Result<Option<ProxyAccess>, PolicyError> {
        let Some(proxy) = self.proxy(url) else { return Ok(None) };
        let read = |path: &PathBuf| {
            ProxyLogin::read(path).map_err(|source| PolicyError::ProxyLogin { path: path.clone(), source })
        };
        let login = match self.config.proxy.url {
            Some(_) => self.config.proxy.credentials_file.as_ref().map(read).transpose()?,
            None => self.config.environment_proxies.of(url).and_then(|access| access.login.clone()),
        };
        Ok(Some(ProxyAccess::new(proxy.clone(), login)))
    }

    fn resolve(&self, name: &str, cancel: &Cancel) -> Result<Vec<IpAddr>, PolicyError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let host = name.to_owned();
        match lookup::resolve(self.resolver, name, cancel) {
            Ok(addresses) if addresses.is_empty() => {
                Err(PolicyError::Unresolved { host, source: Cause::new("the name has no address") })
            }
            Ok(addresses) => Ok(addresses),
            Err(LookupError::Failed(error)) => Err(PolicyError::Unresolved { host, source: Cause::new(error) }),
            Err(LookupError::Interrupted(source)) => Err(PolicyError::Interrupted { host, source }),
        }
    }

    /// The allowed addresses. If there are none, the error is about the first.
    fn admit(&self, url: &RepositoryUrl, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, PolicyError> {
        let mut admitted = Vec::new();
        let mut first_refused = None;
        for address in addresses {
            match self.refusal(*address) {
                None if admitted.contains(address) => {}
                None => admitted.push(*address),
                Some(refusal) => first_refused = first_refused.or(Some((*address, refusal))),
            }
        }
        match first_refused {
            Some((address, Refusal::Class(class))) if admitted.is_empty() => {
                Err(PolicyError::AddressDenied { url: url.to_string(), address, class })
            }
            Some((_, Refusal::Pattern(pattern))) if admitted.is_empty() => {
                Err(PolicyError::HostDenied { url: url.to_string(), pattern })
            }
            _ => Ok(admitted),
        }
    }

    fn refusal(&self, address: IpAddr) -> Option<Refusal> {
        let class = AddressClass::of(address).filter(|class| match class {
            AddressClass::Loopback => !self.config.allow_loopback,
            AddressClass::LinkLocal | AddressClass::Metadata => !self.config.allow_link_local,
            AddressClass::Unspecified | AddressClass::Multicast => true,
        });
        if let Some(class) = class {
            return Some(Refusal::Class(class));
        }
        let denied = self.config.denied_hosts.iter().find(|pattern| {
            pattern.covers_address(address)
                || address::embedded(address).is_some_and(|inner| pattern.covers_address(inner.into()))
        });
        denied.map(|pattern| Refusal::Pattern(pattern.to_string()))
    }
}

impl PinnedHost {
    fn new(name: &str, port: u16, addresses: &[IpAddr]) -> Self {
        let addresses = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Self { name: name.to_owned(), port, addresses }
    }
}

#[cfg(test)]
mod tests;
