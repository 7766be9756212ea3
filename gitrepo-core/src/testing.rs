//! Fakes for the seams, for tests of this workspace and of embedders.
//!
//! A fake keeps its trait's promises; the same contract suite runs on it and on the real one.

mod blobs;
pub mod fuzz;
mod gate;
mod held;
pub mod image;
pub mod mounter;
mod overridden;
pub mod quota;
pub mod remote;
mod repository;

pub use blobs::export_blobs;
pub use gate::Gate;
pub use held::HeldLock;
pub use mounter::FailingMounter;
pub use mounter::FakeMounter;
pub use mounter::Verb;
pub use overridden::Overridden;
pub use overridden::Overrides;
pub use quota::FakeQuota;
pub use remote::FakeRemote;
pub use repository::FakeRepository;
