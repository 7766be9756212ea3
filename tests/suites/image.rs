//! `make image`: the image's content, whichever tool builds it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use gitrepo_tests::manifests::workspace;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAMS: [&str; 4] = ["gitrepo-flex", "gitrepo-flex-install", "gitrepo-csi", "gitrepo-cli"];

/// The C libraries in the programs, each with the package that contains it and its licence's path in that package.
const LIBRARIES: [(&str, Option<(&str, &str)>); 7] = [
    ("curl", Some(("curl-sys", "curl/COPYING"))),
    ("libgit2", Some(("libgit2-sys", "libgit2/COPYING"))),
    ("libssh2", Some(("libssh2-sys", "libssh2/COPYING"))),
    // From Rust's standard library.
    ("musl", None),
    ("openssl", Some(("openssl-src", "openssl/LICENSE.txt"))),
    ("libdeflate", Some(("libdeflate-sys", "libdeflate/COPYING"))),
    ("zlib-ng", Some(("libz-sys", "src/zlib-ng/LICENSE.md"))),
];

/// Packages with `links` that contain no C library: to be unique, or to find the library that `openssl-src` builds.
const LINKING_NOTHING: [&str; 3] = ["k8s-openapi", "openssl-sys", "prettyplease"];

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a working build tool exists.
fn can_build() -> bool {
    let found = Command::new("sh").args(["-c", ". deploy/image/builder.sh"]).current_dir(workspace()).output().unwrap();
    require::feature(found.status.success(), "docker (with its engine), podman or buildah")
}

/// An image in this machine's local storage, removed when the test ends.
struct Image {
    name: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut command = Command::new("sh");
        command
            .args(["-c", ". deploy/image/builder.sh; $builder rmi \"$1\"", "sh", &self.name])
            .current_dir(workspace());
        // The image may not have been built.
        drop(command.output());
    }
}

/// Builds an image with placeholder binaries, and unpacks its archive.
fn build(place: &Path) {
    let binaries = place.join("binaries");
    fs::create_dir(&binaries).unwrap();
    for program in PROGRAMS {
        // Instead of a static build, which takes minutes and has its own tests.
        fs::write(binaries.join(program), program).unwrap();
    }
    fs::write(place.join("authorities.pem"), "certificates").unwrap();
    let tag = place.file_name().unwrap().to_str().unwrap();
    let _image = Image { name: format!("localhost/gitrepo-test:{tag}") };
    let mut make = Command::new("make");
    make.current_dir(workspace())
        .args(["archive", "CI_REGISTRY=localhost", "IMAGE=gitrepo-test"])
        .arg(format!("TAG={tag}"));
    make.arg(format!("BINARIES={}", binaries.display())).arg(format!("ARCHIVE={}", place.join("image.tar").display()));
    make.env("CA_BUNDLE", place.join("authorities.pem"));
    run(&mut make);
    fs::create_dir(place.join("image")).unwrap();
    run(Command::new("tar").arg("-xf").arg(place.join("image.tar")).arg("-C").arg(place.join("image")));
}

#[test]
fn image_contains_only_the_programs_their_licences_and_the_authorities() {
    if !require::tool("make") || !can_build() {
        return;
    }
    let place = TempDir::with_prefix("image").unwrap();
    build(place.path());
    let image = place.path().join("image");
    let read = |name: &str| fs::read(image.join(name)).unwrap();
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    let mut entries = BTreeSet::new();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        let layer = image.join(layer.as_str().unwrap());
        let list = run(Command::new("tar").arg("-tvf").arg(&layer).arg("--numeric-owner"));
        for line in list.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            entries.insert(format!("{} {} {}", words[0], words[1], words[5].trim_start_matches('/')));
        }
    }
    let directories = ["bin/", "etc/", "etc/ssl/", "etc/ssl/certs/", "usr/", "usr/share/", "usr/share/licenses/"];
    let directories = directories.into_iter().chain(["usr/share/licenses/gitrepo/"]);
    let directories = directories.map(|name| format!("drwxr-xr-x 0/0 {name}"));
    let programs = PROGRAMS.map(|name| format!("-rwxr-xr-x 0/0 bin/{name}"));
    let authorities = ["-rw-r--r-- 0/0 etc/ssl/certs/ca-certificates.crt".to_owned()];
    let licences = LIBRARIES.map(|(licence, _)| licence).into_iter().chain(["LICENSE", "NOTICE"]);
    let licences = licences.map(|name| format!("-rw-r--r-- 0/0 usr/share/licenses/gitrepo/{name}"));
    let expected: BTreeSet<_> = directories.chain(programs).chain(authorities).chain(licences).collect();
    assert_eq!(entries, expected);

    let config: Value = serde_json::from_slice(&read(manifest[0]["Config"].as_str().unwrap())).unwrap();
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/gitrepo-cli", "--help"]));
    assert_eq!(config["config"]["Entrypoint"], Value::Null);
}

#[test]
fn licences_of_c_libraries_match_the_linked_versions() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform"]);
    cargo.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    let metadata: Value = serde_json::from_str(&run(cargo.current_dir(workspace()))).unwrap();
    let built: BTreeSet<_> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str()).collect();
    let packages =
        metadata["packages"].as_array().unwrap().iter().filter(|package| built.contains(&package["id"].as_str()));
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    // libdeflate-sys does not say what it links.
    let links = |package: &Value| !package["links"].is_null() || name(package) == "libdeflate-sys";
    let linking = packages.filter(|package| links(package) || name(package).ends_with("-src"));
    let mut linking: BTreeMap<_, _> = linking.map(|package| (name(package), package)).collect();
    for package in LINKING_NOTHING {
        linking.remove(package).expect(package);
    }
    for (library, place) in LIBRARIES {
        let licence = fs::read(workspace().join("deploy/image/licenses").join(library)).unwrap();
        let Some((package, file)) = place else { continue };
        let manifest = Path::new(linking.remove(package).expect(package)["manifest_path"].as_str().unwrap());
        let linked = fs::read(manifest.with_file_name(file)).unwrap();
        assert!(licence == linked, "deploy/image/licenses/{library} is not {file} of {package}");
    }
    assert!(linking.is_empty(), "LIBRARIES and NOTICE lack the libraries of {:?}", linking.keys());
    assert_eq!(volumes::entries(&workspace().join("deploy/image/licenses")).len(), LIBRARIES.len());
}

#[test]
fn image_is_built_by_the_first_tool_that_works() {
    let place = TempDir::new().unwrap();
    let tool = |name: &str, works: bool| {
        let path = place.path().join(name);
        let status = i32::from(!works);
        fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = info ] && exit {status}\nexit 0\n")).unwrap();
        run(Command::new("chmod").arg("755").arg(&path));
    };
    let chosen = |builder: Option<&str>| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ". deploy/image/builder.sh; echo $builder"]).current_dir(workspace());
        command.env("PATH", place.path());
        builder.map(|builder| command.env("BUILDER", builder));
        command.output().unwrap()
    };
    let name = |builder: Option<&str>| String::from_utf8(chosen(builder).stdout).unwrap().trim().to_owned();
    let none = chosen(None);
    assert!(!none.status.success());
    assert!(String::from_utf8(none.stderr).unwrap().contains("docker, podman or buildah"));

    // A docker client without an engine.
    tool("docker", false);
    tool("buildah", true);
    assert_eq!(name(None), "buildah");
    tool("podman", true);
    assert_eq!(name(None), "podman");
    tool("docker", true);
    assert_eq!(name(None), "docker");
    assert_eq!(name(Some("buildah --storage-driver vfs")), "buildah --storage-driver vfs");
    tool("buildah", false);
    assert!(!chosen(Some("buildah")).status.success(), "no other tool replaces the chosen one");
}
