//! EROFS images, for the tests that mount them.

pub use crate::snapshot::image::BlockSize;
pub use crate::snapshot::image::EntryError;
pub use crate::snapshot::image::Extent;
pub use crate::snapshot::image::ImageError;
pub use crate::snapshot::image::Kind;
pub use crate::snapshot::image::Modes;
pub use crate::snapshot::image::Node;
pub use crate::snapshot::image::Tree;
pub use crate::snapshot::image::Uuid;
pub use crate::snapshot::image::View;
pub use crate::snapshot::image::build;
