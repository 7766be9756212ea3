//! The key from which this node's credential ids are derived.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use hmac::Hmac;
use hmac::Mac;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::store::StoreError;
use crate::store::durable;
use crate::store::durable::Durability;
use crate::store::error::optional;
use crate::store::layout::Layout;
use crate::store::lock::LockName;
use crate::store::lock::Mode;

const KEY_FILE: &str = "key";

/// The block size of SHA-256, so that HMAC uses the key unchanged.
const KEY_LENGTH: usize = 64;

/// How long to wait for another process that creates the key with one small write.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node's key, read once per process, when first needed.
#[derive(Default)]
pub(super) struct NodeKey(OnceLock<Key>);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(***)")
    }
}

/// Random bytes that never leave this node.
pub(super) struct Key(Zeroizing<[u8; KEY_LENGTH]>);

impl Key {
    pub(super) fn mac(&self) -> Hmac<Sha256> {
        Hmac::new((&*self.0).into())
    }
}

impl NodeKey {
    pub(super) fn get(&self, layout: &Layout) -> Result<&Key, StoreError> {
        if let Some(key) = self.0.get() {
            return Ok(key);
        }
        let key = read(layout)?.map_or_else(|| make(layout), Ok)?;
        Ok(self.0.get_or_init(|| key))
    }
}

/// Reads the key from disk. Ignores one of the wrong length: with a new key, every credential must prove its access
/// again.
fn read(layout: &Layout) -> Result<Option<Key>, StoreError> {
    let content = optional(durable::read(&layout.access().join(KEY_FILE), KEY_LENGTH as u64))?.map(Zeroizing::new);
    Ok(content.and_then(|content| content.as_slice().try_into().ok()).map(|bytes| Key(Zeroizing::new(bytes))))
}

/// Creates the key, unless another process has just created it.
fn make(layout: &Layout) -> Result<Key, StoreError> {
    let _lock = layout.locks.acquire(&LockName::AccessKey, Mode::Exclusive, &Cancel::new().within(PATIENCE))?;
    if let Some(key) = read(layout)? {
        return Ok(key);
    }
    let bytes = Zeroizing::new(durable::random_bytes::<KEY_LENGTH>()?);
    durable::replace(&layout.access().join(KEY_FILE), bytes.as_slice(), Durability::Durable)?;
    Ok(Key(bytes))
}
