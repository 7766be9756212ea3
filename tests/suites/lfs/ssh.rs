//! Over SSH the server itself says where its objects are.

use std::os::unix::fs::PermissionsExt;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::batches;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;

use super::FLAG;
use super::Scene;

const TOKEN: &str = "canary-lfs-3Rt6";

/// A server over SSH that answers `git-lfs-authenticate` with this text.
fn serve(key: &ClientKey, answer: &str, place: &std::path::Path) -> SshServer {
    let script = place.join("command");
    std::fs::write(place.join("answer"), answer).unwrap();
    let text = format!(
        "#!/bin/sh\ncase \"$SSH_ORIGINAL_COMMAND\" in\n\
         \"git-lfs-authenticate '\"*\"' download\") echo \"$SSH_ORIGINAL_COMMAND\" >> {0}/asked; cat {0}/answer ;;\n\
         *) eval exec \"$SSH_ORIGINAL_COMMAND\" ;;\nesac\n",
        place.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    SshServer::builder().authorize(key).force_command(script.to_str().unwrap()).start()
}

#[test]
fn git_lfs_authenticate_names_the_server_and_what_to_show_it() {
    if !require::tool("sshd") {
        return;
    }
    let (scene, place, key) = (Scene::new(), tempfile::tempdir().unwrap(), ClientKey::new());
    let objects = scene.lfs.start(HttpServer::builder().accept(Credential::Bearer(TOKEN)));
    scene.lfs.authorize("Authorization", &format!("Bearer {TOKEN}"));
    let href = objects.url_at("ssh/info/lfs");
    let answer = format!(r#"{{"href":"{href}","header":{{"Authorization":"Bearer {TOKEN}"}},"expires_in":60}}"#);
    let server = serve(&key, &answer, place.path());
    let secret = scene.person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    let url = server.url(&scene.repository);
    // Its header is a secret, and would be readable on the way.
    let refused = scene.person.clone(&url, &[FLAG, &secret]).assert_code(77);
    assert!(refused.stderr.contains("plain http"), "{}", refused.stderr);
    assert!(objects.requests().is_empty());

    let configuration = scene.person.configuration(r#"{"credentialsOverHttp": true}"#);
    let cloned = scene.person.clone(&url, &[FLAG, "-vv", &secret, &configuration]).assert_success();
    scene.assert_cloned();
    assert!(!cloned.stderr.contains("canary"), "{}", cloned.stderr);
    assert_eq!(batches(&objects)[0].path, "/ssh/info/lfs/objects/batch");
    let asked = std::fs::read_to_string(place.path().join("asked")).unwrap();
    let path = scene.repository.path();
    assert_eq!(asked.lines().next(), Some(&*format!("git-lfs-authenticate '{}' download", path.display())));
}

#[test]
fn a_server_without_git_lfs_authenticate_is_quoted() {
    if !require::tool("sshd") {
        return;
    }
    let (scene, key) = (Scene::new(), ClientKey::new());
    let server = SshServer::start(&key);
    let secret = scene.person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    let refused = scene.person.clone(&server.url(&scene.repository), &[FLAG, &secret]).assert_code(66);
    for word in ["there is no Git LFS server for this repository", "git-lfs-authenticate"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    scene.person.assert_nothing_left();
}
