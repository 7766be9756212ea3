//! `submodules: recursive`: each submodule from its own repository, with its own policy, credential and proof.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::with_submodules;

mod access;
mod across;
mod clone;
mod damage;
mod hostile;
mod mounted;
mod offline;
mod recorded;
mod secrets;
mod signed;

const RECURSIVE: &str = "--submodules=recursive";

/// A superproject with a submodule in two places, which has one itself.
struct Family {
    super_project: Repository,
    middle: Repository,
    leaf: Repository,
}

impl Family {
    /// All URLs are relative, as forges advise.
    fn new() -> Self {
        let [super_project, middle, leaf] = ["super", "middle", "leaf"].map(Repository::new);
        let old = leaf.commit("main", &Files::new().file("README", "old\n"));
        let new = leaf.commit("main", &Files::new().file("README", "new\n").executable("bin/run", "#!/bin/sh\n"));
        leaf.tag("old", &old);
        let vendor = Submodule { path: "vendor/leaf", url: "./../leaf.git", commit: &new };
        let files = Files::new().file("Makefile", "all:\n").symlink("link", "vendor/leaf/README").file("empty", "");
        let in_middle = middle.commit("main", &with_submodules(files, &[vendor]));
        let submodules = [
            Submodule { path: "lib", url: "../middle.git", commit: &in_middle },
            Submodule { path: "deep/er/lib", url: "../middle.git", commit: &in_middle },
            Submodule { path: "lib-old", url: "../leaf.git", commit: &old },
        ];
        let files = Files::new().file("main.c", "int main;\r\n").file("lib.h", "h").file("lib0", "0");
        super_project.commit("main", &with_submodules(files, &submodules));
        Self { super_project, middle, leaf }
    }

    fn serve(&self) -> HttpServer {
        HttpServer::builder().serve(&self.super_project).serve(&self.middle).serve(&self.leaf).start()
    }
}

/// How many packs of the repository of this name a server sent.
fn packs_of(server: &HttpServer, name: &str) -> usize {
    let requests = server.requests();
    let of_it = requests.iter().filter(|request| request.path.starts_with(&format!("/{name}.git")));
    of_it.filter(|request| request.brought_pack() && !request.is_proof()).count()
}
