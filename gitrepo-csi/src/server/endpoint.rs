//! Where the driver listens, from `--endpoint` or `CSI_ENDPOINT`.

use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

/// The absolute path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// Why a text is not a usable endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A network address would let anybody who can reach it mount volumes.
    #[error("the endpoint \"{0}\" is not a Unix socket: write unix:///path/csi.sock; other transports are not offered")]
    Transport(String),
    /// An abstract socket has no directory to keep others out.
    #[error("the endpoint \"{0}\" is an abstract socket, which has no permissions: write unix:///path/csi.sock")]
    Abstract(String),
    /// A relative path would depend on the working directory.
    #[error("the endpoint \"{0}\" is not an absolute path to a socket: write unix:///path/csi.sock")]
    Relative(String),
}

impl Endpoint {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// `unix:///path`, `unix:/path` as the CSI specification's `CSI_ENDPOINT` allows, or `/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = match text.split_once(':') {
            Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some((scheme, _)) if !scheme.contains('/') => return Err(EndpointError::Transport(text.to_owned())),
            _ => text,
        };
        if path.starts_with('@') || path.contains('\0') {
            return Err(EndpointError::Abstract(text.to_owned()));
        }
        let path = PathBuf::from(path);
        if !path.is_absolute() || path.file_name().is_none() || text.ends_with('/') {
            return Err(EndpointError::Relative(text.to_owned()));
        }
        Ok(Self(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_or_without_its_scheme() {
        for text in ["unix:///csi/csi.sock", "unix:/csi/csi.sock", "/csi/csi.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().path(), Path::new("/csi/csi.sock"), "{text}");
        }
        assert_eq!("/a:b/csi.sock".parse::<Endpoint>().unwrap().path(), Path::new("/a:b/csi.sock"));
    }

    #[test]
    fn what_is_no_socket_with_permissions_is_refused() {
        let parse = |text: &str| text.parse::<Endpoint>().unwrap_err();
        for text in ["tcp://127.0.0.1:1", "tcp:127.0.0.1:1", "http://x/y", "vsock:1:2", "unix-abstract:x", "0.0.0.0:1"]
        {
            assert_eq!(parse(text), EndpointError::Transport(text.to_owned()));
        }
        for text in ["unix://@csi", "unix:@csi", "@csi", "unix://\0csi"] {
            assert_eq!(parse(text), EndpointError::Abstract(text.to_owned()));
        }
        for text in ["", "unix://", "unix://csi.sock", "csi.sock", "./csi.sock", "unix:///csi/", "/"] {
            assert_eq!(parse(text), EndpointError::Relative(text.to_owned()));
        }
    }
}
