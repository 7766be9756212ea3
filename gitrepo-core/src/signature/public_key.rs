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

/// Returns an RSA key, and the length of its signatures in bytes; `None` if it is not between [`RSA_BITS`], or its exponent
/// is even or one: with one, everybody can make its signatures.
pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<(PKey<Public>, usize)> {
    let read = || -> Result<_, ErrorStack> {
        let key = Rsa::from_public_components(BigNum::from_slice(modulus)?, BigNum::from_slice(exponent)?)?;
        let (bits, length) = (key.n().num_bits(), key.size());
        let exponent = key.e();
        let is_odd = exponent.is_bit_set(0) && exponent.num_bits() > 1;
        let is_fit = RSA_BITS.contains(&bits) && is_odd && exponent.num_bits() <= EXPONENT_BITS;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_with_an_exponent_that_proves_nothing_is_none() {
        let modulus = Rsa::generate(2048).unwrap().n().to_vec();
        for (exponent, is_taken) in [
            (vec![1, 0, 1], true),
            (vec![3], true),
            (vec![0xff; 8], true),
            (vec![], false),
            (vec![0], false),
            (vec![1], false),
            (vec![2], false),
            (vec![1, 0, 0], false),
            (vec![0, 1], false),
            (vec![0xff; 9], false),
        ] {
            assert_eq!(rsa(&modulus, &exponent).is_some(), is_taken, "{exponent:?}");
        }
    }
}
