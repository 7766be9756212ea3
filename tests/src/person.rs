//! A person at a shell, with a home, a drawer of secrets, and `gitrepo-cli`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::unistd::Uid;
use tempfile::TempDir;

use crate::program::Outcome;
use crate::program::Program;
use crate::program::Running;

/// The user `nobody`, who owns nothing on any machine.
pub const NOBODY: u32 = 65534;

/// One person. All input of the program lies outside of the home, so the home contains only what the program created.
pub struct Person {
    program: Program,
    drawer: TempDir,
    uid: Uid,
}

impl Person {
    /// The user who runs the tests.
    pub fn new() -> Self {
        Self::with(Program::cli(), nix::unistd::geteuid())
    }

    /// A user without any rights. Only root can become [`NOBODY`].
    pub fn nobody() -> Self {
        Self::of(NOBODY)
    }

    /// The user of this number, who need not be known by a name. Only root can become them.
    pub fn of(uid: u32) -> Self {
        let uid = Uid::from_raw(uid);
        Self::with(Program::cli().run_by(uid), uid)
    }

    /// The same person, in a container whose runtime forbids new namespaces.
    #[must_use]
    pub fn without_namespaces(self) -> Self {
        Self { program: self.program.without_namespaces(), ..self }
    }

    fn with(program: Program, uid: Uid) -> Self {
        let drawer = TempDir::with_prefix("gitrepo-drawer-").unwrap();
        let scratch = drawer.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let person = Self { program: program.env("TMPDIR", &scratch), drawer, uid };
        person.hand_over(person.drawer.path());
        person.hand_over(&scratch);
        person
    }

    /// The program, for runs that [`Self::run`] does not cover.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Their home, and the program's working directory.
    pub fn home(&self) -> &Path {
        self.program.home()
    }

    /// Where [`Self::clone`] clones to.
    pub fn tree(&self) -> PathBuf {
        self.home().join("tree")
    }

    /// The program's `TMPDIR`.
    pub fn scratch(&self) -> PathBuf {
        self.drawer.path().join("scratch")
    }

    /// Puts a secret into the drawer, as Kubernetes mounts one; returns the program's argument for it.
    pub fn secret(&self, keys: &[(&str, &str)]) -> String {
        let directory = self.new_in_drawer("secret");
        std::fs::create_dir(&directory).unwrap();
        for (key, value) in keys {
            let file = directory.join(key);
            std::fs::write(&file, value).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            self.hand_over(&file);
        }
        self.hand_over(&directory);
        format!("--secret-dir={}", directory.display())
    }

    /// Puts a configuration file into the drawer; returns the program's argument for it.
    pub fn configuration(&self, json: &str) -> String {
        let file = self.new_in_drawer("configuration");
        std::fs::write(&file, json).unwrap();
        self.hand_over(&file);
        format!("--config={}", file.display())
    }

    /// `gitrepo-cli <arguments>`.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.program.run(arguments)
    }

    /// `gitrepo-cli clone <url> tree <more>`.
    pub fn clone(&self, url: &str, more: &[&str]) -> Outcome {
        self.spawn_clone(url, more).wait()
    }

    /// [`Self::clone`], without waiting.
    pub fn spawn_clone(&self, url: &str, more: &[&str]) -> Running {
        self.program.spawn(["clone", url, "tree"].iter().chain(more))
    }

    /// Names of the entries of the home, hidden ones included.
    pub fn belongings(&self) -> BTreeSet<String> {
        names(self.home())
    }

    /// Fails unless the home and the scratch directory are as empty as at first.
    pub fn assert_nothing_left(&self) {
        assert_eq!((self.belongings(), names(&self.scratch())), Default::default(), "left behind");
    }

    /// Fails unless [`Self::tree`] is the only entry.
    pub fn assert_tree_alone(&self) {
        assert_eq!(self.belongings(), BTreeSet::from(["tree".to_owned()]), "left behind");
        assert_eq!(names(&self.scratch()), BTreeSet::new(), "left behind");
    }

    /// Removes [`Self::tree`].
    pub fn discard_tree(&self) {
        crate::volumes::delete(&self.tree());
    }

    /// Gives them a file or directory.
    pub fn hand_over(&self, path: &Path) {
        nix::unistd::chown(path, Some(self.uid), None).unwrap();
    }

    fn new_in_drawer(&self, kind: &str) -> PathBuf {
        let count = std::fs::read_dir(self.drawer.path()).unwrap().count();
        self.drawer.path().join(format!("{kind}-{count}"))
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
