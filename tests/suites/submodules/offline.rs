//! `offline: stale` says of each volume that it was served, and of no other.

use gitrepo_tests::shell::Shell;
use gitrepo_tests::signing;
use gitrepo_tests::signing::SigningKey;
use gitrepo_tests::snapshot_format::Format;
use serde_json::json;

use super::Family;
use super::RECURSIVE;

const SERVED: &str = "served from the store with an expired proof";

#[test]
fn while_the_remote_is_away_each_served_volume_is_logged_once_and_no_refused_one() {
    let Some(shell) = Shell::new_with(64 << 20, Format::Directory) else { return };
    let family = Family::new();
    let server = family.serve();
    let [url, leaf] = [&family.super_project, &family.leaf].map(|repository| server.url(repository));
    let stale = json!({"offline": "stale", "cache": {"accessTtl": "0s", "reserveBytes": "0"}});
    shell.configure(&stale.to_string());
    shell.mount(&url, &shell.target("first"), &[RECURSIVE]).assert_success();
    drop(server);
    for (pod, more) in [("hit", &["-v", RECURSIVE][..]), ("composed", &["-v", RECURSIVE, "--directory=below"][..])] {
        let served = shell.mount(&url, &shell.target(pod), more).assert_success();
        assert_eq!(served.stderr.matches(SERVED).count(), 1, "{pod}: {}", served.stderr);
    }
    let allowed = shell.home().join("allowed_signers");
    signing::write_allowed(&allowed, &[SigningKey::new().allowed("alice@example.com", "")]);
    let mut ruled = stale;
    ruled["signatures"] = json!([{"match": leaf, "allowedSigners": allowed}]);
    shell.configure(&ruled.to_string());
    for more in [&["-v", RECURSIVE][..], &["-v", RECURSIVE, "--directory=elsewhere"][..]] {
        let refused = shell.mount(&url, &shell.target("refused"), more);
        assert_ne!(refused.code(), 0, "{}", refused.stderr);
        assert!(refused.stderr.contains("is not signed"), "{}", refused.stderr);
        assert!(!refused.stderr.contains(SERVED), "{}", refused.stderr);
    }
}
