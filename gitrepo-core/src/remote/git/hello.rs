//! A server's first words: the protocol's version, what the server can do, and before version 2 all its refs.

use std::collections::BTreeSet;

use super::answer::AnswerError;
use super::answer::commit_id;
use super::answer::nonsense;
use super::packet::Packet;
use super::packet::Packets;
use super::packet::text;
use crate::pack::MOST_BOUNDARIES;
use crate::remote::advertisement::Advertisement;
use crate::spec::CommitId;

/// What a server says on connecting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: Version,
    pub(super) capabilities: Capabilities,
}

/// Which protocol the server speaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The list of refs was sent at once (gitprotocol-pack(5)). Version 1 differs by its first line alone.
    Zero {
        refs: Advertisement,
        /// Commits whose parents the server does not have.
        shallow: BTreeSet<CommitId>,
    },
    /// Refs are asked for (gitprotocol-v2(5)).
    Two,
}

/// What a server can do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(Vec<String>);

impl Capabilities {
    /// Whether the server names this one, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some() || self.0.iter().any(|capability| capability == name)
    }

    /// Whether the value of `name` has this word.
    pub(super) fn has_feature(&self, name: &str, feature: &str) -> bool {
        self.values(name).any(|value| value.split(' ').any(|word| word == feature))
    }

    /// What comes after `name=`.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |capability| capability.strip_prefix(name)?.strip_prefix('='))
    }

    /// The hash of object ids, if it is not SHA-1.
    pub(super) fn foreign_hash(&self) -> Option<&str> {
        let mut formats = self.values("object-format").peekable();
        let first = *formats.peek()?;
        if formats.any(|format| format == "sha1") { None } else { Some(first) }
    }

    /// Those of the first line before version 2, separated by spaces.
    fn of_line(line: &[u8]) -> Self {
        let words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        Self(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }
}

/// Most capabilities of a server. git has some ten.
const MOST_CAPABILITIES: usize = 256;

impl Hello {
    /// Reads a server's first words, up to the flush.
    ///
    /// # Errors
    ///
    /// If these are not the first words of a git server.
    pub(super) fn read(packets: &mut Packets<'_>) -> Result<Self, AnswerError> {
        let mut first = line(packets)?;
        // Smart HTTP names the service first (gitprotocol-http(5)).
        if first.as_deref().is_some_and(|line| line.starts_with(b"# service=")) {
            // A flush follows. Some servers leave it out.
            first = line(packets)?;
            if first.is_none() {
                first = line(packets)?;
            }
        }
        match first.as_deref() {
            Some(b"version 2") => Self::read_two(packets),
            Some(b"version 1") => {
                let first = line(packets)?;
                Self::read_zero(packets, first)
            }
            _ => Self::read_zero(packets, first),
        }
    }

    /// Whether the server gives out commits that no ref stands at. In version 2, every one does.
    pub(super) fn gives_commits_by_id(&self) -> bool {
        let by_id = ["allow-reachable-sha1-in-want", "allow-any-sha1-in-want"];
        self.version == Version::Two || by_id.iter().any(|capability| self.capabilities.has(capability))
    }

    fn read_two(packets: &mut Packets<'_>) -> Result<Self, AnswerError> {
        let mut capabilities = Vec::new();
        while let Some(line) = line(packets)? {
            if capabilities.len() == MOST_CAPABILITIES {
                return Err(nonsense("it names too many capabilities"));
            }
            capabilities.push(String::from_utf8_lossy(&line).into_owned());
        }
        Ok(Self { version: Version::Two, capabilities: Capabilities(capabilities) })
    }

    fn read_zero(packets: &mut Packets<'_>, first: Option<Vec<u8>>) -> Result<Self, AnswerError> {
        let mut refs = Advertisement::default();
        let mut shallow = BTreeSet::new();
        let mut capabilities = Capabilities::default();
        let mut is_first = true;
        let mut next = first;
        while let Some(line) = next {
            let mut entry = line.as_slice();
            if is_first && let Some(end) = line.iter().position(|byte| *byte == 0) {
                capabilities = Capabilities::of_line(&line[end + 1..]);
                entry = &line[..end];
            }
            if is_first && capabilities.foreign_hash().is_some() {
                return Ok(Self { version: Version::Zero { refs, shallow }, capabilities });
            }
            is_first = false;
            if let Some(id) = entry.strip_prefix(b"shallow ") {
                shallow.insert(commit_id(id)?);
                if shallow.len() > MOST_BOUNDARIES {
                    return Err(nonsense("its history is cut in too many places"));
                }
            } else {
                let (id, name) = entry.split_at_checked(40).ok_or_else(|| nonsense("a ref's line is too short"))?;
                let name = name.strip_prefix(b" ").ok_or_else(|| nonsense("a ref's line has no name"))?;
                refs.add(name, commit_id(id)?, None, None)?;
            }
            next = self::line(packets)?;
        }
        for symref in capabilities.values("symref") {
            if let Some(("HEAD", target)) = symref.split_once(':') {
                refs.set_default_branch(target.as_bytes());
            }
        }
        Ok(Self { version: Version::Zero { refs, shallow }, capabilities })
    }
}

/// A line; `None` is the flush.
fn line(packets: &mut Packets<'_>) -> Result<Option<Vec<u8>>, AnswerError> {
    match packets.next()? {
        Packet::Data(data) => match text(data).strip_prefix(b"ERR ") {
            Some(words) => Err(AnswerError::said(words)),
            None => Ok(Some(text(data).to_vec())),
        },
        Packet::Flush => Ok(None),
        Packet::Delimiter | Packet::ResponseEnd => Err(nonsense("a list of refs does not end like this")),
    }
}
