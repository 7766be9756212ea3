//! The label that SELinux checks accesses by.

use std::ffi::CStr;
use std::ffi::CString;
use std::fmt;

/// An SELinux context, `user:role:type:level`, for files that all containers may use.
///
/// It has no categories: with some, only the containers of one pod could use the files (container_selinux(8)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(CString);

/// A text is no label for files that all containers may use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no SELinux context without categories: expected user:role:type:level, such as \
     system_u:object_r:container_file_t:s0"
)]
pub struct LabelError {
    text: String,
}

impl Label {
    /// What container runtimes let all containers read and write (container-selinux).
    pub fn of_containers() -> Self {
        Self(c"system_u:object_r:container_file_t:s0".to_owned())
    }

    /// Parses a context. Of a range of equal levels, which a file does not need, takes the level: so the kernel shows it in
    /// the mount table, by which a filesystem is found again.
    ///
    /// # Errors
    ///
    /// It has categories, or is none.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let mut parts: Vec<&str> = text.split(':').collect();
        if let [.., level] = &mut parts[..]
            && let Some((low, high)) = level.split_once('-')
            && low == high
        {
            *level = low;
        }
        let is_name = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let label =
            (parts.len() == 4 && parts.iter().all(is_name)).then(|| CString::new(parts.join(":")).ok()).flatten();
        label.map(Self).ok_or_else(|| LabelError { text: text.chars().take(LONGEST).collect() })
    }

    /// Returns what to do if the kernel refuses it.
    pub(crate) fn advice(&self) -> String {
        format!(
            "if this node's SELinux policy has no such label as {self}, or forbids to give it to files, set seLinuxContext \
             to one that it allows, or to null"
        )
    }

    /// Returns it for a system call.
    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// Characters of a wrong label that the message repeats.
const LONGEST: usize = 100;

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string_lossy())
    }
}

super::serde_as_text!(Label);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_four_parts_and_no_categories() {
        let usual = Label::of_containers();
        assert_eq!(Label::parse(&usual.to_string()).unwrap(), usual);
        for (level, kept) in [("s0-s0", "s0"), ("s15-s15", "s15"), ("s0-s1", "s0-s1")] {
            let label = Label::parse(&format!("system_u:object_r:container_ro_file_t:{level}")).unwrap();
            assert_eq!(label.to_string(), format!("system_u:object_r:container_ro_file_t:{kept}"));
        }
        for wrong in [
            "",
            "x",
            "a:b:c",
            "a:b:c:",
            "a:b:c:-",
            "system_u:object_r:container_file_t:s0:c1,c2",
            "system_u:object_r:container_file_t:s0,ro",
            "a:b:c d:s0",
            "a:b:c:s0\0",
            "a:b:c:\"s0\"",
        ] {
            let error = Label::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("container_file_t"), "{error}");
        }
    }
}
