use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::spec::PullPolicy;
use crate::spec::Symlinks;
use crate::spec::Writable;

fn read(attributes: &[(&str, &str)]) -> Result<VolumeSpec, SpecError> {
    let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    VolumeSpec::from_attributes(&attributes, DefaultDirectory::BaseName)
}

fn with(key: &str, value: &str) -> Result<VolumeSpec, SpecError> {
    read(&[("repository", "https://host/a/tool.git"), (key, value)])
}

#[test]
fn a_repository_alone_is_a_volume_as_git_repo_would_make_it() {
    let mut expected = VolumeSpec::new(RepositoryUrl::parse("https://host/a/tool.git").unwrap());
    expected.tree.directory = RelativePath::parse("tool").unwrap();
    assert_eq!(read(&[("repository", "https://host/a/tool.git")]), Ok(expected));

    let attributes = BTreeMap::from([("repository".to_owned(), "https://host/a/tool.git".to_owned())]);
    let spec = VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root).unwrap();
    assert!(spec.tree.directory.is_root());
}

#[test]
fn every_key_reaches_its_field() {
    let spec = read(&[
        ("repository", "git@host:a/b"),
        ("revision", "v1"),
        ("directory", "./x//y/"),
        ("subdirectory", "src"),
        ("depth", "0"),
        ("gitDir", "omit"),
        ("submodules", "none"),
        ("lfs", "false"),
        ("symlinks", "reject-escaping"),
        ("pullPolicy", "IfNotPresent"),
        ("refresh", "never"),
        ("writable", "copy"),
        ("uid", "1000"),
        ("csi.storage.k8s.io/pod.name", "p"),
        ("kubernetes.io/fsType", ""),
    ])
    .unwrap();
    assert_eq!(spec.revision, Revision::Named("v1".to_owned()));
    assert_eq!((spec.tree.directory.as_str(), spec.tree.subdirectory.as_str()), ("x/y", "src"));
    assert_eq!((spec.depth, spec.uid), (0, 1000));
    assert_eq!((spec.tree.symlinks, spec.pull_policy), (Symlinks::RejectEscaping, PullPolicy::IfNotPresent));
    assert_eq!(spec.writable, Some(Writable::Copy));
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec);
}

#[test]
fn an_unknown_key_is_named_with_its_nearest_neighbour() {
    for (key, neighbour) in [
        ("Revision", "revision"),
        ("repo", "repository"),
        ("branch", "revision"),
        ("ref", "revision"),
        ("url", "repository"),
        ("subDir", "subdirectory"),
        ("path", "subdirectory"),
        ("colour", ""),
        ("directroy", "directory"),
        ("git-dir", "gitDir"),
    ] {
        let message = with(key, "x").unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
        assert_eq!(message.contains("did you mean"), !neighbour.is_empty(), "{message}");
        assert!(message.contains(neighbour), "{message}");
    }
    // A value of an unknown key may be a secret in the wrong place.
    for (key, name) in [("password", "password"), ("sshKey", "ssh-privatekey"), ("user", "username"), ("ca", "ca.crt")]
    {
        let message = with(key, "canary").unwrap_err().to_string();
        assert!(message.ends_with(&format!("the volume's secret, as the key {name}")), "{message}");
        assert!(message.contains(key) && !message.contains("canary"), "{message}");
    }
}

/// Every flag of git-sync, as its environment has it: our key, that of a secret, or nothing that would mislead.
#[test]
fn a_name_of_git_sync_is_told_ours_or_nothing() {
    let keys = [
        ("REPO", "repository"),
        ("REF", "revision"),
        ("BRANCH", "revision"),
        ("REV", "revision"),
        ("ROOT", "directory"),
        ("LINK", "directory"),
        ("DEST", "directory"),
        ("DEPTH", "depth"),
        ("SUBMODULES", "submodules"),
        ("SPARSE_CHECKOUT_FILE", "subdirectory"),
        ("PERIOD", "refresh"),
        ("WAIT", "refresh"),
    ];
    for (flag, ours) in keys {
        let message = with(&format!("GITSYNC_{flag}"), "x").unwrap_err().to_string();
        assert!(message.ends_with(&format!("did you mean {ours}?")), "{message}");
    }
    let secrets = [
        ("USERNAME", "username"),
        ("PASSWORD", "password"),
        ("PASSWORD_FILE", "password"),
        ("SSH", "ssh-privatekey"),
        ("SSH_KEY_FILE", "ssh-privatekey"),
        ("SSH_KNOWN_HOSTS", "known_hosts"),
        ("SSH_KNOWN_HOSTS_FILE", "known_hosts"),
    ];
    for (flag, ours) in secrets {
        let message = with(&format!("GITSYNC_{flag}"), "canary").unwrap_err().to_string();
        assert!(message.ends_with(&format!("as the key {ours}")) && !message.contains("canary"), "{message}");
    }
    for flag in "FILTER INIT_PERIOD SYNC_TIMEOUT ONE_TIME MAX_FAILURES INIT_MAX_FAILURES SYNC_ON_SIGNAL \
                 STALE_WORKTREE_TIMEOUT GC GROUP_WRITE ADD_USER TOUCH_FILE ERROR_FILE EXECHOOK_COMMAND \
                 EXECHOOK_TIMEOUT PRE_PUBLISH_EXECHOOK_COMMAND WEBHOOK_URL WEBHOOK_METHOD CREDENTIAL ASKPASS_URL \
                 GITHUB_APP_PRIVATE_KEY GITHUB_APP_INSTALLATION_ID GITHUB_BASE_URL COOKIE_FILE CONFIG HTTP_BIND \
                 HTTP_METRICS VERBOSE TIMEOUT CHANGE_PERMISSIONS MAX_SYNC_FAILURES SYNC_HOOK_COMMAND"
        .split_whitespace()
    {
        let message = with(&format!("GITSYNC_{flag}"), "x").unwrap_err().to_string();
        assert!(!message.contains("did you mean") && !message.contains("as the key"), "{message}");
    }
}

#[test]
fn options_of_which_each_works_alone_are_refused_together() {
    for (key, value) in [("submodules", "recursive"), ("subdirectory", "a")] {
        let error = read(&[("repository", "https://host/a"), ("gitDir", "keep"), (key, value)]).unwrap_err();
        assert!(error.to_string().contains("gitDir") && error.to_string().contains(key), "{error}");
        with(key, value).unwrap();
    }
}

#[test]
fn an_empty_value_is_a_missing_one() {
    let repository = ("repository", "https://host/a/tool.git");
    for key in KEYS.iter().map(|key| key.name).filter(|key| *key != "repository") {
        assert_eq!(read(&[repository, (key, "")]), read(&[repository]), "{key}");
    }
    assert_eq!(read(&[("repository", "")]), Err(SpecError::Missing { key: "repository" }));
    assert!(matches!(with("revison", ""), Err(SpecError::UnknownKey { .. })), "a typo is told all the same");
}

#[test]
fn what_does_not_work_yet_is_refused_and_not_ignored() {
    let not_yet = [("refresh", "10s"), ("refresh", "1h30m")];
    for (key, value) in not_yet {
        assert_eq!(with(key, value), Err(SpecError::NotYet { key, value: value.to_owned() }));
    }
}

#[test]
fn lfs_decides_the_content() {
    let read = |more: &[(&str, &str)]| read(&[&[("repository", "https://host/a/tool.git")], more].concat());
    let spec = read(&[("lfs", "true")]).unwrap();
    assert!(spec.tree.lfs && spec.content() != read(&[]).unwrap().content());
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec);
}

#[test]
fn a_git_directory_needs_the_whole_tree_and_makes_the_depth_content() {
    let read = |more: &[(&str, &str)]| read(&[&[("repository", "https://host/a/tool.git")], more].concat());
    let refused = read(&[("gitDir", "keep"), ("subdirectory", "part")]);
    assert_eq!(refused, Err(SpecError::PartOfRepository));
    assert!(read(&[("gitDir", "keep"), ("subdirectory", ".")]).is_ok());
    let content = |git_dir, depth| read(&[("gitDir", git_dir), ("depth", depth)]).unwrap().content();
    assert_eq!(content("omit", "1"), content("omit", "3"));
    assert_ne!(content("keep", "1"), content("keep", "3"));
}

#[test]
fn values_are_read_strictly() {
    let refused = [
        ("depth", "-1"),
        ("depth", "+1"),
        ("depth", "1.0"),
        ("depth", "2147483647"),
        ("depth", "99999999999"),
        ("lfs", "True"),
        ("lfs", "1"),
        ("submodules", "off"),
        ("submodules", "shallow"),
        ("submodules", "true"),
        ("checkout", "true"),
        ("gitDir", "Keep"),
        ("symlinks", "reject"),
        ("pullPolicy", "always"),
        ("refresh", "9s"),
        ("refresh", "10"),
        ("refresh", "Never"),
        ("writable", "true"),
        ("uid", "root"),
        ("uid", "-1"),
        ("uid", "4294967295"),
        ("uid", "0x0"),
    ];
    for (key, value) in refused {
        let error = with(key, value).unwrap_err();
        assert!(matches!(error, SpecError::Value { .. }), "{key}={value}: {error:?}");
        assert!(error.to_string().contains(key));
    }
    assert!(matches!(with("directory", "../x"), Err(SpecError::Path { key: "directory", .. })));
    assert!(matches!(with("subdirectory", "/x"), Err(SpecError::Path { key: "subdirectory", .. })));
    assert!(matches!(with("revision", " "), Err(SpecError::Revision(_))));
    assert!(matches!(read(&[("repository", "/etc")]), Err(SpecError::Repository(_))));
    assert_eq!(read(&[]), Err(SpecError::Missing { key: "repository" }));
}

#[test]
fn a_repository_without_a_usable_name_asks_for_a_directory() {
    for url in ["https://host/.git", "file:///.git", "host:.git", "https://host/x/.git.git", "https://host/git~1"] {
        let error = read(&[("repository", url)]).unwrap_err();
        assert!(matches!(error, SpecError::NoBaseName { .. }), "{url}: {error:?}");
        assert!(read(&[("repository", url), ("directory", "x")]).is_ok());
    }
}

#[test]
fn refresh_is_never_or_at_least_ten_seconds() {
    assert_eq!(Refresh::parse("never"), Ok(Refresh::NEVER));
    assert_eq!(Refresh::parse("10s"), Ok(Refresh(Some(Duration::from_secs(10)))));
    assert!(Refresh::parse("9s999ms").is_err());
    assert_eq!(Refresh(Some(Duration::from_secs(90))).to_string(), "1m30s");
}

/// Documentation and help are generated from `KEYS`: it must list exactly the keys that the code reads.
#[test]
fn the_table_of_keys_is_the_serialised_form() {
    let spec = with("writable", "copy").unwrap();
    let json = serde_json::to_value(&spec).unwrap();
    let mut fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    fields.sort_unstable();
    keys.sort_unstable();
    assert_eq!(fields, keys);
    for key in KEYS {
        let garbage = with(key.name, "\0");
        assert!(garbage.is_err(), "no code reads {}", key.name);
    }
}

proptest! {
    #[test]
    fn attributes_never_panic(key in "[a-zA-Z./]{0,12}|uid|depth|refresh|directory|revision|repository", value in ".*") {
        drop(with(&key, &value));
    }
}

#[test]
fn s25_attributes_are_measured_before_they_are_read() {
    let with = |key: &str, value: &str| {
        let attributes = [("repository", "https://git.example.com/a"), (key, value)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)
    };
    let long = "x".repeat(1_400_000);
    for (key, value) in [(&*long, ""), ("revision", &long), ("directory", &long), (&long[..ATTRIBUTES_BYTES], "")] {
        let error = with(key, value).unwrap_err();
        assert!(matches!(error, SpecError::TooLong { .. }) && error.to_string().len() < 200, "{error}");
    }
    with(&format!("kubernetes.io/{long}"), &long).unwrap();
    with("directory", &"x/".repeat(2000)).unwrap();
    let error = with(&long[..4000], "").unwrap_err();
    assert!(matches!(error, SpecError::UnknownKey { .. }) && error.to_string().len() < 200, "{error}");
}
