//! What the volumes of one namespace do costs another one neither its hits nor its misses.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::hostile::attack;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes;
use tonic::Code;

use super::Scene;

/// Hits and misses of the other namespace.
const ROUNDS: usize = 4;

/// Far more than a call of the other namespace takes, on any machine.
const PROMPT: Duration = Duration::from_secs(60);

#[test]
fn s26_twenty_hostile_volumes_on_ten_hosts_delay_no_other_namespace() {
    let (missing, commit) = fixtures::small();
    let path = |round: usize| format!("missing-{round}.git");
    let serve =
        |server| (0..ROUNDS).fold(server, |server: HttpServerBuilder, round| server.serve_at(&path(round), &missing));
    let Some(scene) = Scene::configured(&attack::configuration(), serve) else { return };
    let hit = scene.inline("v").read_only();
    let first = Pod::new("first").in_namespace("other");
    scene.kubelet().must_set_up(&first, &hit);
    attack::during(&scene.node, &scene.repository, || {
        for round in 0..ROUNDS {
            // In every other round, at a host of the attackers.
            let name = if round % 2 == 0 { "127.0.0.1".to_owned() } else { attack::host(round) };
            let url = scene.server.url_by(&name, &path(round));
            let miss = Volume::inline("v", &[("repository", &url), ("directory", ".")]).read_only();
            for (kind, volume, repository, commit) in
                [("hit", &hit, &scene.repository, &scene.commit), ("miss", &miss, &missing, &commit)]
            {
                let pod = Pod::new(kind).in_namespace("other");
                let begun = Instant::now();
                let target = scene.kubelet().must_set_up(&pod, volume);
                assert!(begun.elapsed() < PROMPT, "{kind} {round}: {:?}", begun.elapsed());
                assert_same_tree(repository, commit, ".", &target);
                scene.kubelet().must_tear_down(&pod, volume);
            }
        }
    });
    scene.kubelet().must_tear_down(&first, &hit);
    scene.node.assert_nothing_published();
}

/// The second namespace's image has its content from a repository that is gone when the first one's fetch continues.
#[test]
fn s26_a_clone_that_hangs_holds_up_no_other_namespace_and_both_show_one_image() {
    let Some(scene) = Scene::new() else { return };
    let asked = AtomicUsize::new(0);
    let gate = scene.server.hold(move |request| request.is_upload_pack() && asked.fetch_add(1, Ordering::SeqCst) == 0);
    let volume = scene.inline("v").read_only();
    let [hanging, going, late] = ["hanging", "going", "late"].map(|name| Pod::new(name).in_namespace(name));
    thread::scope(|scope| {
        let hung = scope.spawn(|| while scene.kubelet().set_up(&hanging, &volume).is_err() {});
        gate.wait_for(1);
        while let Err(failed) = scene.kubelet().set_up(&going, &volume) {
            assert_eq!(failed.code, Some(Code::DeadlineExceeded), "{failed:?}");
        }
        scene.assert_shown_on(&scene.kubelet().target(&going, &volume));
        gate.open();
        hung.join().unwrap();
    });
    scene.kubelet().must_set_up(&late, &volume);
    for pod in [&hanging, &going, &late] {
        scene.assert_shown_on(&scene.kubelet().target(pod, &volume));
    }
    assert_eq!(volumes::entries(&scene.node.store().join("snapshots")).len(), 1);
    for pod in [&hanging, &going, &late] {
        scene.kubelet().must_tear_down(pod, &volume);
    }
    scene.node.assert_nothing_published();
}

#[test]
fn s25_huge_input_is_refused_and_delays_no_other_volume() {
    let Some(scene) = Scene::new() else { return };
    let long = "x".repeat(1_400_000);
    let words: Vec<String> = (0..2000).map(|number| format!("{number:0900}")).collect();
    let many = words.iter().fold(scene.inline("v"), |volume, word| volume.with_attribute(word, ""));
    let options: Vec<&str> = words.iter().map(String::as_str).collect();
    let huge = [
        scene.inline("v").with_attribute(&long, ""),
        scene.inline("v").with_attribute("repositry", &long),
        scene.inline("v").with_attribute("revision", &long),
        scene.inline("v").with_attribute("directory", &"a/".repeat(700_000)),
        many,
        scene.inline("v").with_secret(&[(&long, "x")]),
        scene.inline("v").with_secret(&[("known_hosts", &"a\n".repeat(700_000))]),
        scene.inline("v").with_secret(&[("ssh-privatekey", &long)]),
        scene.inline("v").with_mount_options(&options),
        scene.inline("v").with_mount_options(&[&long]),
    ];
    thread::scope(|scope| {
        let refused: Vec<_> = huge
            .iter()
            .map(|volume| {
                let kubelet = scene.kubelet();
                scope.spawn(move || {
                    for _ in 0..4 {
                        let failed = kubelet.set_up(&Pod::new("huge"), volume).unwrap_err();
                        assert_eq!(failed.code, Some(Code::InvalidArgument), "{failed:.200}");
                        assert!(failed.message.len() < 1024, "{} bytes of message", failed.message.len());
                    }
                })
            })
            .collect();
        loop {
            let is_over = refused.iter().all(|thread| thread.is_finished());
            let begun = Instant::now();
            let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
            let target = scene.kubelet().must_set_up(&pod, &volume);
            scene.assert_shown_on(&target);
            scene.kubelet().must_tear_down(&pod, &volume);
            assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
            if is_over {
                break;
            }
        }
    });
    scene.node.assert_nothing_published();
}
