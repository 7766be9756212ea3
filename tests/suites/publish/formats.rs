//! Which format a volume gets, and that it keeps it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::testing::Overridden;
use gitrepo_core::testing::Overrides;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::Serving;
use gitrepo_core::volume::State;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::writable;

use super::Bench;
use super::config;
use super::images::image_on;

/// Mounts no image, as a kernel without EROFS.
pub(super) struct WithoutImages {
    mounter: Arc<dyn Mounter>,
    /// How often images were tried.
    trials: AtomicUsize,
}

impl WithoutImages {
    pub(super) fn new(mounter: &Arc<dyn Mounter>) -> Self {
        Self { mounter: Arc::clone(mounter), trials: AtomicUsize::new(0) }
    }
}

impl Overrides for WithoutImages {
    fn inner(&self) -> &dyn Mounter {
        &*self.mounter
    }

    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        if let Attachment::Image { .. } = mount.attachment {
            let source = io::Error::from_raw_os_error(libc::ENODEV);
            return Err(MountError::Attach { mount: Box::new(mount.clone()), step: "mount", source });
        }
        self.mounter.attach(mount)
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        self.trials.fetch_add(1, Ordering::Relaxed);
        let source = io::Error::new(io::ErrorKind::Unsupported, "this needs Linux 6.4");
        Err(MountError::NoImages { directory: directory.into(), step: "mount", source })
    }
}

/// The node of a bench as another process opens it, with this setting.
fn with(bench: &Bench, choice: SnapshotChoice) -> Node {
    Node::new(&bench.home, config(choice), Arc::clone(&bench.worker), Arc::clone(&bench.mounter))
}

/// The same on a kernel without images, and its mounter.
fn without_images(bench: &Bench, choice: SnapshotChoice) -> (Node, Arc<Overridden<WithoutImages>>) {
    let mounter = Arc::new(Overridden(WithoutImages::new(&bench.mounter)));
    (Node::new(&bench.home, config(choice), Arc::clone(&bench.worker), Arc::clone(&mounter) as _), mounter)
}

/// The format of the only target of a request.
fn format(node: &Node, request: &VolumeRequest) -> Format {
    let [volume] = &node.volumes.targets_of(&request.volume_id).unwrap()[..] else { panic!("one target") };
    assert_eq!(volume.state, State::Mounted);
    volume.format
}

pub(super) fn read_only_volumes_are_images_where_the_node_can_mount_them(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let node = with(bench, SnapshotChoice::Auto);
    assert_eq!(node.volumes.serving(), Serving { format: Format::Image, without_images: None });
    assert_eq!(node.publish(&request).unwrap().format, Format::Image);
    image_on(bench, &request.target);
    assert_eq!(format(&node, &request), Format::Image);
    node.unpublish(&request);

    let (node, mounter) = without_images(bench, SnapshotChoice::Auto);
    assert_eq!(mounter.0.trials.load(Ordering::Relaxed), 0, "not before it matters");
    for _ in 0..2 {
        assert_eq!(node.publish(&request).unwrap().format, Format::Directory);
        bench.assert_shows(&request.target, &bench.commit);
        assert_eq!(format(&node, &request), Format::Directory);
        node.unpublish(&request);
    }
    let Serving { format: served, without_images: reason } = node.volumes.serving();
    assert_eq!(served, Format::Directory);
    assert!(reason.as_deref().is_some_and(|reason| reason.ends_with("this needs Linux 6.4")), "{reason:?}");
    assert_eq!(mounter.0.trials.load(Ordering::Relaxed), 1, "once for all volumes");

    let node = with(bench, SnapshotChoice::Directory);
    assert_eq!(node.publish(&request).unwrap().format, Format::Directory);
    let Serving { format: served, without_images: reason } = node.volumes.serving();
    assert_eq!(served, Format::Directory);
    assert!(reason.is_some_and(|reason| reason.contains("snapshotFormat")));
    node.unpublish(&request);

    let (node, _) = without_images(bench, SnapshotChoice::Image);
    let Serving { format: served, without_images: reason } = node.volumes.serving();
    assert!(served == Format::Image && reason.is_some(), "volumes fail, and this is why");

    let copy = writable(&bench.url(), &bench.node.target("copy"), 0);
    assert_eq!(bench.node.publish(&copy).unwrap().format, Format::Copy);
    assert_eq!(format(&bench.node, &copy), Format::Copy);
    bench.node.unpublish(&copy);
}

pub(super) fn a_published_image_stays_whatever_the_configuration_says(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    let others = [
        with(bench, SnapshotChoice::Directory),
        without_images(bench, SnapshotChoice::Auto).0,
        without_images(bench, SnapshotChoice::Image).0,
    ];
    for node in &others {
        let published = node.publish(&request).unwrap();
        assert_eq!((published.outcome, published.format), (Outcome::AlreadyPublished, Format::Image));
        assert_eq!(format(node, &request), Format::Image);
    }
    let [directory, ..] = &others;
    let asked = bench.server.requests().len();
    bench.node.reboot();
    assert_eq!(directory.publish(&request).unwrap().format, Format::Image, "the record names an image");
    assert_eq!(bench.server.requests().len(), asked);
    bench.assert_shows(&request.target, &bench.commit);
    image_on(bench, &request.target);
    for node in &others {
        bench.node.publish(&request).unwrap();
        assert_eq!(node.unpublish(&request).mounts, 1);
        bench.node.assert_nothing_published();
    }
}

pub(super) fn a_published_directory_stays_when_images_work(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let directory = with(bench, SnapshotChoice::Directory);
    directory.publish(&request).unwrap();
    for choice in [SnapshotChoice::Auto, SnapshotChoice::Image] {
        let node = with(bench, choice);
        let published = node.publish(&request).unwrap();
        assert_eq!((published.outcome, published.format), (Outcome::AlreadyPublished, Format::Directory));
        bench.node.reboot();
        assert_eq!(node.publish(&request).unwrap().format, Format::Directory, "the record names a directory");
        bench.assert_shows(&request.target, &bench.commit);
        assert_eq!(format(&node, &request), Format::Directory);
    }
    assert_eq!(bench.node.unpublish(&request).mounts, 1);
    bench.node.assert_nothing_published();
    assert_eq!(with(bench, SnapshotChoice::Auto).publish(&request).unwrap().format, Format::Image);
    bench.node.unpublish(&request);
}

pub(super) fn an_image_is_replaced_by_a_directory_after_the_boot_of_a_kernel_without_images(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    bench.node.reboot();
    // Another commit would be a different volume.
    bench.repository.commit("main", &gitrepo_tests::repository::Files::new().file("new", "new\n"));
    let (node, _) = without_images(bench, SnapshotChoice::Image);
    node.publish(&request).unwrap_err();
    let (node, _) = without_images(bench, SnapshotChoice::Auto);
    assert_eq!(node.publish(&request).unwrap().format, Format::Directory);
    bench.assert_shows(&request.target, &bench.commit);
    assert_eq!(node.publish(&request).unwrap().outcome, Outcome::AlreadyPublished);
    // The image is no longer in use.
    assert_eq!(bench.node.publish(&request).unwrap().format, Format::Directory);
    assert_eq!(node.unpublish(&request).mounts, 1);
    node.assert_nothing_published();
}

pub(super) fn a_volume_that_must_be_an_image_is_never_a_directory(bench: &Bench) {
    let plain = read_only(&bench.url(), &bench.node.target("pod"));
    let request = volumes::with(read_only(&bench.url(), &plain.target), |request| request.only_image = true);
    let (directories, _) = without_images(bench, SnapshotChoice::Auto);
    for refused in [directories.volumes.check_only_image(&request), directories.publish(&request).map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        assert!(error.to_string().ends_with("this needs Linux 6.4"), "{error}");
    }
    directories.assert_nothing_published();
    // Not even if it is one already, for somebody who keeps its mount read-only.
    directories.publish(&plain).unwrap();
    for node in [&directories, &with(bench, SnapshotChoice::Auto)] {
        assert_eq!(node.publish(&request).unwrap_err().kind(), Kind::AlreadyExists);
        bench.node.reboot();
        assert_eq!(node.publish(&request).unwrap_err().kind(), Kind::AlreadyExists);
        node.publish(&plain).unwrap();
    }
    directories.unpublish(&plain);

    let node = with(bench, SnapshotChoice::Auto);
    node.volumes.check_only_image(&request).unwrap();
    assert_eq!(node.publish(&request).unwrap().format, Format::Image);
    directories.volumes.check_only_image(&request).unwrap();
    assert_eq!(directories.publish(&request).unwrap().outcome, Outcome::AlreadyPublished);
    node.unpublish(&request);
    node.assert_nothing_published();
}
