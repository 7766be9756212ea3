//! The ways to get a tree.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::bench::goals;

use crate::bench::Bench;
use crate::bench::Words;
use crate::bench::text;

/// One way to get the tree of a branch into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// All of the repository.
    Clone,
    /// The last commit alone.
    Shallow,
    /// A FlexVolume in bash, `piersharding/gitrepo`: a clone of one branch, bound to the target.
    BashDriver,
    /// Kubernetes' own volume `gitRepo`: a clone, a checkout and a reset.
    InTree,
    /// `git-sync --one-time`, version 4.
    GitSync,
    /// This project, `snapshotFormat: image`.
    Image,
    /// This project, `snapshotFormat: directory`.
    Directory,
}

/// What kubelet runs for a volume `gitRepo` with a revision: URL, directory, revision.
const IN_TREE: &str =
    "git clone --quiet -- \"$1\" \"$2\" && cd \"$2\" && git checkout --quiet \"$3\" && git reset --quiet --hard";
/// URL, cache, branch, target.
const BASH: &str =
    "git clone --quiet --single-branch --branch \"$3\" \"$1\" \"$2\" && mkdir -p \"$4\" && mount --bind \"$2\" \"$4\"";

impl Contender {
    pub(crate) const ALL: [Self; 7] =
        [Self::Clone, Self::Shallow, Self::BashDriver, Self::InTree, Self::GitSync, Self::Image, Self::Directory];
    pub(crate) const OURS: [Self; 2] = [Self::Image, Self::Directory];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clone => "git clone",
            Self::Shallow => goals::SHALLOW,
            Self::BashDriver => "bash driver",
            Self::InTree => "in-tree gitRepo",
            Self::GitSync => "git-sync --one-time",
            Self::Image => goals::IMAGE,
            Self::Directory => goals::DIRECTORY,
        }
    }

    /// The value of `snapshotFormat`, if it is this project.
    pub(crate) fn format(self) -> Option<&'static str> {
        match self {
            Self::Image => Some("image"),
            Self::Directory => Some("directory"),
            _ => None,
        }
    }

    /// The command that makes the branch's tree appear, with everything it needs below `place`.
    pub(crate) fn get(self, bench: &Bench, url: &str, branch: &str, place: &Path) -> Words {
        let tree = self.tree(place);
        let cache = place.join("cache");
        let words: &[&str] = match self {
            Self::Clone => &["git", "clone", "--quiet", "--branch", branch, url, text(&tree)],
            Self::Shallow => &["git", "clone", "--quiet", "--depth", "1", "--branch", branch, url, text(&tree)],
            Self::BashDriver => &["sh", "-c", BASH, "sh", url, text(&cache), branch, text(&tree)],
            Self::InTree => &["sh", "-c", IN_TREE, "sh", url, text(&tree), branch],
            Self::GitSync => &[
                text(&bench.git_sync),
                "--one-time",
                "--depth=1",
                &format!("--repo={url}"),
                &format!("--ref={branch}"),
                &format!("--root={}", text(place)),
                "--link=tree",
            ],
            Self::Image | Self::Directory => {
                return self
                    .mount(bench, &Mount { url, revision: branch, place, name: "tree", more: &[], stale: false });
            }
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Where the tree appears.
    pub(crate) fn tree(self, place: &Path) -> PathBuf {
        place.join("tree")
    }

    /// `gitrepo-cli mount`.
    pub(crate) fn mount(self, bench: &Bench, mount: &Mount<'_>) -> Words {
        let target = mount.place.join(mount.name);
        let configuration = bench.configuration(self.format().unwrap(), mount.stale);
        let mut arguments = vec!["mount", mount.url, text(&target), "--revision", mount.revision];
        let store = mount.place.join("store");
        arguments.extend(["--config", text(&configuration), "--store", text(&store)]);
        arguments.extend(mount.more);
        bench.cli(&arguments)
    }

    /// `gitrepo-cli unmount`.
    pub(crate) fn unmount(self, bench: &Bench, place: &Path, name: &str) -> Words {
        let configuration = bench.configuration(self.format().unwrap(), false);
        let (target, store) = (place.join(name), place.join("store"));
        bench.cli(&["unmount", text(&target), "--config", text(&configuration), "--store", text(&store)])
    }

    /// Takes the tree away as the driver does when its pod ends: what else it keeps stays.
    pub(crate) fn hide(self, bench: &Bench, place: &Path) -> Words {
        let tree = self.tree(place);
        match self {
            Self::Image | Self::Directory => self.unmount(bench, place, "tree"),
            Self::BashDriver => ["umount", text(&tree)].map(str::to_owned).into(),
            _ => ["rm", "-rf", text(&tree)].map(str::to_owned).into(),
        }
    }

    /// Deletes what is kept once nothing shows it.
    pub(crate) fn delete(self, bench: &Bench, place: &Path) -> Words {
        match self.format() {
            None => ["rm", "-rf", text(place)].map(str::to_owned).into(),
            Some(format) => {
                let configuration = bench.configuration(format, false);
                let store = place.join("store");
                bench.cli(&["sweep", "--unreferenced", "--config", text(&configuration), "--store", text(&store)])
            }
        }
    }

    /// A fresh directory for what it needs.
    pub(crate) fn place(self, bench: &Bench, round: &str) -> PathBuf {
        let place = bench.place(&format!("{self:?}-{round}"));
        fs::create_dir(&place).unwrap();
        place
    }
}

/// The arguments of `gitrepo-cli mount`.
pub(crate) struct Mount<'a> {
    pub(crate) url: &'a str,
    pub(crate) revision: &'a str,
    pub(crate) place: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) more: &'a [&'a str],
    pub(crate) stale: bool,
}
