//! Public keys from their numbers, as OpenSSL takes them.

use std::ops::RangeInclusive;

use openssl::bn::BigNum;
use openssl::bn::BigNumContext;
use openssl::ec::EcGroup;
use openssl::ec::EcKey;
use openssl::ec::EcPoint;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::pkey::Public;
use openssl::rsa::Rsa;

/// Shortest and longest modulus of an RSA key, in bits. With a longer one, a signature takes long to check.
pub(super) const RSA_BITS: RangeInclusive<i32> = 2048..=16384;

/// Longest exponent of an RSA key, in bits. A huge one would make the check slow.
const EXPONENT_BITS: i32 = 64;

/// Returns an RSA key, and the length of its signatures in bytes; `None` if it is not between [`RSA_BITS`].
pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<(PKey<Public>, usize)> {
    let read = || -> Result<_, ErrorStack> {
        let key = Rsa::from_public_components(BigNum::from_slice(modulus)?, BigNum::from_slice(exponent)?)?;
        let (bits, length) = (key.n().num_bits(), key.size());
        let is_fit = RSA_BITS.contains(&bits) && key.e().num_bits() <= EXPONENT_BITS;
        Ok(is_fit.then_some((PKey::from_rsa(key)?, length)))
    };
    let (key, length) = read().ok().flatten()?;
    Some((key, usize::try_from(length).ok()?))
}

/// Returns a key on a curve; `None` if the point is not on it.
pub(super) fn ecdsa(curve: Nid, point: &[u8]) -> Option<EcKey<Public>> {
    let read = || -> Result<_, ErrorStack> {
        let group = EcGroup::from_curve_name(curve)?;
        let point = EcPoint::from_bytes(&group, point, &mut *BigNumContext::new()?)?;
        let key = EcKey::from_public_key(&group, &point)?;
        key.check_key()?;
        Ok(key)
    };
    read().ok()
}
