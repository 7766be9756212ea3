//! The command line.

pub(crate) mod cache;

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::builder::OsStringValueParser;
use clap::builder::TypedValueParser;
use clap_complete::Shell;

/// Git repositories as directories and volumes: exactly the tree of a commit, nothing more.
#[derive(Debug, Parser)]
#[command(name = "gitrepo-cli", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0   success
  64  the request is invalid, or not possible in the current state
  65  the repository is of a kind that cannot be served
  66  the repository, revision or subdirectory does not exist
  69  the network, the remote or the store is unavailable
  70  a fault of gitrepo or damaged data
  73  disk full, or a configured limit
  75  took too long, or another operation is in flight: try again
  77  credential missing, wrong or not allowed; host key unknown
  130 interrupted";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Log to stderr; repeat for more detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print the result, or the error, as one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Configuration file; its defaults, schema and meaning are in docs/configuration.md. If it names no proxy,
    /// https_proxy, http_proxy, all_proxy and no_proxy of the environment do.
    #[arg(long, global = true, value_name = "FILE", env = "GITREPO_CONFIG", value_parser = path())]
    config: Option<PathBuf>,
}

impl Global {
    /// The configuration file.
    pub(crate) fn config(&self) -> Option<&Path> {
        given(&self.config)
    }
}

/// Also accepts an empty path, which means the same as none.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the exact tree of a revision into a plain directory. Needs no root; never leaves a partial tree.
    Clone(Clone),
    /// Mount the tree of a revision on a directory, read-only unless --writable is given. Needs root.
    Mount(Mount),
    /// Unmount a volume that `mount` made, and forget it.
    Unmount(Unmount),
    /// List the published volumes of a store.
    Ls(Ls),
    /// Ask the remote which commit a revision names, and by which ref.
    Resolve(Resolve),
    /// Remove leftovers of interrupted commands; `mount` and `unmount` also do this for a short time. On a full disk,
    /// also remove snapshots and repositories that no volume uses, as a mount does that needs space.
    Sweep(Sweep),
    /// Bring the tree of a revision into the store, for volumes to come. Does nothing if it is there. Needs root.
    Prefetch(Prefetch),
    /// Look into a store: its snapshots and repositories, their sizes and damage; and remove what is unused.
    Cache(cache::Cache),
    /// Check the node, and then a repository step by step. Exits with 0 only if no check fails.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The remote and the credentials.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// https://host/path, ssh://user@host/path, user@host:path, git://…, file:///path
    pub(crate) repository: String,
    /// Directory with one file per secret key, as Kubernetes mounts a Secret: ssh-privatekey, ssh-passphrase,
    /// known_hosts, username, password, token, ca.crt, tls.crt, tls.key
    #[arg(long, value_name = "DIR", value_parser = path())]
    secret_dir: Option<PathBuf>,
    /// Give up after this time, such as 90s or 10m [default: limits.timeout of the configuration]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
}

impl Source {
    /// The directory of the secret.
    pub(crate) fn secret_dir(&self) -> Option<&Path> {
        given(&self.secret_dir)
    }
}

/// The tree to clone or mount.
#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// Branch, tag, full ref (refs/…) or full commit id [default: the remote's HEAD]
    #[arg(long, value_name = "R")]
    pub(crate) revision: Option<String>,
    /// Use only this directory of the repository, as the tree's root
    #[arg(long, value_name = "D")]
    pub(crate) subdirectory: Option<String>,
    /// How blobs become files: bytes, as they are, or git, as git checkout writes them
    #[arg(long, value_name = "HOW")]
    pub(crate) checkout: Option<String>,
    /// What to do with links that lead out of the tree: keep, reject-escaping
    #[arg(long, value_name = "POLICY")]
    pub(crate) symlinks: Option<String>,
    /// Whether .git is there, as a working repository: omit, keep
    #[arg(long, value_name = "CHOICE")]
    pub(crate) git_dir: Option<String>,
    /// Commits of history in .git; 0 for all [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<String>,
    /// What to do with submodules: none leaves empty directories, recursive brings their trees [default: none]
    #[arg(long, value_name = "WHICH")]
    pub(crate) submodules: Option<String>,
    /// Replace Git LFS pointers by their content
    #[arg(long)]
    pub(crate) lfs: bool,
    /// Any other key of a volume (docs/volumes.md), as KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

/// `clone`.
#[derive(Debug, Args)]
pub(crate) struct Clone {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Destination; it must be empty or not exist [default: the repository's name]
    pub(crate) directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tree: Tree,
}

/// `mount`.
#[derive(Debug, Args)]
pub(crate) struct Mount {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The directory to mount on; created if missing
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) tree: Tree,
    /// Directory in the volume where the tree appears [default: .]
    #[arg(long, value_name = "D")]
    pub(crate) directory: Option<String>,
    /// Mount read-write: private or shared, a layer over the tree, or copy, a plain copy. Each is removed with
    /// the volume
    #[arg(long, value_name = "HOW")]
    pub(crate) writable: Option<String>,
    /// Owner of the files of a writable volume, or of an image [default: 0]
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Option<String>,
    /// Group that may write the files of a writable volume, and owns those of an image [default: only the owner may
    /// write]
    #[arg(long, value_name = "GID")]
    pub(crate) group: Option<String>,
    /// When to ask the remote which commit a branch or tag names: Always, IfNotPresent [default: Always]
    #[arg(long, value_name = "POLICY")]
    pub(crate) pull_policy: Option<String>,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `prefetch`.
#[derive(Debug, Args)]
pub(crate) struct Prefetch {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) tree: Tree,
    /// Directory in the volume where the tree will appear [default: .; inline volumes of the CSI driver: the repository's
    /// base name]
    #[arg(long, value_name = "D")]
    pub(crate) directory: Option<String>,
    /// Owner of the files, if the volume is an image [default: 0]
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Option<String>,
    /// Group of the files, if the volume is an image
    #[arg(long, value_name = "GID")]
    pub(crate) group: Option<String>,
    /// When to ask the remote which commit a branch or tag names: Always, IfNotPresent [default: Always]
    #[arg(long, value_name = "POLICY")]
    pub(crate) pull_policy: Option<String>,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The repository to check, after the node
    pub(crate) repository: Option<String>,
    /// Branch, tag, full ref or full commit id [default: the remote's HEAD]
    #[arg(long, value_name = "R")]
    pub(crate) revision: Option<String>,
    /// Directory with one file per secret key
    #[arg(long, value_name = "DIR", value_parser = path())]
    secret_dir: Option<PathBuf>,
    /// The kubelet's directory, below which volumes are mounted
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) kubelet_dir: PathBuf,
    /// How long each step may take [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    #[command(flatten)]
    pub(crate) store: Store,
}

impl Doctor {
    /// The directory of the secret.
    pub(crate) fn secret_dir(&self) -> Option<&Path> {
        given(&self.secret_dir)
    }
}

/// The store.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The store's directory [default: store of the configuration, /var/lib/gitrepo]
    #[arg(long, value_name = "DIR", env = "GITREPO_STORE", value_parser = path())]
    store: Option<PathBuf>,
}

impl Store {
    /// The directory, if not the configuration's.
    pub(crate) fn directory(&self) -> Option<&Path> {
        given(&self.store)
    }
}

/// `unmount`.
#[derive(Debug, Args)]
pub(crate) struct Unmount {
    /// The mounted directory
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) store: Store,
}

/// `resolve`.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Branch, tag, full ref or full commit id [default: the remote's HEAD]
    pub(crate) revision: Option<String>,
}

/// `sweep`.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// Remove all snapshots and repositories that no volume uses. Without this option, the least recently used are
    /// removed while the store exceeds cache.maxBytes or leaves less than cache.reserveBytes free, and what was not used
    /// for cache.maxAge
    #[arg(long)]
    pub(crate) unreferenced: bool,
    /// Remove nothing; list the snapshots and repositories that would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}
