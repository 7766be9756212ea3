use gitrepo_core::error::chain;
use gitrepo_core::spec::Scheme;
use proptest::prelude::*;

use super::*;

const URL: &str = "https://git.example.org/team/site.git";

fn parse(members: &[(&str, &str)]) -> Result<Options, OptionsError> {
    let object: BTreeMap<_, _> = members.iter().copied().collect();
    Options::parse(&serde_json::to_vec(&object).unwrap())
}

fn error(members: &[(&str, &str)]) -> String {
    chain(&parse(members).unwrap_err())
}

fn encoded(secret: &str) -> String {
    BASE64_STANDARD.encode(secret)
}

#[test]
fn an_argument_of_the_kubelet_is_parsed() {
    let argument =
        br#"{"hostTarget":"/data/images","kubernetes.io/fsType":"git","kubernetes.io/mounterArgs.FsGroup":"2000",
        "kubernetes.io/pod.name":"flex-b","kubernetes.io/pod.namespace":"default","kubernetes.io/pod.uid":"8a435348",
        "kubernetes.io/pvOrVolumeName":"gitdata","kubernetes.io/readwrite":"rw",
        "kubernetes.io/secret/password":"cDpcdTAwMjY=","kubernetes.io/secret/username":"bWU=",
        "kubernetes.io/serviceAccount.name":"default","kubernetes.io/something.new":"x",
        "repository":"https://git.example.org/a\u0026b.git","revision":"v1"}"#;
    let options = Options::parse(argument).unwrap();
    let text = |text: &str| text.to_owned();
    let pod = Pod {
        namespace: text("default"),
        name: text("flex-b"),
        service_account: text("default"),
        uid: text("8a435348"),
        volume: text("gitdata"),
    };
    assert_eq!(options.pod, pod);
    assert!(!options.read_only);
    assert_eq!(options.group, Some(2000));
    assert_eq!(options.host_target.as_deref(), Some("/data/images"));
    assert_eq!(options.spec.repository.to_string(), "https://git.example.org/a&b.git");
    assert_eq!(options.spec.revision.to_string(), "v1");
    assert!(options.spec.tree.directory.is_root());
    let keys: Vec<_> = options.credentials.secret_keys().keys().map(String::as_str).collect();
    assert_eq!(keys, ["password", "username"]);
    assert_eq!(options.credentials.secret_keys()["password"].expose(), r"p:\u0026");
}

#[test]
fn repositories_that_the_bash_driver_accepted_are_accepted() {
    for (repo, scheme) in [
        ("https://github.com/piersharding/k8s-flexvol-gitrepo.git", Scheme::Https),
        ("http://git.example.org:8080/a/b.git", Scheme::Http),
        ("git@github.com:piersharding/k8s-flexvol-gitrepo.git", Scheme::Ssh),
        ("git@gitlab.example.org:group/sub-group/a_b.c.git", Scheme::Ssh),
        ("ssh://git@git.example.org:2222/group/repo.git", Scheme::Ssh),
        ("git.example.org:group/repo.git", Scheme::Ssh),
        ("git://git.example.org/repo.git", Scheme::Git),
    ] {
        let options = parse(&[("repo", repo)]).unwrap();
        assert_eq!((options.spec.repository.scheme(), options.spec.repository.to_string()), (scheme, repo.to_owned()));
    }
    let with_password = error(&[("repo", "https://gitlab-ci-token:canary@gitlab.example.org/group/repo.git")]);
    assert!(with_password.contains("put it into a secret") && !with_password.contains("canary"), "{with_password}");
}

#[test]
fn exactly_one_of_repo_and_repository_must_be_given() {
    assert_eq!(
        error(&[("repo", URL), ("repository", URL)]),
        "the options repo and repository mean the same: leave one out"
    );
    assert_eq!(error(&[]), "repository is missing");
}

#[test]
fn an_empty_option_is_a_missing_one() {
    let options = [("repo", URL), ("repository", ""), ("revision", ""), ("directory", ""), ("refresh", "")];
    let secret = [("kubernetes.io/secret/token", ""), ("kubernetes.io/secret/username", "Cg==")];
    let empty = parse(&[&options[..], &secret].concat()).unwrap();
    assert_eq!(empty.spec, parse(&[("repo", URL)]).unwrap().spec);
    assert!(empty.credentials.is_empty());
    assert_eq!(error(&[("repo", "")]), "repository is missing");
}

#[test]
fn an_empty_host_target_is_none_as_in_the_bash_driver() {
    assert_eq!(parse(&[("repo", URL), ("hostTarget", "")]).unwrap().host_target, None);
    assert_eq!(parse(&[("repo", URL)]).unwrap().host_target, None);
}

#[test]
fn a_volume_is_read_only_unless_the_kubelet_says_otherwise() {
    let read_only =
        |value| parse(&[("repo", URL), ("kubernetes.io/readwrite", value)]).map(|options| options.read_only);
    assert!(!read_only("rw").unwrap());
    assert!(read_only("ro").unwrap());
    assert!(parse(&[("repo", URL)]).unwrap().read_only);
    for other in ["", "RW", "rw ", "true", "canary"] {
        let refused = chain(&read_only(other).unwrap_err());
        assert_eq!(refused, "kubernetes.io/readwrite is neither ro nor rw");
    }
}

#[test]
fn a_group_is_a_number() {
    let group =
        |value| parse(&[("repo", URL), ("kubernetes.io/mounterArgs.FsGroup", value)]).map(|options| options.group);
    assert_eq!(group("0").unwrap(), Some(0));
    assert_eq!(group("4294967294").unwrap(), Some(4_294_967_294));
    for other in ["", "-1", "+1", "4294967295", "staff", "1 "] {
        assert!(matches!(group(other), Err(OptionsError::Group)), "{other}");
    }
}

#[test]
fn the_secret_key_of_the_bash_driver_is_accepted() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
    let options = parse(&[("repo", "git@github.com:a/b.git"), ("kubernetes.io/secret/sshKey", &encoded(key))]).unwrap();
    assert_eq!(options.credentials.secret_keys()["sshKey"].expose(), key);
}

#[test]
fn a_secret_that_cannot_be_read_is_named_by_its_key_alone() {
    for value in ["canary!", "Y2FuYXJ5\n", "/w=="] {
        let refused = error(&[("repo", URL), ("kubernetes.io/secret/token", value)]);
        assert_eq!(refused, r#"the secret's key "token" is not base64 of UTF-8 text"#);
    }
    let unknown = error(&[("repo", URL), ("kubernetes.io/secret/pasword", &encoded("canary"))]);
    assert!(unknown.contains("did you mean \"password\"?") && !unknown.contains("canary"), "{unknown}");
}

#[test]
fn an_unknown_option_names_its_nearest_neighbour() {
    for (key, meant) in [
        ("repositroy", "repository"),
        ("rep", "repo"),
        ("hosttarget", "hostTarget"),
        ("host_target", "hostTarget"),
        ("Revision", "revision"),
        ("branch", "revision"),
        ("ref", "revision"),
        ("url", "repository"),
        ("subPath", "subdirectory"),
    ] {
        assert_eq!(error(&[("repo", URL), (key, "x")]), format!("there is no option {key:?}; did you mean {meant}?"));
    }
    assert_eq!(error(&[("weird key/with \"quotes\"", "")]), r#"there is no option "weird key/with \"quotes\"""#);
    assert_eq!(error(&[("csi.storage.k8s.io/ephemeral", "")]), r#"there is no option "csi.storage.k8s.io/ephemeral""#);
    let long = error(&[(&"x".repeat(1 << 20), "")]);
    assert!(long.contains("at most 4096") && long.len() < 200, "{long}");
}

#[test]
fn a_secret_among_the_options_is_refused_without_being_shown() {
    for (key, name) in [
        ("sshKey", "ssh-privatekey"),
        ("identity", "ssh-privatekey"),
        ("token", "token"),
        ("password", "password"),
        ("pass", "password"),
        ("user", "username"),
        ("ssh-privatekey", "ssh-privatekey"),
        ("ca.crt", "ca.crt"),
    ] {
        let refused = error(&[("repo", URL), (key, "canary")]);
        assert!(refused.contains("secretRef") && refused.contains(key) && !refused.contains("canary"), "{refused}");
        assert!(refused.contains(&format!("as {name} into")), "{refused}");
    }
}

#[test]
fn refresh_is_refused_with_the_reason() {
    assert!(parse(&[("repo", URL), ("refresh", "never")]).is_ok());
    for value in ["30s", "1h", "x"] {
        assert!(error(&[("repo", URL), ("refresh", value)]).contains("never in between"), "{value}");
    }
}

#[test]
fn only_an_object_of_strings_is_accepted_and_no_error_quotes_a_value() {
    for (argument, message) in [
        (r#"{"token": 17654}"#, "the value of the option \"token\" is a number, not a string"),
        (r#"{"a": 1.7654}"#, "is a number"),
        (r#"{"a": -17654}"#, "is a number"),
        (r#"{"a": true}"#, "is true or false"),
        (r#"{"a": null}"#, "is null"),
        (r#"{"a": ["17654"]}"#, "is a list"),
        (r#"{"a": {"b": "17654"}}"#, "is an object"),
        (r#"{"a": "17654", "a": "17654"}"#, "\"a\" is given twice"),
        (r#""17654""#, "are not a JSON object"),
        ("17654", "are not a JSON object"),
        ("[]", "are not a JSON object"),
        ("null", "are not a JSON object"),
        ("", "are not valid JSON (line 1, column 0)"),
        ("{17654", "are not valid JSON (line 1, column 2)"),
        ("{\"a\": \"17654", "are not valid JSON (line 1, "),
        ("{} 17654", "are not valid JSON (line 1, "),
        ("{\"a\": \"17654\\ud800\"}", "are not valid JSON (line 1, "),
    ] {
        let refused = chain(&Options::parse(argument.as_bytes()).unwrap_err());
        assert!(refused.contains(message) && !refused.contains("7654"), "{argument}: {refused}");
    }
    assert!(Options::parse(b"{\"a\": \"\xff\"}").is_err());
    assert!(Options::parse(format!("{{\"a\": {}", "[".repeat(1 << 20)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_argument_causes_a_panic(argument in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,a-z0-9\\\\ ]{0,60}") {
        let _read = (Options::parse(&argument), Options::parse(text.as_bytes()));
    }

    #[test]
    fn no_error_shows_the_value_of_a_secret(
        key in "kubernetes\\.io/secret/([a-z.]{0,5}\\.)?(ssh-privatekey|sshKey|ssh-passphrase|known_hosts|username|password|token|ca\\.crt|[a-z]{1,9})",
        value in "(canary|\\PC{0,4})?canary(\n|\\PC{0,9})?",
        encode in any::<bool>(),
        other in "(repo|repository|readwrite|token|\\PC{0,9})",
    ) {
        let value = if encode { encoded(&value) } else { value };
        let members = [("repo", URL), (key.as_str(), value.as_str()), (other.as_str(), URL)];
        if let Err(error) = parse(&members) {
            let text = format!("{} {error:?}", chain(&error));
            prop_assert!(!text.contains("canary") && !text.contains(&value), "{text}");
        }
    }
}
