//! The types of signatures that matter here (RFC 9580, section 5.2.1).

/// Of a file, as it is.
pub(super) const DOCUMENT: u8 = 0x00;

/// Of a text, whatever its line ends.
pub(super) const TEXT: u8 = 0x01;

/// A key vouches for a user ID.
pub(super) const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;

/// A key vouches for its subkey.
pub(super) const SUBKEY: u8 = 0x18;

/// A subkey vouches for its key.
pub(super) const PRIMARY_KEY: u8 = 0x19;

/// A key says something about itself.
pub(super) const DIRECT: u8 = 0x1f;

/// A key is withdrawn.
pub(super) const REVOKED_KEY: u8 = 0x20;

/// A subkey is withdrawn by its key.
pub(super) const REVOKED_SUBKEY: u8 = 0x28;

/// A key no longer vouches for a user ID.
pub(super) const REVOKED_CERTIFICATION: u8 = 0x30;

/// Whether it withdraws a key or a subkey.
pub(super) fn is_revocation(kind: u8) -> bool {
    matches!(kind, REVOKED_KEY | REVOKED_SUBKEY)
}
