//! Parts of a secret in the memory of a process.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// How many bytes of a secret in a row count as a part of it.
const PIECE: usize = 16;

/// Secrets, to look for in memory: plain, in base64, or any part of either.
pub struct Residue {
    pieces: HashSet<[u8; PIECE]>,
    /// The first two bytes of all pieces, so that few places of the memory need a closer look.
    beginnings: Vec<bool>,
}

impl Residue {
    /// Of these secrets. They must look like nothing else that the process has.
    pub fn of(secrets: &[&str]) -> Self {
        let encoded = secrets.iter().map(|secret| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, secret));
        let texts = secrets.iter().map(|secret| (*secret).to_owned()).chain(encoded);
        let pieces: HashSet<[u8; PIECE]> = texts
            .flat_map(|text| text.as_bytes().windows(PIECE).map(|piece| piece.try_into().unwrap()).collect::<Vec<_>>())
            .collect();
        assert!(!pieces.is_empty(), "secrets shorter than {PIECE} bytes");
        let mut beginnings = vec![false; 1 << 16];
        pieces.iter().for_each(|piece| beginnings[usize::from(u16::from_be_bytes([piece[0], piece[1]]))] = true);
        Self { pieces, beginnings }
    }

    /// Looks through all readable memory of a process. Returns each place with a part of a secret: the mapping, the
    /// address, and what stands there.
    pub fn in_memory(&self, pid: u32) -> Vec<String> {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let mappings = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        mappings.lines().flat_map(|mapping| self.in_mapping(&memory, mapping)).collect()
    }

    fn in_mapping(&self, memory: &File, mapping: &str) -> Vec<String> {
        // See proc_pid_maps(5). The kernel's own pages cannot be read through `mem`.
        let mut fields = mapping.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let name = fields.nth(3).unwrap_or("anonymous");
        if !rights.starts_with('r') || ["[vvar]", "[vvar_vclock]", "[vsyscall]"].contains(&name) {
            return Vec::new();
        }
        let address = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = range.split_once('-').map(|(start, end)| (address(start), address(end))).unwrap();
        let mut content = vec![0; (end - start).try_into().unwrap()];
        // A thread that has ended takes its stack along.
        let read = memory.read_at(&mut content, start).unwrap_or(0);
        content.truncate(read);
        let mut found = Vec::new();
        let mut at = 0;
        while at + PIECE <= content.len() {
            if self.is_piece(&content[at..at + PIECE]) {
                let shown = content[at..content.len().min(at + 80)].escape_ascii();
                found.push(format!("{name} {:#x}: {shown}", start + at as u64));
                at += 80;
            } else {
                at += 1;
            }
        }
        found
    }

    fn is_piece(&self, bytes: &[u8]) -> bool {
        self.beginnings[usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))] && self.pieces.contains(bytes)
    }
}
