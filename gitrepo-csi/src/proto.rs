//! The protocols spoken on the driver's sockets: messages and server traits, generated from `proto/*.proto` and
//! checked in. The clients are behind the feature `client`.
//!
//! A message that holds a secret says so in its definition (`csi_secret`); its `Debug` here is written by hand and
//! withholds it, so that no log line can print one by accident.

/// The Container Storage Interface, 1.12.
pub mod csi {
    /// Package `csi.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::redundant_clone)]
    pub mod v1 {
        include!("proto/generated/csi.v1.rs");
    }
}

/// The kubelet's registration of plugins, which it finds as sockets in its `plugins_registry` directory.
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
