//! Landlock: a second line of defence for paths, ports and signals, and the first without namespaces.

use std::path::Path;
use std::path::PathBuf;

use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::BitFlags;
use landlock::NetPort;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreatedAttr;
use landlock::RulesetError;
use landlock::RulesetStatus;
use landlock::Scope;

use super::namespace;
use super::namespace::Entered;
use super::protocol::Plan;

/// The newest supported rules; an older kernel enforces those it knows.
const NEWEST: ABI = ABI::V6;

/// The answer of [`restrict`] on a kernel without Landlock.
pub(super) const NOT_ENFORCED: &str = "none";

/// Files read to resolve a name, check a certificate or start a thread on a host without namespaces.
const SYSTEM: &[&str] = &[
    "/dev/null",
    "/dev/urandom",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/sys/devices/system/cpu",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
];

/// Long DNS responses come over TCP.
const DNS: u16 = 53;

/// Restricts this process permanently. Returns how much of it the kernel enforces.
pub(super) fn restrict(plan: &Plan, entered: Entered) -> Result<&'static str, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let (readable, writable) = if entered.namespaces { inside(plan) } else { outside(plan) };
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (paths, access) in [(readable, read), (writable, read | write())] {
        for path in paths {
            // A missing path need not be allowed.
            if let Ok(place) = PathFd::new(&path) {
                let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
                ruleset = ruleset.add_rule(PathBeneath::new(place, access))?;
            }
        }
    }
    if let Some(host) = &plan.host {
        ruleset = ruleset.add_rule(NetPort::new(host.port, AccessNet::ConnectTcp))?;
        if !entered.namespaces {
            ruleset = ruleset.add_rule(NetPort::new(DNS, AccessNet::ConnectTcp))?;
        }
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => NOT_ENFORCED,
    })
}

/// Returns the rights to write a fetch and a tree of regular files, directories and links.
fn write() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Returns the readable and the writable paths in the worker's own root, which contains nothing else.
fn inside(plan: &Plan) -> (Vec<PathBuf>, Vec<PathBuf>) {
    (vec!["/".into()], plan.staging.iter().map(|_| namespace::STAGING.into()).collect())
}

fn outside(plan: &Plan) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let source = plan.source.as_ref().map(|source| &source.path);
    let of_the_job = [source, plan.base.as_ref(), plan.kept.as_ref(), plan.ca_file.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::from);
    let readable = SYSTEM.iter().map(Path::new).map(Path::to_owned).chain(of_the_job).collect();
    (readable, plan.staging.iter().map(PathBuf::from).collect())
}
