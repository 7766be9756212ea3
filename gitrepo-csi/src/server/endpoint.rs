//! The path of the driver's socket, from `--endpoint`.

use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

/// The absolute path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// Why an endpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is a network address: anybody who can reach that could mount volumes.
    #[error("the endpoint \"{0}\" is not a Unix socket: write unix:///path/csi.sock; other transports are not offered")]
    Transport(String),
    /// It is an abstract socket, which has no directory to keep other users out.
    #[error("the endpoint \"{0}\" is an abstract socket, which has no permissions: write unix:///path/csi.sock")]
    Abstract(String),
    /// It is a relative path, which would depend on the working directory.
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

    /// Parses `unix:///path`, `unix:/path` as the CSI specification allows in `CSI_ENDPOINT`, or `/path`.
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
    fn a_path_is_accepted_with_and_without_its_scheme() {
        for text in ["unix:///csi/csi.sock", "unix:/csi/csi.sock", "/csi/csi.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().path(), Path::new("/csi/csi.sock"), "{text}");
        }
        assert_eq!("/a:b/csi.sock".parse::<Endpoint>().unwrap().path(), Path::new("/a:b/csi.sock"));
    }

    #[test]
    fn anything_but_a_socket_with_permissions_is_refused() {
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
