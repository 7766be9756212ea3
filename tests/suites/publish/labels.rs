//! SELinux: all containers may use what is shared.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use gitrepo_core::mount::Attachment;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::remote::Git;
use gitrepo_core::spec::GitDir;
use gitrepo_core::spec::Label;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::label;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use gitrepo_tests::working_repository::assert_clean;

use super::Bench;
use super::config;

const LABEL: &str = "system_u:object_r:container_ro_file_t:s0";

/// The labels of the mounts that show an image, a layer and a layer of many targets, and of what they are made of.
fn labels_of_mounts(bench: &Bench, se_linux: bool) -> BTreeSet<Option<String>> {
    let mounter = Arc::new(FakeMounter::with_images_and_overlays());
    let mut config = config(SnapshotChoice::Image);
    (config.se_linux, config.se_linux_context) = (Some(se_linux), Some(Label::parse(LABEL).unwrap()));
    let worker = Arc::new(InProcess::new(Arc::new(Git::default())));
    let node = Node::new(&bench.home, config, worker, Arc::<FakeMounter>::clone(&mounter));
    let [one, two, three] = ["image", "layer", "all"].map(|pod| node.target(pod));
    let requests = [read_only(&bench.url(), &one), private(&bench.url(), &two, 0), shared(&bench.url(), "all", &three)];
    for request in &requests {
        node.publish(request).unwrap();
    }
    let attached = mounter.mounts();
    let kinds = |kind: fn(&Attachment) -> bool| attached.iter().filter(|mount| kind(&mount.attachment)).count();
    assert_eq!(kinds(|attachment| matches!(attachment, Attachment::Overlay { .. })), 2, "{attached:?}");
    assert!(kinds(|attachment| matches!(attachment, Attachment::Image { .. })) >= 2, "{attached:?}");
    for request in &requests {
        node.unpublish(request);
    }
    attached.into_iter().map(|mount| mount.label.map(|label| label.to_string())).collect()
}

#[test]
fn every_mount_of_an_image_and_of_an_overlay_gets_the_label_of_the_configuration() {
    let bench = Bench::fake();
    assert_eq!(labels_of_mounts(&bench, true), BTreeSet::from([Some(LABEL.to_owned())]));
    assert_eq!(labels_of_mounts(&bench, false), BTreeSet::from([None]));
}

fn labels_of_files(tree: &Path) -> BTreeSet<Option<String>> {
    let below = contents(tree).into_keys().map(|path| tree.join(path));
    below.chain([tree.to_owned()]).map(|path| label::of(&path)).collect()
}

#[test]
fn every_file_of_a_directory_and_of_a_copy_gets_the_label_of_the_configuration() {
    let Some(bench) = Bench::real() else { return };
    for se_linux in [false, true] {
        let node = bench.configured(|config| {
            config.se_linux = Some(se_linux);
            config.se_linux_context = Some(Label::parse(LABEL).unwrap());
        });
        let target = |name: &str| node.target(&format!("{name}-{se_linux}"));
        // Another depth of history is another snapshot.
        let keeping = |request| {
            with(request, |request| {
                request.spec.git_dir = GitDir::Keep;
                request.spec.depth = u32::from(se_linux);
            })
        };
        for request in [
            keeping(read_only(&bench.url(), &target("read-only"))),
            keeping(writable(&bench.url(), &target("copy"), 0)),
        ] {
            node.publish(&request).unwrap();
            let expected = se_linux.then(|| LABEL.to_owned());
            assert_eq!(labels_of_files(&request.target), BTreeSet::from([expected]), "{}", request.target.display());
            assert_clean(&request.target);
            node.unpublish(&request);
        }
    }
}
