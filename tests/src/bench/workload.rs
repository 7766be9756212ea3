//! Repositories of a given size and shape, made from a seed and kept for the next run.

use std::fmt;
use std::fs;
use std::io;
use std::io::BufWriter;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use crate::git;
use crate::repository::Repository;

pub mod source;
mod stream;

/// To be raised with every change of what the generator writes, so that kept repositories are not used any more.
const GENERATION: u32 = 2;

/// The shape of a repository. The same shape gives the same commit ids on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// The repository's name.
    pub name: &'static str,
    /// Where the random numbers start.
    pub seed: u64,
    /// Files in each commit.
    pub files: usize,
    /// Size of all files of the first commit; later ones add a line here and there.
    pub bytes: u64,
    /// Commits of `main`. Each but the first changes one file in a hundred, and at least one.
    pub commits: usize,
    /// Commits, counted from the last one, with a branch of their own: `at/0` is the last one.
    pub branches: usize,
    /// Further refs: half of them `refs/changes/…`, half branches `many/…`. All name the last commit.
    pub refs: usize,
}

impl Workload {
    /// 3,000 files, 21 MB: an ordinary project.
    pub const SMALL: Self =
        Self { name: "small", seed: 1, files: 3_000, bytes: 21_000_000, commits: 100, branches: 100, refs: 0 };
    /// 30,000 files, 304 MB: a large one.
    pub const LARGE: Self =
        Self { name: "large", seed: 2, files: 30_000, bytes: 304_000_000, commits: 10, branches: 0, refs: 0 };
    /// 50,000 refs, as code review makes them.
    pub const REFS: Self =
        Self { name: "refs", seed: 3, files: 50, bytes: 350_000, commits: 2, branches: 0, refs: 50_000 };
    /// 10,000 commits over a small tree.
    pub const HISTORY: Self =
        Self { name: "history", seed: 4, files: 50, bytes: 350_000, commits: 10_000, branches: 0, refs: 0 };

    /// The same shape with one in `divisor` files, commits of a long history, and refs.
    #[must_use]
    pub fn divided(self, divisor: usize) -> Self {
        let part = |count: usize, least: usize| count.min((count / divisor).max(least));
        Self {
            files: part(self.files, 50),
            bytes: self.bytes * part(self.files, 50) as u64 / self.files as u64,
            commits: part(self.commits, 100),
            refs: part(self.refs, 100),
            ..self
        }
    }

    /// Its size in words.
    pub fn describe(&self) -> String {
        match self {
            Self { refs: 1.., .. } => format!("{} refs", grouped(self.refs)),
            Self { commits: 101.., .. } => format!("{} commits", grouped(self.commits)),
            _ => format!("{} files, {} MB", grouped(self.files), self.bytes.div_ceil(1_000_000)),
        }
    }

    /// A branch that names the last commit, among all others.
    pub fn branch(&self) -> String {
        match self.refs {
            0 => "main".to_owned(),
            refs => format!("many/{:06}", refs / 2 + refs / 4),
        }
    }

    /// A copy of the repository that the caller may change. It is generated on first use, and kept in `cache`.
    pub fn repository(&self, cache: &Path) -> Repository {
        let kept = cache.join(self.to_string());
        if !kept.exists() {
            fs::create_dir_all(cache).unwrap();
            let place = TempDir::with_prefix_in("generating-", cache).unwrap();
            let whole = place.path().join("whole");
            copy(&self.generate().path(), &whole);
            fs::rename(whole, &kept).unwrap();
        }
        let repository = Repository::new(self.name);
        copy(&kept, &repository.path());
        repository
    }

    /// Generates the repository, packed as servers pack theirs: the last version of a file is whole, older ones are deltas.
    pub fn generate(&self) -> Repository {
        let repository = Repository::new(self.name);
        let mut import = repository.git(["fast-import", "--quiet", "--done"]);
        let mut child = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
        self.write_stream(&mut input).and_then(|()| io::Write::flush(&mut input)).expect("git fast-import reads");
        drop(input);
        assert!(child.wait().unwrap().success(), "git fast-import failed");
        git::output(&mut repository.git(["repack", "-a", "-d", "-f", "-q"]));
        if self.refs > 0 {
            repository.add_refs(self.refs, &repository.resolve("main"));
        }
        repository
    }

    /// Writes the stream that `git fast-import` makes the repository of.
    ///
    /// # Errors
    ///
    /// Those of `writer`.
    pub fn write_stream(&self, writer: &mut impl io::Write) -> io::Result<()> {
        stream::write(self, writer)
    }
}

/// A name that no other shape has.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, files, bytes, commits, branches, refs } = self;
        write!(f, "{name}-{files}-{bytes}-{commits}-{branches}-{refs}-{seed}.{GENERATION}.git")
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let content: PathBuf = from.join(".");
    git::output(Command::new("cp").arg("-a").arg(content).arg(to));
}

/// A number below a million, as people write it.
fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
