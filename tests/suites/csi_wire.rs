//! The CSI driver's sockets: who may call them and how, and the order in which they appear and disappear.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_csi::lifecycle::Driver;
use gitrepo_csi::lifecycle::RunError;
use gitrepo_csi::proto::csi::v1::NodeGetInfoRequest;
use gitrepo_csi::proto::csi::v1::NodeGetInfoResponse;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeResponse;
use gitrepo_csi::proto::csi::v1::node_client::NodeClient;
use gitrepo_csi::proto::csi::v1::node_server::Node;
use gitrepo_csi::proto::csi::v1::node_server::NodeServer;
use gitrepo_csi::proto::registration::v1::InfoRequest;
use gitrepo_csi::proto::registration::v1::PluginInfo;
use gitrepo_csi::proto::registration::v1::RegistrationStatus;
use gitrepo_csi::proto::registration::v1::registration_client::RegistrationClient;
use gitrepo_csi::registration::Registrar;
use gitrepo_csi::server;
use gitrepo_csi::server::Ended;
use gitrepo_csi::server::ListenError;
use gitrepo_csi::server::Occupied;
use gitrepo_csi::server::Socket;
use gitrepo_tests::csi;
use gitrepo_tests::csi::Authority;
use gitrepo_tests::person::NOBODY;
use gitrepo_tests::program::Program;
use gitrepo_tests::require;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::Backlog;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::UnixAddr;
use nix::sys::socket::bind;
use nix::sys::socket::listen;
use nix::sys::socket::socket;
use nix::unistd::Uid;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;

/// More time than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(120);

const DRIVER: &str = "csi.gitrepo.internal";

/// The endpoint that is registered with the kubelet.
const ENDPOINT: &str = "/var/lib/kubelet/plugins/csi.gitrepo.internal/csi.sock";

/// A node service whose unpublish takes as long as the test wants.
struct Slow {
    begun: mpsc::UnboundedSender<()>,
    release: Arc<Notify>,
}

#[tonic::async_trait]
impl Node for Slow {
    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "node".to_owned(), ..NodeGetInfoResponse::default() }))
    }

    async fn node_unpublish_volume(
        &self,
        _: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        self.begun.send(()).ok();
        self.release.notified().await;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }
}

/// A running driver.
struct Running {
    directory: TempDir,
    begun: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
    statuses: mpsc::UnboundedReceiver<bool>,
    cancelled: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<Ended, RunError>>,
}

impl Running {
    /// Starts a driver and waits for its registration socket. If `heeds_cancel`, cancellation releases the slow call.
    async fn start(grace: Duration, heeds_cancel: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let registry = directory.path().join("registry");
        fs::create_dir(&registry).unwrap();
        let (begin, begun) = mpsc::unbounded_channel();
        let (tell, statuses) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let release = Arc::new(Notify::new());
        let cancelled = Arc::new(AtomicBool::new(false));
        let driver = Driver {
            socket: Socket::listen(&directory.path().join("plugin/csi.sock"), Occupied::Refuse).unwrap(),
            services: Routes::new(NodeServer::new(Slow { begun: begin, release: Arc::clone(&release) })),
            registration: Some((
                registry,
                Registrar::new(DRIVER, Path::new(ENDPOINT), move |is_registered| {
                    tell.send(is_registered).ok();
                }),
            )),
            http: None,
            grace,
            finishing: Box::pin(async {}),
            hurry: Box::pin(std::future::pending()),
        };
        let cancel = {
            let (cancelled, release) = (Arc::clone(&cancelled), Arc::clone(&release));
            move || {
                cancelled.store(true, Ordering::SeqCst);
                if heeds_cancel {
                    release.notify_one();
                }
            }
        };
        let told = async {
            stopped.await.ok();
            "a test"
        };
        let running = tokio::spawn(driver.run(told, cancel));
        let started = Self { directory, begun, release, statuses, cancelled, stop: Some(stop), running };
        within(async {
            while !started.registration().exists() {
                assert!(!started.running.is_finished(), "the driver ended");
                tokio::task::yield_now().await;
            }
        })
        .await;
        started
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("plugin/csi.sock")
    }

    fn registration(&self) -> PathBuf {
        self.directory.path().join("registry/csi.gitrepo.internal-reg.sock")
    }

    /// Begins an unpublish, and waits until it has reached the service.
    async fn unpublish(&mut self) -> JoinHandle<Result<Response<NodeUnpublishVolumeResponse>, Status>> {
        let channel = csi::dial(&self.socket()).await.unwrap();
        let call = tokio::spawn(async move {
            NodeClient::new(channel).node_unpublish_volume(NodeUnpublishVolumeRequest::default()).await
        });
        within(self.begun.recv()).await.expect("the call reaches the service");
        call
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn ended(self) -> (Result<Ended, RunError>, TempDir) {
        (within(self.running).await.unwrap(), self.directory)
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("the test to end in time")
}

async fn get_info(socket: &Path, authority: Authority<'_>) -> Result<PluginInfo, String> {
    let answer = within(csi::call(socket, authority, "/pluginregistration.Registration/GetInfo", &[])).await?;
    Ok(PluginInfo::decode(answer.as_slice()).unwrap())
}

#[tokio::test]
async fn both_sockets_accept_calls_with_any_authority() {
    let driver = Running::start(LONG, false).await;
    let path = driver.registration();
    let raw = path.as_os_str().as_encoded_bytes();
    let encoded = path.to_str().unwrap().replace('/', "%2F");
    let forms = [
        Authority::Bytes(raw),
        Authority::Bytes(encoded.as_bytes()),
        Authority::Bytes(b"localhost"),
        Authority::Bytes(b""),
        Authority::Bytes(b"\xff :not an authority/\""),
        Authority::Absent,
    ];
    for authority in forms {
        let info = get_info(&path, authority).await.unwrap();
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", DRIVER), "{authority:?}");
        assert_eq!((info.endpoint.as_str(), info.supported_versions.as_slice()), (ENDPOINT, &["1.0.0".to_owned()][..]));
        let node = within(csi::call(&driver.socket(), authority, "/csi.v1.Node/NodeGetInfo", &[])).await.unwrap();
        assert_eq!(NodeGetInfoResponse::decode(node.as_slice()).unwrap().node_id, "node", "{authority:?}");
    }
}

#[tokio::test]
async fn the_kubelets_registration_status_is_received() {
    let mut driver = Running::start(LONG, false).await;
    for (plugin_registered, error) in [(false, "driver name taken"), (true, "")] {
        let mut client = RegistrationClient::new(csi::dial(&driver.registration()).await.unwrap());
        client.get_info(InfoRequest {}).await.unwrap();
        let status = RegistrationStatus { plugin_registered, error: error.to_owned() };
        client.notify_registration_status(status).await.unwrap();
        assert_eq!(within(driver.statuses.recv()).await, Some(plugin_registered));
    }
}

#[tokio::test]
async fn running_requests_are_answered_before_the_driver_deregisters() {
    let mut driver = Running::start(LONG, false).await;
    let unpublish = driver.unpublish().await;
    driver.stop();
    // New connections are refused from now on; the kubelet retries them.
    within(async {
        while csi::dial(&driver.socket()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(driver.registration().exists(), "the driver must not be deregistered while it tears down");
    assert!(get_info(&driver.registration(), Authority::Absent).await.is_ok());
    driver.release.notify_one();
    within(unpublish).await.unwrap().expect("the running request is answered");
    assert!(!driver.cancelled.load(Ordering::SeqCst));
    let (socket, registration) = (driver.socket(), driver.registration());
    let (ended, _directory) = driver.ended().await;
    assert_eq!(ended.unwrap(), Ended::Drained);
    assert!(!socket.exists() && !registration.exists());
}

#[tokio::test]
async fn requests_that_outlast_the_grace_time_are_cancelled() {
    let mut driver = Running::start(Duration::from_millis(50), true).await;
    let unpublish = driver.unpublish().await;
    driver.stop();
    within(unpublish).await.unwrap().expect("answered after its cancellation");
    assert!(driver.cancelled.load(Ordering::SeqCst));
    assert_eq!(driver.ended().await.0.unwrap(), Ended::Cancelled);
}

#[tokio::test]
async fn a_request_that_ignores_its_cancellation_does_not_delay_the_end() {
    let mut driver = Running::start(Duration::from_millis(50), false).await;
    let _unpublish = driver.unpublish().await;
    // A client that connects and sends nothing does not delay the end either.
    let _silent = tokio::net::UnixStream::connect(driver.socket()).await.unwrap();
    driver.stop();
    let (socket, registration) = (driver.socket(), driver.registration());
    let (ended, _directory) = driver.ended().await;
    assert_eq!(ended.unwrap(), Ended::Abandoned);
    assert!(!socket.exists() && !registration.exists());
}

#[tokio::test]
async fn a_driver_that_cannot_register_says_so_and_leaves_no_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("plugin/csi.sock");
    let driver = Driver {
        socket: Socket::listen(&path, Occupied::Refuse).unwrap(),
        services: Routes::default(),
        registration: Some((directory.path().join("no-registry"), Registrar::new(DRIVER, &path, |_| {}))),
        http: None,
        grace: LONG,
        finishing: Box::pin(async {}),
        hurry: Box::pin(std::future::pending()),
    };
    let error = within(driver.run(std::future::pending(), || {})).await.unwrap_err();
    assert!(matches!(&error, RunError::Registration(ListenError::Directory { .. })), "{error:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_but_not_a_live_one_or_a_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("csi.sock");
    let first = Socket::listen(&path, Occupied::Refuse).unwrap();
    let error = Socket::listen(&path, Occupied::Refuse).unwrap_err();
    assert!(matches!(error, ListenError::Live { .. }) && error.kind() == Kind::Busy, "{error}");
    let gone = first.name.clone();
    drop(first);
    assert!(path.exists(), "the name outlives its socket");
    let second = Socket::listen(&path, Occupied::Refuse).unwrap();
    assert!(!gone.remove().unwrap() && path.exists(), "another process's socket stays");
    assert!(second.name.remove().unwrap() && !path.exists());
    assert!(!second.name.remove().unwrap());
    fs::write(&path, "kept").unwrap();
    for occupied in [Occupied::Refuse, Occupied::Replace] {
        assert!(matches!(Socket::listen(&path, occupied), Err(ListenError::NotASocket { .. })));
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere", &path).unwrap();
    assert!(matches!(Socket::listen(&path, Occupied::Refuse), Err(ListenError::NotASocket { .. })));
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["csi.sock"], "nothing else is left in the directory");
}

#[tokio::test]
async fn a_driver_that_is_slow_to_accept_counts_as_alive() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("csi.sock");
    let slow = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(slow.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&slow, Backlog::new(0).unwrap()).unwrap();
    // This connection fills the queue: the next one would wait.
    let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let taken = within(tokio::task::spawn_blocking(move || {
        Socket::listen(&path, Occupied::Refuse).map_err(|error| error.kind()).err()
    }));
    assert_eq!(taken.await.unwrap(), Some(Kind::Busy));
}

#[tokio::test]
async fn only_its_owner_can_reach_the_socket() {
    let directory = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let path = directory.path().join("plugin/csi.sock");
    let _socket = Socket::listen(&path, Occupied::Refuse).unwrap();
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    let kubelets = directory.path().join("kubelets");
    fs::create_dir(&kubelets).unwrap();
    fs::set_permissions(&kubelets, fs::Permissions::from_mode(0o755)).unwrap();
    let _other = Socket::listen(&kubelets.join("csi.sock"), Occupied::Refuse).unwrap();
    assert_eq!(mode(&kubelets), 0o755, "a directory that is safe stays as it is");
    fs::set_permissions(&kubelets, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = Socket::listen(&kubelets.join("other.sock"), Occupied::Refuse).unwrap_err();
    assert!(matches!(error, ListenError::Unsafe { mode: 0o1777, .. }), "{error}");
    assert_eq!(error.kind(), Kind::PermissionDenied);
}

#[tokio::test]
async fn a_successor_takes_over_the_registration_and_keeps_it() {
    let directory = TempDir::new().unwrap();
    let start = |endpoint: &str| {
        let registrar = Registrar::new(DRIVER, Path::new(endpoint), |_| {});
        let socket = registrar.listen(directory.path()).unwrap();
        let name = socket.name.clone();
        let routes = registrar.into_routes();
        tokio::spawn(server::serve(socket, routes, std::future::pending(), LONG, || {}));
        name
    };
    let old = start("/old");
    assert_eq!(get_info(old.path(), Authority::Absent).await.unwrap().endpoint, "/old");
    let new = start("/new");
    assert_eq!(new.path(), old.path());
    assert_eq!(get_info(old.path(), Authority::Absent).await.unwrap().endpoint, "/new");
    assert!(!old.remove().unwrap(), "the old driver leaves its successor's socket");
    assert_eq!(get_info(new.path(), Authority::Absent).await.unwrap().endpoint, "/new");
}

#[tokio::test]
async fn another_user_is_refused_even_if_the_modes_allow_it() {
    if !require::root("to be another user") {
        return;
    }
    let driver = Running::start(LONG, false).await;
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(driver.directory.path(), 0o755);
    open(driver.socket().parent().unwrap(), 0o755);
    open(&driver.socket(), 0o666);
    let dial = |program: Program, socket: PathBuf| {
        tokio::task::spawn_blocking(move || program.run([socket]).assert_success().stdout)
    };
    let program = || Program::new(PathBuf::from(env!("CARGO_BIN_EXE_gitrepo-test-dial")));
    assert_eq!(within(dial(program(), driver.socket())).await.unwrap(), "9\n", "root is answered");
    let nobody = program().run_by(Uid::from_raw(NOBODY));
    assert_eq!(within(dial(nobody, driver.socket())).await.unwrap(), "0\n", "the user nobody is refused");
    assert!(csi::dial(&driver.socket()).await.is_ok(), "the server goes on");
}
