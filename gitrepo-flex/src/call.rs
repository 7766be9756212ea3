//! Parses the call from the arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A call of the kubelet (`pkg/volume/flexvolume/driver-call.go`), or of a person.
pub(crate) enum Call {
    /// Return the driver's capabilities.
    Init,
    /// Mount the volume with these options on the directory.
    Mount {
        /// The directory.
        target: PathBuf,
        /// A JSON object.
        options: Zeroizing<Vec<u8>>,
    },
    /// Unmount the volume from the directory.
    Unmount {
        /// The directory.
        target: PathBuf,
    },
    /// `mount` or `unmount` with too few arguments, or too many.
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Return the version, for people.
    Version,
    /// Any other word, or none.
    Unsupported,
}

impl Call {
    /// Parses the arguments after the program's name.
    pub(crate) fn parse(mut arguments: Vec<Zeroizing<Vec<u8>>>) -> Self {
        let path = |bytes: &mut Zeroizing<Vec<u8>>| PathBuf::from(OsString::from_vec(std::mem::take(&mut **bytes)));
        match arguments.as_mut_slice() {
            [call, ..] if call.as_slice() == b"init" => Self::Init,
            [call, rest @ ..] if call.as_slice() == b"mount" => match rest {
                [target, options] => Self::Mount { target: path(target), options: std::mem::take(options) },
                _ => Self::Malformed { what: "mount takes a directory and a JSON object of options" },
            },
            [call, rest @ ..] if call.as_slice() == b"unmount" => match rest {
                [target] => Self::Unmount { target: path(target) },
                _ => Self::Malformed { what: "unmount takes a directory and nothing else" },
            },
            [call, ..] if call.as_slice() == b"--version" => Self::Version,
            _ => Self::Unsupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Call {
        Call::parse(arguments.iter().map(|argument| Zeroizing::new(argument.as_bytes().to_vec())).collect())
    }

    #[test]
    fn mount_and_unmount_are_never_unsupported() {
        for arguments in
            [&["mount"][..], &["mount", "/a"], &["mount", "/a", "{}", "{}"], &["unmount"], &["unmount", "/a", "{}"]]
        {
            assert!(matches!(parse(arguments), Call::Malformed { .. }), "{arguments:?}");
        }
        assert!(matches!(parse(&["mount", "", ""]), Call::Mount { .. }));
        assert!(matches!(parse(&["unmount", ""]), Call::Unmount { .. }));
    }

    #[test]
    fn every_other_word_and_none_is_unsupported() {
        for arguments in
            [&[][..], &[""], &["install", "--stay"], &["--help"], &["Mount", "/a", "{}"], &["mount ", "/a", "{}"]]
        {
            assert!(matches!(parse(arguments), Call::Unsupported), "{arguments:?}");
        }
    }
}
