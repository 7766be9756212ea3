//! Builds the parts from the settings and runs them until a signal.

use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::policy::Policy;
use gitrepo_core::store::Store;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Serving;
use gitrepo_core::volume::Volumes;
use tokio::runtime;
use tonic::service::Routes;

use crate::arguments::Arguments;
use crate::controller::ControllerService;
use crate::failure::CallFailure;
use crate::housekeeping::Housekeeping;
use crate::http::BindError;
use crate::http::Http;
use crate::http::Pages;
use crate::identity::IdentityService;
use crate::jobs::Jobs;
use crate::lifecycle;
use crate::lifecycle::RunError;
use crate::lifecycle::Wait;
use crate::logging;
use crate::metrics::Metrics;
use crate::metrics::Observed;
use crate::name_lock::NameLocks;
use crate::node::NodeService;
use crate::prefetch::Prefetching;
use crate::proto::csi::v1::controller_server::ControllerServer;
use crate::proto::csi::v1::identity_server::IdentityServer;
use crate::proto::csi::v1::node_server::NodeServer;
use crate::registration::Registrar;
use crate::scrubbing::Scrubbing;
use crate::server;
use crate::server::ListenError;
use crate::server::Occupied;
use crate::server::Socket;
use crate::settings::Settings;
use crate::settings::SettingsError;
use crate::storage::Storage;
use crate::store_size::LastLook;

/// Threads for core's short calls; each may wait for a lock until the call's deadline.
const THREADS: usize = 128;

/// The stack size of these threads: enough for core, and a fraction of the default.
const STACK: usize = 1 << 20;

/// How long cancelled jobs may take to end, after all calls are answered.
const JOBS_END: Duration = Duration::from_secs(5);

/// How long core's calls may take to end after that.
const CALLS_END: Duration = Duration::from_secs(2);

/// Why the driver did not start, or stopped unexpectedly.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The node service needs root, but the process is not root.
    #[error("the node service needs root, to mount and to write to the store; --mode controller does not")]
    NeedsRoot,
    /// A basic system call failed.
    #[error("cannot {action}")]
    System {
        /// A verb and its object.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The driver cannot listen on the CSI socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address of `--http` cannot be used.
    #[error("--http")]
    Http(#[from] BindError),
    /// The running driver failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl DriverError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Settings(error) => error.kind(),
            Self::NeedsRoot => Kind::PermissionDenied,
            Self::System { .. } => Kind::Internal,
            Self::Listen(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::Run(error) => error.kind(),
        }
    }
}

/// Runs the driver until SIGTERM or SIGINT. It starts even without a working store or remote.
pub fn run(arguments: &Arguments) -> Result<(), DriverError> {
    let settings = Settings::read(arguments)?;
    if arguments.mode.has_node() && !nix::unistd::geteuid().is_root() {
        return Err(DriverError::NeedsRoot);
    }
    // Must run while there is one thread: later threads inherit its capabilities.
    let role = if arguments.mode.has_node() { Role::Node } else { Role::Controller };
    capabilities::drop_others(role)
        .map_err(|source| DriverError::System { action: "drop the capabilities that are not needed", source })?;
    logging::start(&settings.log);
    // Secrets of volumes pass through this memory.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|error| DriverError::System { action: "forbid dumps of the driver's memory", source: error.into() })?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_stack_size(STACK)
        .thread_name("core-call")
        .build()
        .map_err(|source| DriverError::System { action: "start the asynchronous runtime", source })?;
    let parts = Parts::new(arguments, settings);
    let ran = runtime.block_on(parts.run(arguments));
    runtime.shutdown_timeout(CALLS_END);
    ran
}

/// Logs how read-only volumes are served, and why not as images.
fn log_format(serving: &Serving) {
    let (format, reason) = (serving.format.name(), serving.without_images.as_deref());
    match (serving.format, reason) {
        (Format::Image, Some(reason)) => {
            tracing::error!(format, reason, "read-only volumes will fail: they are to be images");
        }
        _ => tracing::info!(format, reason, "the format of new read-only volumes"),
    }
}

/// Logs which rules for signatures refuse everything. Their files of keys are read at each use: correcting one is enough.
fn log_unusable_rules(policy: &Policy) {
    for (repositories, error) in policy.unusable_signature_rules() {
        tracing::error!(%repositories, error = %chain(&error), "every volume that needs a signature will be refused");
    }
}

/// The parts that live as long as the driver.
struct Parts {
    settings: Settings,
    metrics: Arc<Metrics>,
    gateway: Gateway,
    storage: Arc<Storage>,
    jobs: Jobs,
}

impl Parts {
    fn new(arguments: &Arguments, settings: Settings) -> Self {
        let metrics = Arc::new(Metrics::default());
        // Clones share one limit on sessions, so opening the store again adds no sessions.
        let gateway = Gateway::confined(settings.config.clone());
        // The socket's directory outlives the driver, and is not on the store's filesystem if the store has its own.
        let memory = settings.endpoint.path().with_file_name("store");
        let (root, remotes) = (settings.config.store.clone(), gateway.clone());
        let has_node = arguments.mode.has_node();
        let open = move || {
            let volumes = Volumes::of(Store::open_remembered(&root, &memory)?, remotes.clone());
            if has_node {
                log_format(&volumes.serving());
            }
            Ok(volumes)
        };
        let storage = Arc::new(Storage::new(open));
        let jobs = Jobs::new(Arc::clone(&storage), Arc::clone(&metrics), settings.config.limits.timeout);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            driver = arguments.driver_name,
            node = settings.node_id,
            store = %settings.config.store.display(),
            "starting"
        );
        if has_node {
            log_unusable_rules(gateway.policy());
        }
        Self { settings, metrics, gateway, storage, jobs }
    }

    async fn run(&self, arguments: &Arguments) -> Result<(), DriverError> {
        let (stop, again) = server::stop_signals()
            .map_err(|source| DriverError::System { action: "install the handlers of signals", source })?;
        let http = Http::bind(arguments.http).await?;
        if let Ok(address) = http.address() {
            tracing::info!(http = %address, "metrics and health");
        }
        // The log says early how read-only volumes are served. A store that hangs must not keep the driver from starting.
        if arguments.mode.has_node() {
            let storage = Arc::clone(&self.storage);
            tokio::task::spawn_blocking(move || drop(storage.volumes()));
        }
        let socket = Socket::listen(self.settings.endpoint.path(), Occupied::Refuse)?;
        let driver = lifecycle::Driver {
            socket,
            services: self.services(arguments),
            registration: self.registration(arguments),
            http: Some((http, self.pages(arguments))),
            grace: server::GRACE,
            finishing: self.finishing(arguments),
            hurry: Box::pin(again),
        };
        let housekeeping = tokio::spawn(self.housekeeping(arguments).run());
        let prefetching = tokio::spawn(self.prefetching(arguments).run());
        let scrubbing = tokio::spawn(self.scrubbing(arguments).run());
        let jobs = self.jobs.clone();
        let ended = driver.run(stop, move || jobs.close()).await;
        housekeeping.abort();
        prefetching.abort();
        scrubbing.abort();
        match self.jobs.shut_down(JOBS_END).await {
            0 => {}
            running => tracing::warn!(running, "cancelled publishes have not ended; the next driver cleans up"),
        }
        ended.map(drop).map_err(DriverError::from)
    }

    fn finishing(&self, arguments: &Arguments) -> Wait {
        let (jobs, within) = (self.jobs.clone(), Duration::from_secs(arguments.finish_within));
        Box::pin(async move { jobs.finish(within).await })
    }

    fn services(&self, arguments: &Arguments) -> Routes {
        let mut routes = Routes::new(IdentityServer::new(IdentityService {
            driver_name: arguments.driver_name.clone(),
            has_controller: arguments.mode.has_controller(),
            metrics: Arc::clone(&self.metrics),
        }));
        if arguments.mode.has_node() {
            routes = routes.add_service(NodeServer::new(NodeService {
                node_id: self.settings.node_id.clone(),
                kubelet_dir: arguments.kubelet_dir.clone(),
                storage: Arc::clone(&self.storage),
                jobs: self.jobs.clone(),
                locks: NameLocks::default(),
                metrics: Arc::clone(&self.metrics),
            }));
        }
        if arguments.mode.has_controller() {
            let controller = ControllerService::new(Arc::clone(&self.storage), Arc::clone(&self.metrics));
            routes = routes.add_service(ControllerServer::new(controller));
        }
        routes
    }

    fn registration(&self, arguments: &Arguments) -> Option<(PathBuf, Registrar)> {
        let directory = arguments.kubelet_registration_dir.clone()?;
        let metrics = Arc::clone(&self.metrics);
        let on_status = move |registered| metrics.registered(registered);
        Some((directory, Registrar::new(&arguments.driver_name, &self.settings.kubelet_endpoint, on_status)))
    }

    fn housekeeping(&self, arguments: &Arguments) -> Housekeeping {
        Housekeeping {
            storage: Arc::clone(&self.storage),
            jobs: self.jobs.clone(),
            pods: arguments.mode.has_node().then(|| arguments.kubelet_dir.join("pods")),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn scrubbing(&self, arguments: &Arguments) -> Scrubbing {
        // A controller has no store that pods use.
        let rate = if arguments.mode.has_node() { self.settings.config.cache.scrub_rate } else { 0 };
        let (storage, metrics) = (Arc::clone(&self.storage), Arc::clone(&self.metrics));
        Scrubbing { storage, metrics, rate: NonZeroU64::new(rate), kept_free: self.settings.config.cache.reserve_bytes }
    }

    fn prefetching(&self, arguments: &Arguments) -> Prefetching {
        let config = &self.settings.config;
        // A controller has no store that pods use.
        let entries = if arguments.mode.has_node() { &config.prefetch[..] } else { &[] };
        Prefetching::new(Arc::clone(&self.storage), Arc::clone(&self.metrics), entries, &config.node_credentials)
    }

    fn pages(&self, arguments: &Arguments) -> Pages {
        let has_node = arguments.mode.has_node();
        let (metrics, gateway) = (Arc::clone(&self.metrics), self.gateway.clone());
        let (storage, jobs, last_look) = (Arc::clone(&self.storage), self.jobs.clone(), LastLook::default());
        let render = move || {
            let volumes = storage.volumes().ok();
            let changed = storage.changed_snapshots();
            let format = volumes.as_ref().filter(|_| has_node).map(|volumes| volumes.serving().format);
            let store = volumes.and_then(|volumes| last_look.at(volumes.store()));
            let (sessions, jobs, evicted) = (gateway.sessions(), jobs.count(), storage.evicted());
            let (overgrown, damaged) = (storage.overgrown(), storage.damaged());
            let frozen = overgrown.iter().filter(|volume| volume.frozen).count();
            let overgrown = overgrown.len();
            let observed = Observed { sessions, jobs, changed, evicted, overgrown, frozen, damaged, format, store };
            metrics.render(&observed).unwrap_or_default()
        };
        let storage = Arc::clone(&self.storage);
        Pages::new(render, move || storage.check().map_err(|failure: CallFailure| failure.message))
    }
}
