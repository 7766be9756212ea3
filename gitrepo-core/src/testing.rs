//! Fakes for the seams, for tests of this workspace and of embedders.
//!
//! A fake keeps the promises that its trait makes; the same contract suite runs over it and over the real one.

mod held;
pub mod mounter;

pub use held::Held;
pub use mounter::FailingMounter;
pub use mounter::FakeMounter;
pub use mounter::Verb;
