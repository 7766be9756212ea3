//! The SSH host keys of the three large public forges.

/// In the format of `known_hosts`, so that they are read like any other source.
pub(super) const KNOWN_HOSTS: &str = include_str!("forges.known_hosts");
