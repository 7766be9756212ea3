//! The requests that a server answers.

use super::hello::Capabilities;
use super::packet::DELIMITER;
use super::packet::FLUSH;
use super::packet::append;
use crate::spec::CommitId;

/// Named to the server. It must be a single word.
pub(super) const AGENT: &str = concat!("git/2.0-gitrepo-", env!("CARGO_PKG_VERSION"));

/// The depth of a whole history, even if a repository is shallow (git's own `INFINITE_DEPTH`).
pub(super) const WHOLE: u32 = i32::MAX as u32;

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub(super) struct Wants {
    /// The objects.
    pub(super) objects: Vec<CommitId>,
    /// Commits that are here, with all that they need.
    pub(super) haves: Vec<CommitId>,
    /// Commits whose parents are not here.
    pub(super) shallow: Vec<CommitId>,
    /// Commits of history; 0 for all that is not here.
    pub(super) depth: u32,
    /// How much of what the objects lead to.
    pub(super) share: Share,
}

/// How much is wanted of what an object leads to, if the server can leave something out (rev-list(1), `--filter`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Share {
    /// All of it.
    #[default]
    All,
    /// No blob that is not named.
    Trees,
    /// No tree and no blob that is not named. Then no delta is wanted that builds on something here.
    Alone,
}

impl Share {
    /// The line that asks for it.
    fn filter(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Trees => Some("filter blob:none\n"),
            Self::Alone => Some("filter tree:0\n"),
        }
    }
}

impl Wants {
    /// Wants the whole history, of a server that cannot cut it.
    pub(super) fn whole(&mut self) {
        self.depth = 0;
        self.shallow.clear();
    }
}

/// Asks for the refs that begin with one of `prefixes`, or for all (gitprotocol-v2(5), ls-refs).
pub(super) fn refs(capabilities: &Capabilities, prefixes: &[String]) -> Vec<u8> {
    let mut message = command("ls-refs", capabilities);
    append(&mut message, "peel\n");
    append(&mut message, "symrefs\n");
    if capabilities.has_feature("ls-refs", "unborn") {
        append(&mut message, "unborn\n");
    }
    for prefix in prefixes {
        append(&mut message, &format!("ref-prefix {prefix}\n"));
    }
    message.extend_from_slice(FLUSH);
    message
}

/// Asks for a pack (gitprotocol-v2(5), fetch). Everything is said at once, so the server does not negotiate.
pub(super) fn pack(capabilities: &Capabilities, wants: &Wants) -> Vec<u8> {
    let mut message = command("fetch", capabilities);
    append(&mut message, "no-progress\n");
    if wants.share != Share::Alone {
        append(&mut message, "thin-pack\n");
        append(&mut message, "ofs-delta\n");
    }
    for id in &wants.shallow {
        append(&mut message, &format!("shallow {id}\n"));
    }
    if wants.depth > 0 {
        append(&mut message, &format!("deepen {}\n", wants.depth));
    }
    if let Some(filter) = wants.share.filter()
        && capabilities.has_feature("fetch", "filter")
    {
        append(&mut message, filter);
    }
    for id in &wants.objects {
        append(&mut message, &format!("want {id}\n"));
    }
    for id in &wants.haves {
        append(&mut message, &format!("have {id}\n"));
    }
    append(&mut message, "done\n");
    message.extend_from_slice(FLUSH);
    message
}

/// Asks for a pack before version 2 (gitprotocol-pack(5)). `multi_ack` is not asked for, so there is one
/// acknowledgement.
pub(super) fn old_pack(capabilities: &Capabilities, wants: &Wants) -> Vec<u8> {
    let mut message = Vec::new();
    let plain = ["side-band-64k", "no-progress", "shallow"];
    // Dulwich, which does not name itself, fails unless the client takes deltas, even for a single commit, which never
    // comes as one.
    let needs_deltas = !capabilities.has("agent");
    let deltas = (wants.share != Share::Alone || needs_deltas).then_some(["ofs-delta", "thin-pack"]);
    let filter = wants.share.filter();
    let known = plain.into_iter().chain(deltas.into_iter().flatten()).chain(filter.map(|_| "filter"));
    let mut features: String =
        known.filter(|feature| capabilities.has(feature)).flat_map(|feature| [" ", feature]).collect();
    if capabilities.has("agent") {
        features.push_str(&format!(" agent={AGENT}"));
    }
    for (index, id) in wants.objects.iter().enumerate() {
        let features = if index == 0 { features.as_str() } else { "" };
        append(&mut message, &format!("want {id}{features}\n"));
    }
    for id in &wants.shallow {
        append(&mut message, &format!("shallow {id}\n"));
    }
    if wants.depth > 0 {
        append(&mut message, &format!("deepen {}\n", wants.depth));
    }
    if let Some(filter) = filter
        && capabilities.has("filter")
    {
        append(&mut message, filter);
    }
    message.extend_from_slice(FLUSH);
    for id in &wants.haves {
        append(&mut message, &format!("have {id}\n"));
    }
    append(&mut message, "done\n");
    message
}

fn command(name: &str, capabilities: &Capabilities) -> Vec<u8> {
    let mut message = Vec::new();
    append(&mut message, &format!("command={name}\n"));
    if capabilities.has("agent") {
        append(&mut message, &format!("agent={AGENT}\n"));
    }
    if capabilities.has("object-format") {
        append(&mut message, "object-format=sha1\n");
    }
    message.extend_from_slice(DELIMITER);
    message
}
