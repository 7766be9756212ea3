//! The parent's side of a confined child: starts, watches and ends it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::FcntlArg;
use nix::fcntl::fcntl;
use nix::unistd::Pid;
use nix::unistd::geteuid;

use super::Job;
use super::Worker;
use super::WorkerError;
use super::child;
use super::errand::SentErrand;
use super::landlock;
use super::monitor::send_with_descriptors;
use super::namespace;
use super::protocol;
use super::protocol::FileRepository;
use super::protocol::Host;
use super::protocol::Plan;
use super::protocol::Reply;
use super::protocol::RequestError;
use super::protocol::Role;
use super::relay::Destination;
use super::relay::Relay;
use super::session::Confinement;
use super::session::Session;
use super::uids;
use super::uids::Claim;
use super::uids::ClaimError;
use super::wire::Incoming;
use super::wire::REPLY_LIMIT;
use super::wire::Wire;
use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::error::Cause;
use crate::policy::UidRange;
use crate::policy::WorkerConfig;
use crate::remote::Errand;
use crate::remote::REPOSITORY;
use crate::remote::RemoteError;
use crate::spec::Scheme;

mod pace;
mod pair;
mod peer;

use pair::Pair;
use pair::Seed;
use peer::Contained;

/// The directory of a receiver, in the staging directory.
const RECEIVED: &str = "received";

/// That of one that is to see nothing of what was received.
const ELSEWHERE: &str = "elsewhere";

/// Bytes about an object of Git LFS besides its content: its place, the head of its answer, and a handshake if it has a
/// connection of its own.
const ABOUT_AN_OBJECT: u64 = 16 << 10;

/// Runs sessions in children of the same program that can access nothing but their job: a receiver, and for a fetch a
/// verifier. The receiver can only read what the verifier keeps, and the verifier has no network. All verifiers have the
/// last uid of the range.
///
/// | caller | confinement |
/// |---|---|
/// | root | mount, PID, IPC, UTS and network namespaces; a root with only the job in it; a uid of its own; no capabilities; limits, Landlock, system-call filter |
/// | an ordinary user | the same in a user namespace, with the caller's uid |
/// | an ordinary user without user namespaces; root without `CAP_SYS_ADMIN`, if there is Landlock (Linux 5.13) | limits, Landlock, system-call filter; only the host's port is pinned (Linux 6.7), not its address |
///
/// The program must call [`run_if_worker`](super::run_if_worker) first thing in `main`.
#[derive(Debug)]
pub struct Confined {
    program: PathBuf,
    uids: UidRange,
    memory: u64,
    uid_locks: PathBuf,
}

impl Confined {
    /// The directory of uid locks: one for all processes of the host and all stores of the node, so that the range
    /// limits the workers of the node. A driver in a container must see the host's directory.
    pub const UID_LOCKS: &str = "/run/gitrepo/uids";

    /// Time for a child to confine itself and to read a message, far more than a loaded machine needs.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Creates workers of this program.
    pub fn new(config: &WorkerConfig) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            uids: config.uids,
            memory: config.memory,
            uid_locks: Self::UID_LOCKS.into(),
        }
    }

    /// Uses workers of another program that calls [`run_if_worker`](super::run_if_worker) or
    /// [`run_if_worker_with`](super::run_if_worker_with): for a library loaded into a foreign program, and for tests.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Replaces [`Confined::UID_LOCKS`] by another directory.
    #[must_use]
    pub fn with_uid_locks(self, directory: PathBuf) -> Self {
        Self { uid_locks: directory, ..self }
    }
}

impl Worker for Confined {
    fn start(&self, job: Job) -> Result<Session, WorkerError> {
        let cancel = job.watch.cancel.within(job.errand.limits.timeout);
        let (mut plan, claim) = self.plan(&job, &cancel)?;
        let mut descriptors = Vec::new();
        let mut seed = None;
        if let Some(staging) = &job.errand.staging {
            let scratch = if job.errand.shows_kept { RECEIVED } else { ELSEWHERE };
            let [scratch, kept] = prepare(staging, scratch).map_err(at("preparing the staging directory"))?;
            let ((objects, to), (from, answers)) = pipes().map_err(at("making a pipe"))?;
            descriptors.extend([to, from]);
            seed = Some(Seed {
                program: self.program.clone(),
                plan: self.plan_of_verifier(&plan),
                errand: without_secrets(&job.errand),
                pipes: vec![objects, answers],
                cancel: cancel.clone(),
            });
            (plan.staging, plan.kept) = (Some(scratch.into()), job.errand.shows_kept.then(|| kept.into()));
            plan.base = plan.base.filter(|_| job.errand.shows_base);
        }
        descriptors.extend(claim.map(|claim| claim.lock));
        let destination = job.host.as_ref().map(|host| destination(&job, host.addresses.clone()));
        let (receiver, confinement) = launch(&self.program, &job.errand, plan, descriptors, destination, &cancel)?;
        Ok(Session::new(Box::new(Pair::new(receiver, seed)), &job, cancel).confined_by(confinement))
    }
}

/// Starts a child with these descriptors, and waits until it is confined.
fn launch(
    program: &Path,
    errand: &Errand,
    plan: Plan,
    descriptors: Vec<OwnedFd>,
    destination: Option<Destination>,
    cancel: &Cancel,
) -> Result<(Contained, Confinement), WorkerError> {
    let (control, theirs) = UnixStream::pair().map_err(at("making a socket"))?;
    control.set_write_timeout(Some(Confined::PATIENCE)).map_err(at("preparing a socket"))?;
    let child = spawn(program, theirs)?;
    // From here on, dropping `peer` ends the child.
    let mut peer = Contained::new(errand, child, Wire::new(control, REPLY_LIMIT));

    let line = protocol::line(&plan).map_err(at("writing the plan"))?;
    send_with_descriptors(peer.wire.stream(), &line, &descriptors).map_err(at("handing over the plan"))?;
    // The other end of a pipe must notice when the child closes its own.
    drop(descriptors);
    let (pid, namespaces, listener) = started(&mut peer, cancel)?;
    if let (Some(listener), Some(destination)) = (listener, destination) {
        peer.relay = Some(Relay::start(listener, destination).map_err(at("the relay"))?);
    }
    peer.worker = Some(Pid::from_raw(pid));
    for (inside, outside) in [(namespace::STAGING, &plan.staging), (namespace::KEPT, &plan.kept)] {
        if namespaces && let Some(outside) = outside.as_ref().and_then(|outside| outside.to_str()) {
            peer.places.push((inside.to_owned(), outside.to_owned()));
        }
    }
    let role = plan.role;
    peer.wire.send(&SentErrand(seen_by_the_child(errand, plan, namespaces))).map_err(at("handing over the errand"))?;
    let landlock = ready(&mut peer, cancel)?;
    if !namespaces && geteuid().is_root() {
        check_landlock(&landlock)?;
        tracing::warn!(
            landlock,
            "no right to make namespaces (CAP_SYS_ADMIN): only Landlock and limits confine the worker"
        );
    }
    tracing::debug!(url = %errand.url, ?role, pid, namespaces, landlock, "worker started");
    Ok((peer, Confinement { namespaces, landlock }))
}

/// Makes the directory in which the receiver works, and the one in which the verifier keeps the repository.
fn prepare(staging: &Path, scratch: &str) -> io::Result<[PathBuf; 2]> {
    let staging = fs::canonicalize(staging)?;
    let make = |name: &str| -> io::Result<PathBuf> {
        let path = staging.join(name);
        match fs::create_dir(&path) {
            // Another session of the same fetch made it, and its workers have ended.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.symlink_metadata()?.is_dir() => {}
            made => {
                made?;
                // Whatever the umask: the receiver reads what the verifier, another user, keeps.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(path)
    };
    Ok([make(scratch)?, make(REPOSITORY)?])
}

/// The two pipes between a receiver and its verifier: for objects, and for answers. Each with its reader first.
type Pipes = ((OwnedFd, OwnedFd), (OwnedFd, OwnedFd));

fn pipes() -> io::Result<Pipes> {
    /// Bytes of a pipe: the receiver need not wait while the verifier hashes the last buffer.
    const CAPACITY: libc::c_int = 1 << 20;
    let (objects, answers) = (io::pipe()?, io::pipe()?);
    // A user with many pipes gets no large ones.
    fcntl(&objects.1, FcntlArg::F_SETPIPE_SZ(CAPACITY)).ok();
    Ok(((objects.0.into(), objects.1.into()), (answers.0.into(), answers.1.into())))
}

/// What a verifier needs to know of an errand.
fn without_secrets(errand: &Errand) -> Errand {
    let Errand { url, staging, base, limits, .. } = errand;
    let (staging, base, limits) = (staging.clone(), base.clone(), limits.clone());
    Errand { staging, base, limits, ..Errand::new(url.clone()) }
}

impl Confined {
    fn plan(&self, job: &Job, cancel: &Cancel) -> Result<(Plan, Option<Claim>), WorkerError> {
        let real = |path: &Option<PathBuf>, step| -> Result<Option<OsString>, WorkerError> {
            path.as_ref().map(|path| fs::canonicalize(path).map(OsString::from).map_err(at(step))).transpose()
        };
        let source = source(job)?;
        let mut plan = Plan {
            role: Role::Receiver,
            uid: None,
            uid_is_ours: false,
            memory: self.memory,
            file_size: job.errand.limits.fetch_bytes.max(job.errand.limits.tree_bytes),
            staging: real(&job.errand.staging, "finding the staging directory")?,
            kept: None,
            base: real(&job.errand.base, "finding the base repository")?,
            source: None,
            ca_file: real(&ca_file(job), "finding the certificate authorities")?,
            host: job.host.as_ref().map(|host| Host { name: host.name.clone(), port: host.port }),
        };
        let mut claim = None;
        match source {
            // Root's worker may read what the owner may, and nothing else of root's.
            Some((source, owner)) => {
                plan.source = Some(source);
                plan.uid = Some(owner);
            }
            None if geteuid().is_root() => {
                let claimed = self.claim(job, cancel)?;
                plan.uid = Some(claimed.uid);
                plan.uid_is_ours = true;
                claim = Some(claimed);
            }
            None => {}
        }
        Ok((plan, claim))
    }

    fn claim(&self, job: &Job, cancel: &Cancel) -> Result<Claim, WorkerError> {
        let uids = self.uids.of_receivers();
        uids::claim(uids.clone(), &self.uid_locks, cancel).map_err(|error| match error {
            ClaimError::AllTaken(Interrupted::DeadlineExceeded) => WorkerError::NoFreeWorker { count: uids.count() },
            ClaimError::AllTaken(source) => RemoteError::Interrupted { url: job.errand.url.to_string(), source }.into(),
            ClaimError::Locks(source) => at("taking a uid")(source),
        })
    }

    /// How to confine the verifier beside a receiver that is confined by `plan`.
    fn plan_of_verifier(&self, plan: &Plan) -> Plan {
        let Plan { memory, file_size, staging, base, .. } = plan;
        Plan {
            role: Role::Verifier,
            uid: geteuid().is_root().then(|| self.uids.of_verifiers()),
            uid_is_ours: geteuid().is_root(),
            memory: *memory,
            file_size: *file_size,
            staging: staging.clone(),
            kept: None,
            base: base.clone(),
            source: None,
            ca_file: None,
            host: None,
        }
    }
}

fn spawn(program: &Path, control: UnixStream) -> Result<Child, WorkerError> {
    // A sink in place of /dev/null, which an empty chroot lacks: writing to the read end of a pipe fails.
    let (nowhere, _) = io::pipe().map_err(at("making a pipe"))?;
    let errors = nowhere.try_clone().map_err(at("making a pipe"))?;
    // Others can read arguments and environment, so both are empty. A separate process group, so that the
    // terminal's interrupt reaches only the parent.
    Command::new(program)
        .arg0(child::NAME)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(control)))
        .stdout(nowhere)
        .stderr(errors)
        .spawn()
        .map_err(at("starting the program"))
}

/// Returns the repository of a `file` URL, and its owner.
fn source(job: &Job) -> Result<Option<(FileRepository, u32)>, WorkerError> {
    if job.errand.url.scheme() != Scheme::File {
        return Ok(None);
    }
    let shown_at = job.errand.url.path();
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            RemoteError::RepositoryNotFound { url: job.errand.url.to_string(), source: Some(Cause::new(error)) }.into()
        }
        _ => at("finding the source repository")(error),
    };
    let path = fs::canonicalize(shown_at).map_err(missing)?;
    let owner = fs::metadata(&path).map_err(missing)?.uid();
    Ok(Some((FileRepository { path: path.into(), shown_at: shown_at.into() }, owner)))
}

/// Returns the certificate authorities for this job: the configured ones, or else the system's.
fn ca_file(job: &Job) -> Option<PathBuf> {
    if job.errand.url.scheme() != Scheme::Https {
        return None;
    }
    job.errand.ca_file.clone().or_else(system_authorities)
}

/// Returns the system's bundle of certificate authorities: that of `SSL_CERT_FILE`, or the first at a usual place.
pub fn system_authorities() -> Option<PathBuf> {
    /// Paths on Debian and Alpine, Fedora and older Red Hat, openSUSE, and OpenSSL's own defaults.
    const SYSTEM: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let of_the_environment = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    of_the_environment.into_iter().chain(SYSTEM.iter().map(PathBuf::from)).find(|path| path.is_file())
}

/// Waits for the child's report that its namespaces are set up.
fn started(peer: &mut Contained, cancel: &Cancel) -> Result<(i32, bool, Option<TcpListener>), WorkerError> {
    match peer.first_reply(cancel)? {
        Reply::Started { pid, namespaces } => {
            Ok((pid, namespaces, peer.wire.take_descriptors().pop().map(TcpListener::from)))
        }
        other => Err(not_started(peer, other)),
    }
}

/// Waits until the worker is confined. Returns how much of Landlock is enforced.
fn ready(peer: &mut Contained, cancel: &Cancel) -> Result<String, WorkerError> {
    match peer.next_reply(cancel)? {
        Reply::Ready { landlock } => Ok(landlock),
        other => Err(not_started(peer, other)),
    }
}

/// Refuses a worker of root that has neither namespaces nor Landlock: it stays root, and could access all of root's
/// files. An ordinary user's worker has no more rights than any program of that user.
fn check_landlock(enforced: &str) -> Result<(), WorkerError> {
    if enforced == landlock::NOT_ENFORCED {
        let text = "it needs CAP_SYS_ADMIN, or a kernel with Landlock (Linux 5.13)";
        return Err(at("confining the worker")(io::Error::new(io::ErrorKind::PermissionDenied, text)));
    }
    Ok(())
}

fn not_started(peer: &Contained, reply: Reply) -> WorkerError {
    match reply {
        Reply::NotStarted(error) => WorkerError::Start { step: error.step.clone(), source: error.into_io() },
        Reply::Failed(RequestError::Internal(source)) => WorkerError::Fault { url: peer.url.clone(), source },
        other => peer.nonsense(format_args!("unexpected reply {other:?}")),
    }
}

/// Returns the errand with the paths as the child sees them.
fn seen_by_the_child(errand: &Errand, plan: Plan, namespaces: bool) -> Errand {
    let seen = |path: Option<OsString>, inside: &str| {
        path.map(|path| if namespaces { PathBuf::from(inside) } else { path.into() })
    };
    Errand {
        ca_file: seen(plan.ca_file, namespace::CA_FILE),
        staging: seen(plan.staging, namespace::STAGING),
        base: seen(plan.base, namespace::BASE),
        ..errand.clone()
    }
}

fn destination(job: &Job, addresses: Vec<std::net::SocketAddr>) -> Destination {
    /// Timeout per address: a live server responds in one round trip, and the other addresses must get their turn.
    const CONNECT: Duration = Duration::from_secs(30);
    Destination {
        addresses,
        connect_timeout: job.errand.limits.stall.min(CONNECT),
        received_limit: received_limit(job.errand.limits.fetch_bytes, 0),
    }
}

/// Most bytes that a remote may send for a pack, or for so many objects of Git LFS, of up to `content` bytes.
fn received_limit(content: u64, objects: usize) -> u64 {
    /// Allowance for TLS, SSH and HTTP handshakes on a few connections, before git's first byte. The list of refs
    /// counts like the pack.
    const GREETINGS: u64 = 1 << 20;
    // Overhead of TLS, SSH and git's protocol around the pack.
    let wrapping = content / 32;
    let about = (objects as u64).saturating_mul(ABOUT_AN_OBJECT);
    [wrapping, GREETINGS, about].into_iter().fold(content, u64::saturating_add)
}

/// Adds the failed step to a system error. For `map_err`.
fn at(step: &'static str) -> impl FnOnce(io::Error) -> WorkerError {
    move |source| WorkerError::Start { step: step.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_worker_of_root_is_refused_without_namespaces_and_landlock() {
        assert_eq!(check_landlock(landlock::NOT_ENFORCED).unwrap_err().kind(), Kind::FailedPrecondition);
        assert!(check_landlock("partial").is_ok() && check_landlock("full").is_ok());
    }
}
