//! How much memory the driver keeps: what its calls need, not what they once needed at most.

pub use crate::sys::return_unused_memory;
pub use crate::sys::share_one_heap;
