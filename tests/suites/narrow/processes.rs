//! Confined workers, killed and in each other's way.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;

use super::*;

/// Bytes of a file system.
const DISK: u64 = 256 << 20;

/// Requests of a narrow fetch of `parts/1/wanted` after that for the refs: the commit, three trees above, the directory.
const REQUESTS: usize = 5;

/// The words for a directory.
fn of(directory: &str) -> String {
    format!("--subdirectory={directory}")
}

fn mount(shell: &Shell, server: &HttpServer, repository: &Repository, pod: &str, directory: &str) {
    let target = shell.target(pod);
    shell.mount(&server.url(repository), &target, &[&of(directory)]).assert_success();
    assert_same_tree(repository, "main", directory, &target);
}

#[test]
fn a_directory_is_shown_by_images_and_by_plain_files() {
    for format in [Format::Image, Format::Directory] {
        let Some(shell) = Shell::new_with(DISK, format) else { continue };
        let repository = monorepo(30);
        let server = HttpServer::start(&repository);
        mount(&shell, &server, &repository, "first", "parts/1/wanted");
        server.settle();
        assert_eq!((server.packs(), server.proofs()), (1, 4));
        mount(&shell, &server, &repository, "other", "parts/2");
        mount(&shell, &server, &repository, "whole", ".");
        for pod in ["first", "other", "whole"] {
            shell.unmount(&shell.target(pod)).assert_success();
        }
        assert_eq!(shell.leftovers(), [] as [PathBuf; 0]);
    }
}

#[test]
fn a_mount_that_is_killed_at_any_request_is_repeated_and_leaves_nothing() {
    for number in 0..REQUESTS {
        let Some(shell) = Shell::new(DISK) else { return };
        let repository = monorepo(3);
        let server = HttpServer::start(&repository);
        let posts = AtomicUsize::new(0);
        let gate = server.hold(move |request| {
            let wants = request.method == "POST" && request.says("command=fetch");
            wants && posts.fetch_add(1, Ordering::SeqCst) == number
        });
        let killed = shell.spawn_mount(&server.url(&repository), &shell.target("killed"), &[&of("parts/1/wanted")]);
        gate.wait_for(1);
        killed.kill();
        gate.open();
        mount(&shell, &server, &repository, "next", "parts/1/wanted");
        mount(&shell, &server, &repository, "whole", ".");
        for pod in ["next", "whole"] {
            shell.unmount(&shell.target(pod)).assert_success();
        }
        shell.run(&["sweep"]).assert_success();
        assert_eq!(shell.leftovers(), [] as [PathBuf; 0], "{number}");
    }
}

#[test]
fn directories_and_the_whole_of_one_commit_are_mounted_at_once() {
    let Some(shell) = Shell::new(DISK) else { return };
    let repository = monorepo(5);
    let server = HttpServer::start(&repository);
    let directories = ["parts/0", ".", "parts/1/wanted", "parts/0", ".", "parts/1", "parts/4/wanted/deep-3", "parts"];
    let gate = server.hold(|request| request.says("command=fetch"));
    let mounting: Vec<_> = directories
        .iter()
        .enumerate()
        .map(|(number, directory)| {
            let target = shell.target(&number.to_string());
            (shell.spawn_mount(&server.url(&repository), &target, &[&of(directory)]), target)
        })
        .collect();
    gate.wait_for(1);
    gate.open();
    for ((process, target), directory) in mounting.into_iter().zip(directories) {
        process.wait().assert_success();
        assert_same_tree(&repository, "main", directory, &target);
        shell.unmount(&target).assert_success();
    }
    assert_eq!(shell.leftovers(), [] as [PathBuf; 0]);
    shell.run(&["cache", "verify"]).assert_success();
}
