//! Pointers (git-lfs's `docs/spec.md`, "The Pointer"), read as git-lfs reads them.

use super::ObjectId;

/// A blob of this many bytes or more is no pointer.
pub(crate) const LONGEST: u64 = 1024;

/// The specification, and the names that it had before it was published.
const VERSIONS: [&str; 3] =
    ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];

/// What a file's blob has in place of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) id: ObjectId,
    /// In bytes.
    pub(crate) size: u64,
}

impl Pointer {
    /// Reads a pointer. `None` if a blob is none: then git-lfs leaves it as it is.
    ///
    /// The first line is the version, the others are sorted by their keys: extensions, `oid` and `size`. What an extension
    /// made of a file would have to be undone by a program of the user, so such a file stays a pointer.
    pub(crate) fn parse(blob: &[u8]) -> Option<Self> {
        if blob.len() as u64 >= LONGEST {
            return None;
        }
        let text = std::str::from_utf8(blob).ok()?.trim();
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let version = lines.next()?.strip_prefix("version ")?;
        if !VERSIONS.contains(&version) {
            return None;
        }
        let id = lines.next()?.strip_prefix("oid sha256:")?;
        // git-lfs counts with 64 bits and a sign.
        let size: i64 = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        if lines.next().is_some() {
            return None;
        }
        Some(Self { id: ObjectId::parse(id)?, size: size.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn text(version: &str, rest: &str) -> String {
        format!("version {version}\n{rest}")
    }

    #[test]
    fn what_git_lfs_writes_is_a_pointer_under_all_names_of_the_format() {
        let expected = Pointer { id: ObjectId::parse(OID).unwrap(), size: 12345 };
        for version in VERSIONS {
            for rest in [
                "oid sha256:{}\nsize 12345\n",
                "oid sha256:{}\nsize 12345",
                "oid sha256:{}\r\nsize 12345\r\n\n",
                "\noid sha256:{}\n\r\nsize +0012345 \t\n",
            ] {
                let blob = text(version, &rest.replace("{}", OID));
                assert_eq!(Pointer::parse(blob.as_bytes()), Some(expected), "{blob:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_a_blob() {
        let good = format!("oid sha256:{OID}\nsize 1\n");
        let [v1, ..] = VERSIONS;
        for blob in [
            String::new(),
            good.clone(),
            text("https://git-lfs.github.com/spec/v2", &good),
            text(v1, &format!("size 1\noid sha256:{OID}\n")),
            text(v1, &format!("oid sha512:{OID}\nsize 1\n")),
            text(v1, &format!("oid sha256:{}\nsize 1\n", OID.to_uppercase())),
            text(v1, &format!("oid sha256:{OID}\nsize -1\n")),
            text(v1, &format!("oid sha256:{OID}\nsize +\n")),
            text(v1, &format!("oid sha256:{OID}\nsize 0x1\n")),
            text(v1, &format!("oid sha256:{OID}\nsize  1\n")),
            text(v1, &format!("oid sha256:{OID}\nsize \n")),
            text(v1, &format!("oid sha256:{OID}0\nsize 1\n")),
            text(v1, &format!("oid sha256:{OID}\nsize 18446744073709551615\n")),
            text(v1, &format!("oid sha256:{OID}\n")),
            text(v1, &format!("ext-0-crypt sha256:{OID}\n{good}")),
            text(v1, &format!("{good}x-more y\n")),
            text(v1, &format!("{good}{}", "\n".repeat(1024))),
        ] {
            assert_eq!(Pointer::parse(blob.as_bytes()), None, "{blob:?}");
        }
        assert_eq!(Pointer::parse(text(v1, &format!("oid sha256:{OID}\nsize -0\n")).as_bytes()).unwrap().size, 0);
        assert_eq!(Pointer::parse(b"version https://git-lfs.github.com/spec/v1\noid \xff"), None);
    }

    proptest! {
        #[test]
        fn any_blob_is_read_without_panic(blob in any::<Vec<u8>>(), tail in "[a-z0-9: \n.-]{0,200}") {
            Pointer::parse(&blob);
            Pointer::parse(text(VERSIONS[0], &tail).as_bytes());
        }
    }
}
