use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/gitrepo.json"), Config::for_drivers())
}

#[test]
fn a_file_without_fields_means_the_defaults() {
    assert_eq!(parse("{}").unwrap(), Config::for_drivers());
    assert_eq!(Config::parse("{}", Path::new("c"), Config::for_person()).unwrap(), Config::for_person());
}

#[test]
fn a_field_that_is_left_out_is_as_in_the_given_defaults() {
    let text = r#"{ "limits": { "entries": 5 }, "hostKeys": { "checking": "accept-new", "file": "/known" } }"#;
    let person = Config::parse(text, Path::new("c"), Config::for_person()).unwrap();
    assert_eq!(person.limits, Limits { entries: 5, ..Limits::default() });
    assert_eq!(person.host_keys.checking, Checking::AcceptNew);
    assert!(person.allow_loopback && person.allowed_schemes.contains(&Scheme::File));
    assert!(!parse(text).unwrap().allow_loopback);

    let lists = Config::parse(r#"{ "allowedSchemes": ["ssh"] }"#, Path::new("c"), Config::for_person()).unwrap();
    assert_eq!(lists.allowed_schemes, [Scheme::Ssh]);
}

#[test]
fn accepting_unknown_host_keys_needs_a_place_to_keep_them() {
    let error = parse(r#"{ "hostKeys": { "checking": "accept-new" } }"#).unwrap_err();
    assert!(error.to_string().contains("hostKeys.file"), "{error}");
}

#[test]
fn what_works_is_taken_over() {
    let config = parse(
        r#"{
          "store": "/s", "allowedHosts": ["*.Example.com"], "deniedHosts": ["10.*"],
          "limits": { "fetchBytes": 4096, "timeout": "1h30m", "stall": "500ms", "writableBytes": "2Gi" },
          "cache": { "maxBytes": "9Gi", "maxAge": "7d", "reserveBytes": "5G", "accessTtl": "0s", "scrubRate": "1Mi" }, "hostKeys": { "file": "/etc/known_hosts" },
          "proxy": "http://proxy:3128", "caFile": "/ca.pem", "snapshotFormat": "directory",
          "worker": { "uids": "1000-1003", "memory": "512Mi" }, "projectIds": "5-7"
        }"#,
    )
    .unwrap();
    assert_eq!(config.limits.fetch_bytes, 4096);
    assert_eq!(config.limits.stall, Duration::from_millis(500));
    assert_eq!(config.limits.writable_bytes, 2 << 30);
    assert_eq!((config.cache.max_bytes, config.cache.max_age), (9 << 30, Duration::from_secs(7 * 24 * 60 * 60)));
    assert_eq!((config.cache.reserve_bytes, config.cache.access_ttl), (5_000_000_000, Duration::ZERO));
    assert_eq!(config.cache.scrub_rate, 1 << 20);
    assert_eq!(config.proxy.url.unwrap().to_string(), "http://proxy:3128");
    assert_eq!(config.project_ids.unwrap().ids().collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(parse(r#"{ "projectIds": null }"#).unwrap().project_ids, None);
    assert_eq!(config.worker.uids.uids().collect::<Vec<_>>(), [1000, 1001, 1002, 1003]);
}

#[test]
fn an_unknown_field_is_refused_by_name_and_line() {
    for (text, field) in [
        ("{\n\"allowHosts\": []}", "allowHosts"),
        ("{\n\"limits\": { \"fetchByte\": 1 }}", "fetchByte"),
        ("{\n\"cache\": { \"maxbytes\": 1 }}", "maxbytes"),
        ("{\n\"hostKeys\": { \"known\": 1 }}", "known"),
        ("{\n\"worker\": { \"uid\": 1 }}", "uid"),
        // A frontend's field, which this reader does not know.
        ("{\n\"log\": { \"level\": \"info\" }}", "log"),
    ] {
        let message = crate::error::chain(&parse(text).unwrap_err());
        assert!(message.contains(&format!("unknown field `{field}`")), "{message}");
        assert!(message.contains("line 2") && message.contains("/etc/gitrepo.json"), "{message}");
    }
}

#[test]
fn somebody_elses_fields_are_read_beside_cores() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Others {
        colour: String,
        size: u8,
    }

    impl Default for Others {
        fn default() -> Self {
            Self { colour: "red".to_owned(), size: 0 }
        }
    }

    let read = |text: &str, size| {
        let others = Others { size, ..Others::default() };
        Config::parse_with(text, Path::new("c"), Config::for_drivers(), others)
    };
    let (config, others) = read(r#"{ "store": "/s", "colour": "blue" }"#, 5).unwrap();
    assert_eq!((config.store.as_path(), others), (Path::new("/s"), Others { colour: "blue".to_owned(), size: 5 }));
    for (text, words) in [
        ("{\n\"color\": \"blue\" }", "unknown field `color`, did you mean `colour`? at line 2"),
        ("{\n\"allowHosts\": [] }", "unknown field `allowHosts`, did you mean `allowedHosts`? at line 2"),
        ("{\n\"nothing like it\": 1 }", "expected one of `allowLinkLocal`, "),
        ("{\n\"size\": \"S\" }", "line 2"),
        ("{\n\"size\": 1, \"size\": 1 }", "duplicate field `size` at line 2"),
        ("{} {}", "trailing characters"),
    ] {
        let message = crate::error::chain(&read(text, 0).unwrap_err());
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_value_that_this_version_does_not_know_is_refused_and_not_ignored() {
    for text in [r#"{ "seLinuxContext": "x" }"#, r#"{ "offline": "serve" }"#, r#"{ "snapshotFormat": "squashfs" }"#] {
        assert!(matches!(parse(text), Err(ConfigError::Parse { .. })), "{text}");
    }
}

#[test]
fn node_credentials_and_the_prefetch_list_are_read() {
    let config = parse(
        r#"{ "nodeCredentials": [{ "match": "git@h:team/*", "secretDir": "/s", "namespaces": ["ci"] }],
             "prefetch": [{ "repository": "https://h/app.git", "revision": "v1", "subdirectory": "docs" }] }"#,
    )
    .unwrap();
    let [credential] = &config.node_credentials[..] else { panic!("{config:?}") };
    assert!(credential.is_for("ci") && !credential.is_for("default") && !credential.is_for(""));
    let spec = config.prefetch[0].spec().unwrap();
    assert_eq!((spec.revision.to_string().as_str(), spec.tree.directory.as_str()), ("v1", "app"));
    assert_eq!(spec.tree.subdirectory.as_str(), "docs");
}

#[test]
fn values_without_sense_are_refused() {
    for text in [
        "",
        "[]",
        r#"{ "limits": [] }"#,
        r#"{ "worker": ["1000-1003"] }"#,
        "null",
        "{",
        r#"{ "store": "relative" }"#,
        r#"{ "store": null }"#,
        r#"{ "allowedSchemes": ["ext"] }"#,
        r#"{ "allowedSchemes": "https" }"#,
        r#"{ "allowedHosts": ["https://x"] }"#,
        r#"{ "limits": { "fetchBytes": "10GB" } }"#,
        r#"{ "limits": { "fetchBytes": -1 } }"#,
        r#"{ "limits": { "timeout": 30 } }"#,
        r#"{ "limits": { "timeout": "0s" } }"#,
        r#"{ "limits": { "entries": 0 } }"#,
        r#"{ "limits": { "stall": "0s" } }"#,
        r#"{ "proxy": "socks4://p:1" }"#,
        r#"{ "proxy": { "url": "http://p" } }"#,
        r#"{ "proxy": { "login": "/x" } }"#,
        r#"{ "proxy": { "noProxy": ["10.0.0.0/40"] } }"#,
        r#"{ "worker": { "uids": "0-10" } }"#,
        r#"{ "worker": { "uids": "10-5" } }"#,
        r#"{ "worker": { "uids": "1-4294967295" } }"#,
        r#"{ "worker": { "uids": "7" } }"#,
        r#"{ "projectIds": "0-7" }"#,
        r#"{ "projectIds": 7 }"#,
        r#"{ "worker": { "memory": "1Mi" } }"#,
        r#"{ "allowLoopback": "yes" }"#,
        r#"{ "nodeCredentials": [{ "match": "*", "secretDir": "/s", "namespaces": ["a"] }] }"#,
        r#"{ "nodeCredentials": [{ "match": "git@h:*", "secretDir": "s", "namespaces": ["a"] }] }"#,
        r#"{ "nodeCredentials": [{ "match": "git@h:*", "secretDir": "/s" }] }"#,
        r#"{ "prefetch": [{ "revision": "main" }] }"#,
        r#"{ "prefetch": [{ "repository": "https://h/a", "branch": "main" }] }"#,
        r#"{ "prefetch": [{ "repository": "https://h/a", "depth": 1 }] }"#,
        r#"{ "store": "/a", "store": "/b" }"#,
    ] {
        assert_eq!(parse(text).map_err(|error| error.kind()), Err(Kind::InvalidRequest), "{text}");
    }
}

#[test]
fn a_password_of_a_proxy_is_not_repeated() {
    let message = crate::error::chain(&parse(r#"{ "proxy": "http://user:canary@proxy:3128" }"#).unwrap_err());
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn the_message_for_a_refused_amount_names_it() {
    for value in ["-1", "1.5", "[1]"] {
        let text = format!(r#"{{ "limits": {{ "fetchBytes": {value} }} }}"#);
        let message = crate::error::chain(&parse(&text).unwrap_err());
        assert!(message.contains(&format!("{value} is not an amount of bytes")), "{message}");
    }
}
