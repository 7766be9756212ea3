//! The tables of field names and values that header blocks refer to.

use std::collections::VecDeque;

use super::Malformed;

/// The default of `SETTINGS_HEADER_TABLE_SIZE` (RFC 9113, 6.5.2).
const LIMIT: usize = 4096;

/// The overhead of each entry beyond its bytes (RFC 7541, 4.1).
const OVERHEAD: usize = 32;

/// The static table and the connection's dynamic one, in one index space (RFC 7541, 2.3.3).
#[derive(Debug)]
pub(super) struct HeaderTable {
    /// The dynamic table, the newest entry first.
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    limit: usize,
}

impl HeaderTable {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: LIMIT }
    }

    /// Returns the name and value at an index, counted from 1.
    pub(super) fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed::Index(index))?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.entries.get(at - STATIC.len()).ok_or(Malformed::Index(index))?;
        Ok((name, value))
    }

    /// Adds an entry and evicts the oldest ones to make room. An entry larger than the whole table empties it and is
    /// not kept; that is not an error (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.entries.push_front((name, value));
        }
    }

    /// Applies the client's table size update.
    pub(super) fn resize(&mut self, limit: usize) -> Result<(), Malformed> {
        if limit > LIMIT {
            return Err(Malformed::TableSize(limit));
        }
        self.limit = limit;
        self.evict(limit);
        Ok(())
    }

    fn evict(&mut self, down_to: usize) {
        while self.size > down_to
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
