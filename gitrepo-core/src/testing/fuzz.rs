//! Properties of the parsers of what a server sends, and of what a worker that it has taken over may write. Each function
//! takes any bytes, and panics if a property does not hold: the targets of `tests/fuzz` and the property tests of
//! `tests/suites` call them.

pub use crate::pack::fuzz::pack;
pub use crate::remote::fuzz::challenges;
pub use crate::remote::fuzz::fetch;
pub use crate::remote::fuzz::head;
pub use crate::remote::fuzz::hello;
pub use crate::remote::fuzz::location;
pub use crate::remote::fuzz::packets;
pub use crate::remote::fuzz::refs;
pub use crate::signature::fuzz::unsigned_commit;
pub use crate::snapshot::fuzz::manifest;
