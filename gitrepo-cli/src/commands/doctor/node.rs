//! The node: kernel, mounts, confinement, certificates, names and host keys.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::HostKeys;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::mount::linux::Backing;
use gitrepo_core::mount::linux::ImageSupport;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::system_authorities;
use nix::unistd::geteuid;

use super::check::Check;
use super::check::within;
use super::propagation::mount_of;

/// Checks what the kernel has.
pub(super) fn kernel() -> Vec<Check> {
    let kernel = match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => Check::ok("kernel", format!("Linux {}", release.trim())),
        Err(error) => Check::warn("kernel", format!("its release is unknown: {error}"), "is /proc mounted?"),
    };
    let mounts = match Strategy::of_this_kernel() {
        Strategy::Detached => Check::ok("mount interface", "mounts get their flags before they are visible"),
        Strategy::PrivateDirectory => Check::warn(
            "mount interface",
            "no mount_setattr: mounts are made in a private directory, and moved",
            "it is in Linux 5.12 and newer; in a container, its filter may hide it. Volumes work without it",
        ),
    };
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    let filesystem = |name: &'static str, purpose: &str| match has(name) {
        true => Check::ok(name, "the kernel has it"),
        false => Check::warn(
            name,
            format!("/proc/filesystems does not name it; {purpose}"),
            format!("load the module (modprobe {name}), or use a kernel that has it"),
        ),
    };
    let loop_devices = match Path::new("/dev/loop-control").exists() {
        true => Check::ok("loop devices", "/dev/loop-control is there"),
        false => Check::warn(
            "loop devices",
            "there is no /dev/loop-control: images need a kernel that mounts them from files",
            "load the module (modprobe loop), and give the driver's container the host's /dev",
        ),
    };
    vec![
        kernel,
        mounts,
        filesystem("erofs", "without it, read-only volumes are directories of plain files"),
        filesystem("overlay", "without it, writable volumes are copies"),
        loop_devices,
    ]
}

/// Checks the rest of the node. `volumes` are those of a store that can be used.
pub(super) fn system(
    config: &Config,
    kubelet_dir: &Path,
    volumes: Option<&Arc<Volumes>>,
    cancel: &Cancel,
    limit: Duration,
) -> Vec<Check> {
    let mut checks = vec![user()];
    if let Some(volumes) = volumes {
        let (shared, choice) = (Arc::clone(volumes), config.snapshot_format);
        checks.push(within("format", limit, move || format(&shared, choice)).unwrap_or_else(|check| check));
        let shared = Arc::clone(volumes);
        checks.push(within("writable volumes", limit, move || writable(&shared)).unwrap_or_else(|check| check));
        let shared = Arc::clone(volumes);
        checks.push(within("writable limit", limit, move || writable_limit(&shared)).unwrap_or_else(|check| check));
    }
    let kubelet = kubelet_dir.to_owned();
    checks.push(within("mount propagation", limit, move || propagation(&kubelet)).unwrap_or_else(|check| check));
    let (gateway, watch) = (Gateway::confined(config.clone()), Watch::until(cancel.within(limit)));
    let confined = within("confinement", limit, move || confinement(&gateway, &watch));
    checks.push(confined.unwrap_or_else(|check| check));
    let owned = config.clone();
    match within("files", limit, move || vec![authorities(&owned), name_servers(), host_keys(&owned)]) {
        Ok(found) => checks.extend(found),
        Err(check) => checks.push(check),
    }
    checks
}

fn user() -> Check {
    match geteuid().is_root() {
        true => Check::ok("user", "root"),
        false => Check::warn("user", format!("uid {}", geteuid()), "only root can mount; clone and resolve work"),
    }
}

/// Tries to mount an image, unless the configuration wants none.
fn format(volumes: &Volumes, choice: SnapshotChoice) -> Check {
    let serving = volumes.serving();
    match (serving.format, serving.without_images) {
        (Format::Image, None) => {
            let mounter = LinuxMounter::new(volumes.store().mounting());
            let how = match mounter.image_support(volumes.store().root()) {
                Ok(ImageSupport { backing: Backing::Files, .. }) => " that the kernel mounts from their files",
                Ok(ImageSupport { backing: Backing::LoopDevices, .. }) => " that are mounted through loop devices",
                Err(_) => "",
            };
            Check::ok("format", format!("read-only volumes are images{how}"))
        }
        (Format::Image, Some(reason)) => Check::fail(
            "format",
            Kind::FailedPrecondition,
            format!("the configuration demands images, and they cannot be mounted: {reason}"),
            "set \"snapshotFormat\": \"auto\", or give the node what the reason names",
        ),
        (_, reason) if choice == SnapshotChoice::Directory => {
            Check::ok("format", format!("read-only volumes are directories: {}", reason.unwrap_or_default()))
        }
        (_, reason) => Check::warn(
            "format",
            format!("read-only volumes are directories: {}", reason.unwrap_or_default()),
            "volumes work; images need EROFS, and Linux 6.12 or loop devices (docs/configuration.md, snapshotFormat)",
        ),
    }
}

/// Tries to mount an overlay.
fn writable(volumes: &Volumes) -> Check {
    const NAME: &str = "writable volumes";
    match volumes.without_overlays() {
        None => {
            let kinds = match volumes.serving().format {
                Format::Image => "writable volumes are overlays",
                _ => "writable volumes are overlays, and copies if they have a uid or a group",
            };
            let mapped = match volumes.can_replace_layers() {
                true => "pods with hostUsers: false get copies, with FlexVolume only if they say writable: copy",
                false => {
                    "pods with hostUsers: false need writable: copy, because this kernel cannot replace a mount (Linux 6.5 can)"
                }
            };
            Check::ok(NAME, format!("{kinds}; {mapped}"))
        }
        Some(reason) => Check::warn(
            NAME,
            format!("writable volumes are copies: {reason}"),
            "volumes work; overlays need a store on a filesystem that takes their layers, such as ext4 or XFS",
        ),
    }
}

/// Tries to limit a file by a project quota.
fn writable_limit(volumes: &Volumes) -> Check {
    const NAME: &str = "writable limit";
    match volumes.without_quota() {
        None => Check::ok(NAME, "project quotas keep writable volumes within limits.writableBytes"),
        Some(reason) => Check::ok(
            NAME,
            format!(
                "gitrepo-csi measures writable volumes, and nothing stops a write at limits.writableBytes: {reason}"
            ),
        ),
    }
}

fn propagation(kubelet_dir: &Path) -> Check {
    const NAME: &str = "mount propagation";
    // A driver's container has only this part of the kubelet's directory.
    let pods = fs::canonicalize(kubelet_dir.join("pods"));
    let Ok(directory) = pods.or_else(|_| fs::canonicalize(kubelet_dir)) else {
        let detail = format!("there is no {}", kubelet_dir.display());
        return Check::warn(NAME, detail, "--kubelet-dir names the kubelet's directory, if this is a node");
    };
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mount_of(&directory, &table) {
        Some(on) if on.shared => {
            Check::ok(NAME, format!("mounts below {} reach other mount namespaces", directory.display()))
        }
        Some(on) => Check::fail(
            NAME,
            Kind::FailedPrecondition,
            format!(
                "{} is on {}, which is not shared: no pod sees the volumes",
                directory.display(),
                on.mount.display()
            ),
            "mountPropagation: Bidirectional for the driver's container; on the host, mount --make-rshared",
        ),
        None => Check::warn(NAME, "the mount table does not name the directory", "is /proc mounted?"),
    }
}

/// Starts a worker that does nothing.
fn confinement(gateway: &Gateway, watch: &Watch) -> Check {
    const NAME: &str = "confinement";
    let url = match RepositoryUrl::parse("https://git.example.com/a") {
        Ok(url) => url,
        Err(error) => return Check::fail(NAME, Kind::Internal, chain(&error), "report this"),
    };
    let confinement = match gateway.try_confinement(&url, watch) {
        Ok(Some(confinement)) => confinement,
        Ok(None) => return Check::warn(NAME, "workers run in this process", "use the released program"),
        Err(error) => {
            let advice = "workers need CAP_SYS_ADMIN or a kernel with Landlock (Linux 5.13); see the log with -vv";
            return Check::fail(NAME, error.kind(), chain(&error), advice);
        }
    };
    let landlock = &confinement.landlock;
    let detail = match confinement.namespaces {
        true => format!("namespaces of its own; Landlock: {landlock}"),
        false => format!("no namespaces; Landlock: {landlock}"),
    };
    match (confinement.namespaces, landlock.as_str()) {
        (true, "full" | "partial") => Check::ok(NAME, detail),
        (true, _) => Check::warn(NAME, detail, "enable Landlock (kernel parameter lsm=landlock,…), a second defence"),
        (false, _) => Check::warn(
            NAME,
            detail,
            "give the program CAP_SYS_ADMIN, or allow user namespaces: then a worker sees only its own files",
        ),
    }
}

fn authorities(config: &Config) -> Check {
    const NAME: &str = "certificate authorities";
    let Some(path) = config.ca_file.clone().or_else(system_authorities) else {
        let advice = "install the package ca-certificates, or name a bundle in caFile";
        return Check::fail(NAME, Kind::FailedPrecondition, "this system has no bundle: https will not work", advice);
    };
    match fs::read_to_string(&path) {
        Ok(text) => match text.matches("-----BEGIN CERTIFICATE-----").count() {
            0 => {
                let detail = format!("{} has no certificate", path.display());
                Check::fail(NAME, Kind::FailedPrecondition, detail, "name a bundle of PEM certificates in caFile")
            }
            count => Check::ok(NAME, format!("{count} in {}", path.display())),
        },
        Err(error) => {
            let detail = format!("cannot read {}: {error}", path.display());
            Check::fail(NAME, Kind::FailedPrecondition, detail, "check caFile and the file's mode")
        }
    }
}

fn name_servers() -> Check {
    const NAME: &str = "name servers";
    let servers = |text: String| {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        lines.map(|server| server.trim().to_owned()).collect::<Vec<_>>()
    };
    match fs::read_to_string("/etc/resolv.conf").map(servers) {
        Ok(servers) if !servers.is_empty() => Check::ok(NAME, servers.join(", ")),
        Ok(_) => Check::warn(NAME, "/etc/resolv.conf names none", "only names in /etc/hosts can be resolved"),
        Err(error) => {
            let advice = "mount the host's /etc/resolv.conf, or set dnsPolicy in the driver's pod";
            Check::warn(NAME, format!("cannot read /etc/resolv.conf: {error}"), advice)
        }
    }
}

fn host_keys(config: &Config) -> Check {
    const NAME: &str = "host keys";
    let built_in = "those of github.com, gitlab.com and bitbucket.org are built in";
    let Some(path) = &config.host_keys.file else {
        return Check::ok(NAME, format!("no file is configured; {built_in}"));
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            let count = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
            match HostKeys::new(config.host_keys.checking).with_file(text) {
                Ok(_) => Check::ok(NAME, format!("{count} lines in {}; {built_in}", path.display())),
                Err(error) => Check::fail(
                    NAME,
                    Kind::FailedPrecondition,
                    format!("{} has no valid line: {}", path.display(), chain(&error)),
                    "write it as ssh-keyscan prints it, and compare the fingerprints",
                ),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(NAME, format!("{} does not exist; {built_in}", path.display()))
        }
        Err(error) => {
            let detail = format!("cannot read {}: {error}", path.display());
            Check::fail(NAME, Kind::FailedPrecondition, detail, "check hostKeys.file and the file's mode")
        }
    }
}
