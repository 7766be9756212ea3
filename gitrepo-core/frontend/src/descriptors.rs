//! How many files a process may have open.
//!
//! The usual soft limit, 1024, is for programs that use select(2), which these do not. A tree with hundreds of submodules
//! has a lock and some files open for each of them.

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;

/// Raises the soft limit to the hard one. A program works with the old one, too.
pub fn allow_all() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(errno) = raised {
        tracing::debug!(%errno, "cannot raise the number of open files");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Tells the process that is to have the limit.
    const CHILD: &str = "GITREPO_TEST_DESCRIPTORS";

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        if std::env::var_os(CHILD).is_none() {
            // In a process of its own: the other tests of this one need their descriptors.
            let mut child = Command::new(std::env::current_exe().unwrap());
            let name = "descriptors::tests::the_soft_limit_becomes_the_hard_one";
            let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 512.min(hard), hard).unwrap();
        allow_all();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
