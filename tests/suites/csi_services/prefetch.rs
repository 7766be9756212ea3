//! The prefetch list of the driver.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::policy::NodeCredential;
use gitrepo_core::policy::PrefetchEntry;
use gitrepo_core::store::Eviction;
use gitrepo_csi::prefetch::Prefetching;
use gitrepo_tests::http::Credential;
use gitrepo_tests::repository::Files;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use serde_json::json;

use super::Bench;

const TOKEN: &str = "canary-token-4Pre";

fn list(bench: &Bench, entries: &serde_json::Value, credentials: &serde_json::Value) -> Prefetching {
    let entries: Vec<PrefetchEntry> = serde_json::from_value(entries.clone()).unwrap();
    let credentials: Vec<NodeCredential> = serde_json::from_value(credentials.clone()).unwrap();
    let (storage, metrics) = (Arc::clone(&bench.node.storage), Arc::clone(&bench.node.metrics));
    Prefetching::new(storage, metrics, &entries, &credentials)
}

fn evict_everything(bench: &Bench) -> u64 {
    let volumes = bench.node.storage.volumes().unwrap();
    volumes.evict(Eviction::Unreferenced, Duration::from_secs(60)).unwrap().snapshots
}

/// Deletes the remote's answers, which calls within a second share.
fn forget_answers(bench: &Bench) {
    for path in entries(&bench.store().join("access")) {
        if path.is_dir() {
            delete(&path);
        }
    }
}

#[test]
fn a_prefetched_tree_is_kept_and_serves_a_pod_without_a_fetch() {
    let bench = Bench::new();
    let prefetching =
        list(&bench, &json!([{ "repository": bench.server.url(&bench.repository), "revision": "main" }]), &json!([]));
    assert!(bench.runtime.block_on(prefetching.round()));
    assert!(bench.runtime.block_on(prefetching.round()), "twice is once");
    assert_eq!(bench.server.packs(), 1);
    assert_eq!(evict_everything(&bench), 0, "it is kept");
    bench.publish(bench.request("a")).unwrap();
    assert_eq!(bench.server.packs(), 1, "the pod finds it");

    // The revision moves: the new commit replaces the old one.
    bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    forget_answers(&bench);
    assert!(bench.runtime.block_on(prefetching.round()));
    assert_eq!(bench.server.packs(), 2);
    bench.unpublish("a").unwrap();
    assert_eq!(evict_everything(&bench), 1, "the old commit");
    drop(prefetching);
    assert_eq!(evict_everything(&bench), 1, "a list that ended keeps nothing");
}

#[test]
fn a_credential_of_the_node_prefetches_and_one_failure_holds_nothing_up() {
    let bench = Bench::new();
    bench.server.accept_only(&[Credential::Bearer(TOKEN)]);
    let entries = json!([
        { "repository": bench.server.url_at("missing.git") },
        { "repository": bench.server.url(&bench.repository), "revision": bench.commit },
    ]);
    let anonymous = list(&bench, &entries, &json!([]));
    assert!(!bench.runtime.block_on(anonymous.round()));
    assert_eq!(bench.server.packs(), 0);

    let secret = bench.home.join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("token"), TOKEN).unwrap();
    std::fs::set_permissions(secret.join("token"), PermissionsExt::from_mode(0o400)).unwrap();
    let matches = format!("{}*", bench.server.url_at(""));
    let credentials = json!([{ "match": matches, "secretDir": secret, "namespaces": [] }]);
    let prefetching = list(&bench, &entries, &credentials);
    assert!(!bench.runtime.block_on(prefetching.round()), "one repository does not exist");
    assert_eq!(bench.server.packs(), 1);
    let metrics = bench.metrics();
    for line in ["gitrepo_prefetched{state=\"kept\"} 1", "gitrepo_prefetched{state=\"missing\"} 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
