//! The id of a commit.

use std::fmt;

use crate::spec::serde_as_text;

/// The SHA-1 id of a commit. Prints and serialises as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId([u8; 20]);

/// The text is not 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a commit id is 40 hexadecimal digits")]
pub struct CommitIdError;

impl CommitId {
    /// Reads 40 hexadecimal digits of either case.
    pub fn parse(text: &str) -> Result<Self, CommitIdError> {
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(CommitIdError);
        }
        let mut id = [0; 20];
        for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| CommitIdError)?;
        }
        Ok(Self(id))
    }

    /// From the id as git stores it.
    pub fn from_bytes(id: [u8; 20]) -> Self {
        Self(id)
    }

    /// As git stores it.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(CommitId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_forty_hexadecimal_digits_are_an_id() {
        let id = "00ff8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b";
        assert_eq!(CommitId::parse(id).unwrap().to_string(), id);
        assert_eq!(CommitId::parse(&id.to_uppercase()), CommitId::parse(id));
        for bad in ["", &id[1..], &id.replace('8', "g"), &id.replace("ff", "+f"), &format!("{id}0"), &"ä".repeat(20)] {
            assert_eq!(CommitId::parse(bad), Err(CommitIdError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_id_survives_printing_and_json(bytes: [u8; 20]) {
            let id = CommitId::from_bytes(bytes);
            prop_assert_eq!(CommitId::parse(&id.to_string()), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<CommitId>(&json).unwrap(), id);
        }
    }
}
