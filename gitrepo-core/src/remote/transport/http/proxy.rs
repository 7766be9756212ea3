//! The proxy on the way to a server.

use curl::easy::Easy2;
use curl::easy::Handler;

use crate::policy::ProxyAccess;
use crate::policy::ProxyProtocol;
use crate::remote::RemoteError;

/// What curl says when a proxy refuses a client for its login: to CONNECT, and over SOCKS5.
const REFUSALS: [&str; 4] = [
    "CONNECT tunnel failed, response 407",
    // tinyproxy, to a wrong login. Only a proxy answers CONNECT.
    "CONNECT tunnel failed, response 401",
    "No authentication method was acceptable",
    "User was rejected by the SOCKS5 server",
];

/// Sends requests through `access`, or straight to the server. The environment's proxies are not asked here.
pub(super) fn set<H: Handler>(easy: &mut Easy2<H>, access: Option<&ProxyAccess>) -> Result<(), curl::Error> {
    easy.noproxy("")?;
    let Some(access) = access else { return easy.proxy("") };
    let scheme = match access.proxy.protocol() {
        ProxyProtocol::Http => "http",
        // With `socks5`, curl would look up the server's name itself, which the worker cannot.
        ProxyProtocol::Socks5 => "socks5h",
    };
    let host = super::super::bracketed(access.proxy.host());
    easy.proxy(&format!("{scheme}://{host}:{}", access.proxy.port()))?;
    if let Some(login) = &access.login {
        easy.proxy_username(login.user().expose())?;
        easy.proxy_password(login.password().expose())?;
    }
    Ok(())
}

/// Whether a failure is the proxy's, for want of a login or for a wrong one.
pub(super) fn refuses(error: &curl::Error) -> bool {
    let message = error.extra_description().unwrap_or_default();
    REFUSALS.iter().any(|refusal| message.contains(refusal))
}

/// The error for a proxy that wants a login.
pub(super) fn wants_login(url: String, access: &ProxyAccess) -> RemoteError {
    RemoteError::ProxyLogin { url, proxy: access.proxy.to_string(), given: access.login.is_some() }
}
