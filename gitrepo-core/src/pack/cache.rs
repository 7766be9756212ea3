//! Objects that were read not long ago, which deltas are likely to build on.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;

use super::content::Content;

/// Bytes that are remembered.
const CAPACITY: u64 = 16 << 20;

/// Bytes that an entry takes besides its content.
const OVERHEAD: u64 = 160;

/// The contents that were used last.
pub(super) struct Cache<K> {
    contents: HashMap<K, (u64, Content)>,
    /// The keys by the time of their last use.
    used: BTreeMap<u64, K>,
    now: u64,
    bytes: u64,
}

impl<K: Copy + Eq + Hash> Cache<K> {
    pub(super) fn new() -> Self {
        Self { contents: HashMap::new(), used: BTreeMap::new(), now: 0, bytes: 0 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<Content> {
        let (used, content) = self.contents.get_mut(&key)?;
        self.used.remove(used);
        self.now += 1;
        *used = self.now;
        self.used.insert(self.now, key);
        Some(content.clone())
    }

    /// Remembers a content unless it is large, and forgets what was not used for the longest time.
    pub(super) fn insert(&mut self, key: K, content: Content) {
        // A large one would drive out many.
        if content.len() > CAPACITY / 4 {
            return;
        }
        self.now += 1;
        self.bytes += content.len() + OVERHEAD;
        self.used.insert(self.now, key);
        if let Some((used, old)) = self.contents.insert(key, (self.now, content)) {
            self.used.remove(&used);
            self.bytes -= old.len() + OVERHEAD;
        }
        while self.bytes > CAPACITY {
            let Some((_, oldest)) = self.used.pop_first() else { return };
            if let Some((_, old)) = self.contents.remove(&oldest) {
                self.bytes -= old.len() + OVERHEAD;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: u64) -> Content {
        vec![0; usize::try_from(bytes).unwrap()].into()
    }

    #[test]
    fn what_was_used_last_is_remembered() {
        let mut cache = Cache::new();
        for key in 0..4 {
            cache.insert(key, content(CAPACITY / 4 - OVERHEAD));
        }
        assert!(cache.get(0).is_some());
        cache.insert(4, content(CAPACITY / 4 - OVERHEAD));
        assert!(cache.get(1).is_none(), "it was used the longest time ago");
        assert!([0, 2, 3, 4].iter().all(|key| cache.get(*key).is_some()));
        cache.insert(0, content(1));
        cache.insert(5, content(CAPACITY / 4 - 2 * OVERHEAD - 1));
        assert!([0, 2, 3, 4, 5].iter().all(|key| cache.get(*key).is_some()), "the length of the old one is free again");
        cache.insert(6, content(CAPACITY));
        assert!(cache.get(6).is_none() && cache.get(0).is_some());
    }
}
