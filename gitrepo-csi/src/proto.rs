//! The protocols of the driver's sockets: messages and server traits, generated from `proto/*.proto` and
//! checked in. The clients are behind the feature `client`.
//!
//! The definition marks fields that hold secrets (`csi_secret`). `Debug` of such messages is written by hand and
//! withholds the secrets, so that no log line can print them by accident.

/// The Container Storage Interface, 1.12.
pub mod csi {
    /// Package `csi.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::redundant_clone)]
    pub mod v1 {
        include!("proto/generated/csi.v1.rs");
    }
}

/// The kubelet's plugin registration, which looks for sockets in its `plugins_registry` directory.
pub mod registration {
    /// Package `pluginregistration`, whose Go package is named v1.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::redundant_clone)]
    pub mod v1 {
        include!("proto/generated/pluginregistration.rs");
    }
}

mod debug;
#[cfg(test)]
mod generation;
