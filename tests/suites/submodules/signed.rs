//! A submodule needs the signature that the rule for its own repository requires.

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::signing;
use gitrepo_tests::signing::SigningKey;
use gitrepo_tests::volumes::token;
use serde_json::json;

use super::access::ALL;
use super::access::Scene;
use super::access::node;

#[test]
fn s20_no_way_leads_to_a_submodule_without_its_signature() {
    let mut scene = Scene::new(|_| {});
    let published = scene.request(0, "before");
    scene.node.publish_as(&published, &token(Some(ALL))).unwrap();
    let allowed = scene.place.path().join("allowed_signers");
    signing::write_allowed(&allowed, &[SigningKey::new().allowed("alice@example.com", "")]);
    let rule = json!({"match": scene.server.url(&scene.sub), "allowedSigners": allowed});
    scene.node = node(&scene.place, |config| config.signatures = vec![serde_json::from_value(rule).unwrap()]);
    // A tree that was composed before, one that is not yet composed, and a volume that is mounted again.
    let requests = [scene.request(0, "hit"), scene.request(1, "new"), published];
    for request in &requests {
        let error = scene.node.publish_as(request, &token(Some(ALL))).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.kind(), Kind::PermissionDenied, "{text}");
        assert!(text.contains("lib/sub") && text.contains("is not signed"), "{text}");
    }
    // Nobody has lost a proof by that.
    scene.node = node(&scene.place, |_| {});
    let asked = scene.server.requests().len();
    assert_eq!(scene.node.publish_as(&requests[0], &token(Some(ALL))).unwrap().outcome, Outcome::Hit);
    assert_eq!(scene.server.requests().len(), asked, "the remote was asked again");
}
