//! Arguments that no kubelet sends: each call still gets exactly one answer.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::person::Person;

use super::Scene;

/// The kernel's limit for one argument, including its terminating NUL.
const LONGEST_ARGUMENT: usize = 128 << 10;

impl Scene {
    /// Asserts that the call is answered with a failure and leaves nothing.
    fn assert_refused(&self, arguments: &[&OsStr]) -> String {
        let finished = self.kubelet().plugin().call(arguments);
        let message = finished.failure();
        assert!(message.len() < 16 << 10, "{} bytes of message", message.len());
        assert!(!message.contains(['\0', '\x1b']), "{message:?}");
        self.kubelet().plugin().assert_untouched();
        self.node.assert_nothing_set_up();
        message
    }
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

#[test]
fn missing_and_unexpected_arguments_get_exactly_one_answer() {
    let Some(scene) = Scene::new() else { return };
    let options = scene.inline("v").json(&Pod::new("pod"));
    for arguments in [
        &["mount"][..],
        &["mount", "/var/lib/kubelet/pods/x"],
        &["mount", "", &options],
        &["mount", "relative/dir", &options],
        &["mount", "/var/lib/kubelet/../pods", &options],
        &["mount", "/no/such/parent/v", &options],
        &["mount", "/", &options],
        &["mount", "/var/lib/gitrepo", &options],
        &["mount", "--", "/mnt", &options],
        &["mount", "/mnt", &options],
        &["unmount"],
        &["unmount", ""],
        &["unmount", "relative/dir"],
        &["unmount", "/no/such/dir"],
        &["unmount", "/var/lib/kubelet/pods/x"],
    ] {
        scene.assert_refused(&words(arguments));
    }
    for arguments in [&[][..], &[""], &["Mount"], &["mount "], &["no-such-call", "x"]] {
        let answer = scene.kubelet().plugin().call(arguments).answer();
        assert_eq!(answer.status, "Not supported", "{arguments:?}");
    }
    let absent = scene.kubelet().target(&Pod::new("pod"), &scene.inline("v"));
    scene.kubelet().plugin().call([OsStr::new("unmount"), absent.as_os_str()]).assert_success();
    scene.node.assert_nothing_set_up();
}

#[test]
fn s10_a_directory_of_no_pod_is_refused_unless_it_has_a_volume() {
    let Some(scene) = Scene::new() else { return };
    let directory = scene.node.directory("elsewhere");
    let elsewhere = directory.to_str().unwrap();
    let options = scene.inline("v").json(&Pod::new("pod"));
    let assert_refused = |call: &[&str]| {
        let message = scene.assert_refused(&words(call));
        assert!(message.contains("/pods/<uid>/volumes/<driver>/<volume>"), "{message}");
    };
    assert_refused(&["mount", elsewhere, &options]);
    assert_refused(&["unmount", elsewhere]);
    // A link below the pods may lead anywhere.
    let pod = directory.join("pods/1");
    std::fs::create_dir_all(&pod).unwrap();
    std::os::unix::fs::symlink("/var/lib", pod.join("volumes")).unwrap();
    assert_refused(&["mount", pod.join("volumes/kubelet/v").to_str().unwrap(), &options]);
    assert!(scene.server.requests().is_empty());
    std::fs::remove_file(pod.join("volumes")).unwrap();

    // Mounted by other means from the same store.
    let target = directory.join("target");
    let target = target.to_str().unwrap();
    Person::new().run(&["mount", &scene.url(), target, "--config=/etc/gitrepo/config.json"]).assert_success();
    assert_eq!(scene.node.mounts_on(Path::new(target)), 1);
    scene.kubelet().plugin().call(["unmount", target]).assert_success();
    assert_eq!(scene.node.mounts_on(Path::new(target)), 0);
    assert_refused(&["unmount", target]);
}

#[test]
fn options_that_are_not_an_object_of_strings_are_refused() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.kubelet().target(&Pod::new("pod"), &scene.inline("v"));
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let url = scene.url();
    for options in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        "{".to_owned(),
        "{}{}".to_owned(),
        "{} more".to_owned(),
        format!("{{\"repository\": [\"{url}\"]}}"),
        format!("{{\"repository\": \"{url}\", \"depth\": 1}}"),
        format!("{{\"repository\": \"{url}\", \"revision\": null}}"),
        format!("{{\"repository\": \"{url}\", \"kubernetes.io/secret/token\": {{\"a\": \"b\"}}}}"),
        format!("{{\"repository\": \"{url}\", \"kubernetes.io/readwrite\": \"maybe\"}}"),
        format!("{{\"repository\": \"{url}\", \"kubernetes.io/mounterArgs.FsGroup\": \"wheel\"}}"),
        format!("{{\"repository\": \"{url}\", \"kubernetes.io/mounterArgs.FsGroup\": \"4294967295\"}}"),
        format!("{{\"repository\": \"{url}\", \"revision\": \"\\u0000\"}}"),
        format!("{{\"repository\": \"{url}\", \"revision\": \"\\u001b[2J\"}}"),
        format!("{{\"repository\": \"{url}\", \"revision\": \"\\ud800\"}}"),
        format!("{{\"repository\": \"{url}\", \"\\u001b[2J\": \"x\"}}"),
        format!("{{\"repository\": \"{url}\", \"repository\": \"{url}\"}}"),
        "[".repeat(60_000),
        format!("{}{}", "{\"a\":".repeat(15_000), "}".repeat(15_000)),
    ] {
        scene.assert_refused(&[OsStr::new("mount"), target.as_os_str(), OsStr::new(&options)]);
    }
    assert!(scene.server.requests().is_empty());
}

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    let Some(scene) = Scene::new() else { return };
    let options = scene.inline("v").json(&Pod::new("pod"));
    let odd = OsStr::from_bytes(b"/var/lib/kubelet/\xff");
    let broken = OsStr::from_bytes(b"{\"repository\": \"\xff\"}");
    scene.assert_refused(&[OsStr::new("mount"), odd, OsStr::new(&options)]);
    scene.assert_refused(&[OsStr::new("mount"), OsStr::new("/var/lib/kubelet/v"), broken]);
    let answer = scene.kubelet().plugin().call([OsStr::from_bytes(b"\xff")]).answer();
    assert_eq!(answer.status, "Not supported");
    let answer = scene.kubelet().plugin().call([OsStr::new("unmount"), odd]).answer();
    assert!(["Success", "Failure"].contains(&&*answer.status));
}

#[test]
fn the_longest_arguments_get_a_short_answer() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.kubelet().target(&Pod::new("pod"), &scene.inline("v"));
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let pod = Pod::new("pod");
    for key in
        ["revision", "directory", "repository", "hostTarget", "weird \"key\" \u{20ac}", "kubernetes.io/secret/token"]
    {
        let frame = scene.inline("v").with_forged_option(key, "").json(&pod).len();
        let long = "x".repeat(LONGEST_ARGUMENT - 1 - frame);
        let options = scene.inline("v").with_forged_option(key, &long).json(&pod);
        assert!(options.len() < LONGEST_ARGUMENT);
        scene.assert_refused(&[OsStr::new("mount"), target.as_os_str(), OsStr::new(&options)]);
    }
    // Together these are close to the kernel's limit for all arguments.
    let many: Vec<OsString> = (0..8).map(|_| "y".repeat(LONGEST_ARGUMENT - 1).into()).collect();
    let arguments: Vec<&OsStr> = [OsStr::new("mount")].into_iter().chain(many.iter().map(AsRef::as_ref)).collect();
    scene.assert_refused(&arguments);
    let long = "z".repeat(LONGEST_ARGUMENT - 1);
    let answer = scene.kubelet().plugin().call([&long]).answer();
    assert_eq!(answer.status, "Not supported");
}

/// The API server refuses such an option from a user; the driver ignores one that it does not know.
#[test]
fn unknown_kubelet_keys_are_ignored() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").with_forged_option("kubernetes.io/no-such", "x");
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
