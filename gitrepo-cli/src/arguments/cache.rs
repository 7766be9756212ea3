//! `cache` and its commands.

use clap::Args;
use clap::Subcommand;

use super::Store;

/// `cache`.
#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// The commands of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the snapshots and repositories of a store: owner, size, age, last use, volumes, known damage.
    Ls(List),
    /// Add up the size of a store, by repository and kind. Content that snapshots share counts once.
    Du(List),
    /// Remove snapshots and repositories that no volume uses, the longest unused first, until the store keeps to the
    /// given limits. At least one limit must be given.
    Gc(Gc),
    /// Read everything in the store and compare it with the ids of its content. Exits with 70 if something is damaged
    /// and still served or shown by a volume.
    Verify(Verify),
    /// Remove the snapshots and the content of a repository, or the snapshots of one commit. Keeps those in use, and then
    /// exits with 64.
    Rm(Remove),
}

/// `cache ls`, `cache du`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `cache gc`.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Most bytes for all repositories and snapshots, such as 20Gi. If they take more, unused ones are removed until they
    /// take a tenth less; but unused ones may keep a fifth of this, whatever is in use
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<String>,
    /// Longest time without a use, such as 7d or 12h
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<String>,
    /// Remove nothing; print how much would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `cache verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Verify only this repository [default: all]
    pub(crate) repository: Option<String>,
    /// Take damaged parts out of service: the next volume fetches them anew
    #[arg(long)]
    pub(crate) repair: bool,
    /// Give up after this time, such as 10m [default: never]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `cache rm`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The repository's URL, and perhaps one of its commits: the id, or at least its first 7 digits
    #[arg(value_name = "REPOSITORY[@COMMIT]")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) store: Store,
}
