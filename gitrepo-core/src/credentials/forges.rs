//! The SSH host keys of the three large public forges.

/// In the format of `known_hosts`, so that they are parsed like any other source.
pub(super) const KNOWN_HOSTS: &str = include_str!("forges.known_hosts");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::PresentedKey;
    use crate::credentials::known_hosts;
    use crate::credentials::known_hosts::Entry;
    use crate::credentials::known_hosts::Marker;

    fn fingerprints(name: &str, marker: Marker) -> Vec<String> {
        let entries = known_hosts::entries(KNOWN_HOSTS).map(Result::unwrap);
        let named = entries.filter(|entry: &Entry<'_>| entry.marker == marker && entry.matches(name));
        named.map(|entry| PresentedKey { kind: entry.kind, blob: &entry.blob }.to_string()).collect()
    }

    #[test]
    fn every_key_has_the_fingerprint_that_its_forge_publishes() {
        let github = [
            "ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
            "ecdsa-sha2-nistp256 SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",
            "ssh-rsa SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",
        ];
        let gitlab = [
            "ssh-ed25519 SHA256:eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",
            "ecdsa-sha2-nistp256 SHA256:HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw",
            "ssh-rsa SHA256:ROQFvPThGrW4RuWLoL9tq9I9zJ42fK4XywyRtbOz/EQ",
        ];
        let bitbucket = [
            "ssh-ed25519 SHA256:ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",
            "ecdsa-sha2-nistp256 SHA256:FC73VB6C4OQLSCrjEayhMp9UMxS97caD/Yyi2bhW/J0",
            "ssh-rsa SHA256:46OSHA1Rmj8E8ERTC6xkNcmGOw9oFxYr0WF6zWW8l1E",
        ];
        for (name, expected) in [
            ("github.com", github),
            ("[ssh.github.com]:443", github),
            ("gitlab.com", gitlab),
            ("[altssh.gitlab.com]:443", gitlab),
            ("bitbucket.org", bitbucket),
        ] {
            assert_eq!(fingerprints(name, Marker::Host), expected, "{name}");
        }
        assert_eq!(known_hosts::entries(KNOWN_HOSTS).count(), 11);
    }

    #[test]
    fn keys_whose_private_half_leaked_are_revoked() {
        let github = "ssh-rsa SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8";
        let bitbucket = "ssh-rsa SHA256:zzXQOXSRBEiUtuE8AikJYKwbHaxvSc0ojez9YXaGp1A";
        assert_eq!(fingerprints("github.com", Marker::Revoked), [github]);
        assert_eq!(fingerprints("bitbucket.org", Marker::Revoked), [bitbucket]);
    }
}
