//! The ids of created volumes.

use std::collections::BTreeMap;
use std::fmt;

use sha2::Digest;
use sha2::Sha256;

/// Bytes of each hash in an id: enough to rule out collisions.
const BYTES: usize = 20;

const PREFIX: &str = "gitrepo-";

/// A volume id: `gitrepo-<hash of the name>-<hash of the context>`. The first hash finds the remembered volume. The
/// second shows whether a context belongs to this volume, without the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeId {
    name: String,
    content: String,
}

impl VolumeId {
    /// Returns the id of the volume with this name and this context.
    pub(super) fn new(name: &str, context: &BTreeMap<String, String>) -> Self {
        Self { name: name_hash(name), content: content_hash(context) }
    }

    /// Parses an id of this driver; returns `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, content) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let is_hash =
            |text: &str| text.len() == BYTES * 2 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hash(name) && is_hash(content)).then(|| Self { name: name.to_owned(), content: content.to_owned() })
    }

    /// Returns the hash of the name, which names the file of the remembered volume.
    pub(super) fn name_hash(&self) -> &str {
        &self.name
    }

    /// Whether this id was made for this context.
    pub(super) fn has_context(&self, context: &BTreeMap<String, String>) -> bool {
        self.content == content_hash(context)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}", self.name, self.content)
    }
}

/// Returns the hash that stands for a volume's name in ids and file names.
pub(super) fn name_hash(name: &str) -> String {
    hash([name].into_iter())
}

fn content_hash(context: &BTreeMap<String, String>) -> String {
    hash(context.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]))
}

/// Hashes each part with its length, so that different lists never look the same.
fn hash<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{:x}", hash.finalize())[..BYTES * 2].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_id_depends_on_name_and_context_and_can_be_parsed() {
        let whole = context(&[("a", "b"), ("c", "d")]);
        let id = VolumeId::new("pvc-1", &whole);
        assert_eq!(id, VolumeId::new("pvc-1", &whole));
        assert_eq!(VolumeId::parse(&id.to_string()), Some(id.clone()));
        assert!(id.to_string().len() < 128);
        assert!(id.has_context(&whole));
        for other in [context(&[]), context(&[("a", "b"), ("c", "e")]), context(&[("a", "bc"), ("", "d")])] {
            assert!(!id.has_context(&other));
        }
        assert_ne!(id, VolumeId::new("pvc-2", &whole));
    }

    #[test]
    fn other_ids_are_not_parsed() {
        let ours = VolumeId::new("name", &context(&[])).to_string();
        for text in ["", "gitrepo-", "gitrepo-x-y", &ours.to_uppercase(), &format!("{ours}0"), &ours[1..], "../../x"] {
            assert_eq!(VolumeId::parse(text), None, "{text:?}");
        }
    }
}
