use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> RepositoryUrl {
    RepositoryUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_url_is_taken_apart() {
    type Parts<'a> = (Scheme, Option<&'a str>, Option<&'a str>, Option<u16>, &'a str, &'a str);
    use Scheme::*;
    let table: [(&str, Parts<'_>); 21] = [
        ("https://github.com/a/b.git", (Https, None, Some("github.com"), Some(443), "/a/b.git", "b")),
        ("HTTPS://GitHub.COM:443/a/B", (Https, None, Some("github.com"), Some(443), "/a/B", "B")),
        ("https://alice@host:8443/x/", (Https, Some("alice"), Some("host"), Some(8443), "/x/", "x")),
        (
            "https://a%40b@host/my%20repo.git",
            (Https, Some("a@b"), Some("host"), Some(443), "/my%20repo.git", "my%20repo"),
        ),
        ("http://[::1]:8080/x/.git", (Http, None, Some("::1"), Some(8080), "/x/.git", "x")),
        ("http://127.0.0.1/x//", (Http, None, Some("127.0.0.1"), Some(80), "/x//", "x")),
        ("ssh://git@host:22/x.git", (Ssh, Some("git"), Some("host"), Some(22), "/x.git", "x")),
        ("ssh://git@[2001:DB8::1]:2222/x", (Ssh, Some("git"), Some("2001:db8::1"), Some(2222), "/x", "x")),
        ("ssh://host/~/x", (Ssh, None, Some("host"), Some(22), "~/x", "x")),
        ("ssh://host/~me/x", (Ssh, None, Some("host"), Some(22), "~me/x", "x")),
        ("ssh://host/a%20b", (Ssh, None, Some("host"), Some(22), "/a b", "a b")),
        ("git@github.com:a/b.git", (Ssh, Some("git"), Some("github.com"), Some(22), "a/b.git", "b")),
        ("host:b.git", (Ssh, None, Some("host"), Some(22), "b.git", "b")),
        ("host:/srv/b.git/", (Ssh, None, Some("host"), Some(22), "/srv/b.git/", "b")),
        ("host:~/x", (Ssh, None, Some("host"), Some(22), "~/x", "x")),
        ("[::1]:x", (Ssh, None, Some("::1"), Some(22), "x", "x")),
        ("user@[::1]:a:b", (Ssh, Some("user"), Some("::1"), Some(22), "a:b", "b")),
        (
            "git@ssh.dev.azure.com:v3/o/My%20P/r",
            (Ssh, Some("git"), Some("ssh.dev.azure.com"), Some(22), "v3/o/My%20P/r", "r"),
        ),
        ("git://host/~me/x", (Git, None, Some("host"), Some(9418), "~me/x", "x")),
        ("file:///srv/a%20b.git", (File, None, None, None, "/srv/a b.git", "a b")),
        ("file://localhost/~/x", (File, None, None, None, "/~/x", "x")),
    ];
    for (text, parts) in table {
        let url = parsed(text);
        assert_eq!((url.scheme(), url.user(), url.host(), url.port(), url.path(), url.base_name()), parts, "{text}");
    }
}

#[test]
fn spellings_that_send_the_same_bytes_have_one_canonical_form() {
    let table = [
        (
            "https://github.com/a/b",
            &["HTTPS://GITHUB.com/a/b", "https://github.com:443/a/b", "https://github.com:0443/a/b"][..],
        ),
        ("http://[::1]/x", &["http://[0:0:0:0:0:0:0:1]/x", "http://[::1]:80/x"]),
        ("ssh://git@host/srv/x", &["git@host:/srv/x", "ssh://git@host:22/srv/x", "ssh://g%69t@HOST/srv%2fx"]),
        ("ssh://host/~/x", &["host:~/x", "host:/~/x", "ssh://host:22/~/x", "ssh://host/%7E/x"]),
        ("ssh://host/a%20b%25", &["ssh://host/%61%20b%25"]),
        ("ssh://host/a%2520b", &["host:/a%20b"]),
        ("git://host/x", &["git://host:9418/x"]),
        ("file:///x", &["file://localhost/x", "file:///%78"]),
    ];
    for (canonical, spellings) in table {
        assert_eq!(parsed(canonical).canonical(), canonical);
        for spelling in spellings {
            assert_eq!(parsed(spelling), parsed(canonical), "{spelling}");
            assert_eq!(parsed(spelling).canonical(), canonical, "{spelling}");
        }
    }
}

#[test]
fn s12_spellings_that_may_be_another_repository_stay_apart() {
    let apart = [
        "https://host/a/b http://host/a/b https://host/A/b https://host/a/b/ https://host//a/b",
        "https://host/a/b.git https://host/a/%62 https://host/a/%62.git https://host:8443/a/b",
        "https://alice@host/a/b https://Alice@host/a/b https://xn--hst-sna/a/b ssh://host/a/b",
        "ssh://git@host/a/b ssh://git@host:2222/a/b git@host:a/b git@host:a/b.git host:a/b host:~/a/b",
        "host:~git/a/b git://host/a/b file:///a/b",
    ];
    let apart: Vec<_> = apart.into_iter().flat_map(str::split_whitespace).collect();
    for (place, one) in apart.iter().enumerate() {
        for other in &apart[place + 1..] {
            assert_ne!(parsed(one).canonical(), parsed(other).canonical());
        }
    }
}

#[test]
fn a_server_is_sent_the_path_that_git_would_send() {
    for (text, path) in [
        ("https://alice@host:8443/a%20b", "/a%20b"),
        ("ssh://host/a%20b%25c", "/a b%c"),
        ("ssh://git@host:2222/~/x", "~/x"),
        ("git@host:a%20b", "a%20b"),
        ("git@host:/a%20b", "/a%20b"),
        ("[::1]:x", "x"),
        ("git://host/a%20b", "/a b"),
        ("file:///a%20b", "/a b"),
    ] {
        assert_eq!(parsed(text).path(), path, "{text}");
    }
}

/// Every text input of the threat table, and everything else that a parser before git's must reject.
#[test]
fn s2_urls_that_reach_something_else_are_refused() {
    let words = [
        // Local paths and drives.
        r"/etc ../x ./x x ~ ~/x a/b:c /a:b C:\x c:/x C:x \\host\share file:x file:/x file:// file:/// file://host/x",
        r"file:////x file://./x file://localhost file:///a/../b file:///a/%2e%2e/b",
        // Commands.
        "ext::sh%20-c fd::3 fd::3,4/x EXT::x transport::address ::x host::x git-remote-ext::x ext+x::y",
        // Options.
        "-uecho --upload-pack=x -oProxyCommand=x:y ssh://-oProxyCommand=x/y ssh://-oProxyCommand=x:22/y",
        "ssh://-user@host/x ssh://%2duser@host/x -user@host:x user@-host:x ssh://user@-host/x host:-x",
        "user@host:--upload-pack=x https://-host/x git://-host/x ssh://[-oProxyCommand=x]/y [-oProxyCommand=x]:y",
        // Characters.
        r"https://host/a%00b https://host/a%0ab https://host/a%0Db ssh://host/a%0ab ssh://us%0aer@host/x",
        r"ssh://host/a%00b git://host/a%00b git://host/a%0ahost=evil file:///a%00b https://host\x https://host/a\b",
        r"https://host/a%5cb https://good.example\@evil.example/x host:a\b us\er@host:x",
        // Percent encoding.
        "https://host/a% https://host/a%2 https://host/a%zz https://host/a%+1 https://host/%ff ssh://host/%ff",
        "ssh://host/% https://us%er@host/x https://ho%73t/x https://host%2f/x https://host%00.example/x",
        // Hosts.
        "https:// https:///x https://:443/x https://@host/x https://user@/x :x @host:x user@:x []:x [host]:x",
        "[host:22]:x [::1:x [::1]x https://[::1/x https://[::1]x/y https://::1/x https://[::1%25eth0]/x",
        "https://[fe80::1%eth0]/x https://hóst/x https://gіthub.com/x hóst:x https://host./x https://a..b/x",
        "https://2130706433/x http://0x7f.1/x http://0x7f000001/x http://017700000001/x http://0177.0.0.1/x",
        "http://127.1/x 2130706433:x https://a@b@host/x https://host,evil/x https://host;x/y https://$(id)/x `id`:x",
        // Ports.
        "https://host:/x https://host:0/x https://host:65536/x https://host:-1/x https://host:+1/x",
        "https://host:1a/x https://host:80:90/x https://host:99999999999999999999/x",
        // Paths.
        "https://host https://host/ https://host:443 ssh://host ssh://host/ host: host:/ user@host: git://host/",
        "https://host/.. https://host/a/../b https://host/a/%2e%2e/b https://host/a%2f..%2fb https://host/./b",
        "host:../x host:a/../b host:/.. user@host::x",
        // Query and fragment.
        "https://host/x?private_token=canary https://host/x#y https://host?x https://good.example#@evil.example/x",
        "https://good.example?@evil.example/x ssh://host/x?y ssh://host/x%3Fy ssh://host/x%23y host:x#y file:///x#y",
        // Schemes.
        "ftp://host/x ssh+git://host/x rsync://host/x javascript://host/x https:host/x https:/host/x https: http:/x",
        "1http://host/x ://x git://user@host/x",
    ];
    let others = [
        // With blanks or escapes.
        "ext::sh -c id",
        "",
        " ",
        " https://host/x",
        "https://host/x ",
        "https://host/a b",
        "https://host/a\tb",
        "https://host/a\nb",
        "https://host/a\rb",
        "https://host/a\0b",
        "https://host/a\u{7f}b",
        "https://host/a\u{85}b",
        "https://host/a\u{a0}b",
        "https://host/a\u{202e}b",
        "https://host/a\u{200b}b",
        "\u{feff}https://host/x",
        "https://ho\nst/x",
        "host:a\nb",
        "ht tp://host/x",
    ];
    let refused = words.into_iter().flat_map(str::split_whitespace).chain(others);
    for text in refused {
        assert!(RepositoryUrl::parse(text).is_err(), "{text:?} gave {:?}", RepositoryUrl::parse(text));
    }
    let long = format!("https://host/{}", "a".repeat(RepositoryUrl::MAX_LENGTH));
    assert_eq!(RepositoryUrl::parse(&long), Err(UrlError::TooLong));
}

#[test]
fn s13_a_password_is_refused_and_never_repeated() {
    let passwords = [
        "https://user:canary@host/x",
        "https://user:@host/x",
        "https://:canary@host/x",
        "https://user%3Acanary@host/x",
        "ssh://user:canary@host/x",
        "git://user:canary@host/x",
        "user:canary@host:x",
        "user:canary@host/x",
        "user:can/ary@host:x",
        "u:canary@host:x",
        "a@b:canary@host:x",
    ];
    for text in passwords {
        let error = RepositoryUrl::parse(text).unwrap_err();
        assert_eq!(error, UrlError::Password, "{text}");
        assert!(error.to_string().contains("secret"));
    }
    for text in [
        "https://ghp_canary@host/x",
        "https://glpat-canary@host/x",
        "https://canary0123456789abcdef0123456789ab@host/x",
        "https://user:canary/x@host/y",
        "https://user:canary",
        "https://canary@@host/x",
        "file://u:canary@host/x",
    ] {
        let error = RepositoryUrl::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{text}: {error:?}");
    }
}

#[test]
fn a_port_in_a_path_is_told_from_a_path() {
    for (text, with_port, with_path) in [
        ("git@host:7999/group/repo", "ssh://git@host:7999/group/repo", "ssh://git@host/7999/group/repo"),
        ("git@Host:2222/repo.git", "ssh://git@host:2222/repo.git", "ssh://git@host/2222/repo.git"),
        ("host:22/repo", "ssh://host:22/repo", "ssh://host/22/repo"),
        ("git@[::1]:65535/~me/x", "ssh://git@[::1]:65535/~me/x", "ssh://git@[::1]/65535/~me/x"),
    ] {
        let error = RepositoryUrl::parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest);
        for advice in [with_port, with_path] {
            assert!(error.to_string().contains(advice), "{error}");
            parsed(advice);
        }
    }
    for text in
        ["git@host:0/x", "git@host:007/x", "git@host:65536/x", "git@host:7999", "git@host:7999x/y", "host:/22/x"]
    {
        assert_eq!(parsed(text).port(), Some(22), "{text}");
    }
    assert_eq!(parsed("git@github.com:1234/repo.git").path(), "1234/repo.git");
}

#[test]
fn a_blank_at_either_end_is_named() {
    for (text, advice) in [
        (" https://host/x", "begins with a space; remove it"),
        ("https://host/x ", "ends with a space; remove it"),
        ("https://host/x\n", "ends with a line break; remove it; in YAML, a block"),
        ("https://host/x\r\n", "ends with a line break"),
        ("\thttps://host/x", "begins with a tab"),
        ("git@host:x\r", "ends with a carriage return"),
        ("\u{feff}https://host/x", r"begins with the character '\u{feff}'"),
        ("https://host/x\0", r"ends with the character '\0'"),
    ] {
        let error = RepositoryUrl::parse(text).unwrap_err();
        assert!(matches!(error, UrlError::Edge { .. }), "{text:?}: {error:?}");
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(matches!(RepositoryUrl::parse("https://host/a b"), Err(UrlError::Character { .. })));
}

#[test]
fn errors_say_what_to_write_instead() {
    let table = [
        ("/srv/x", "file:///absolute/path"),
        ("https://bücher.example/x", "punycode"),
        ("https://host/x?token=1", "secret"),
        ("https:/host/x", "https://"),
        ("ftp://host/x", "https, http, ssh, git or file"),
        ("ext::sh", "https or ssh"),
        ("https://host", "path"),
        (r"C:\x", "Windows"),
    ];
    for (text, advice) in table {
        let error = RepositoryUrl::parse(text).unwrap_err().to_string();
        assert!(error.contains(advice), "{text}: {error}");
    }
}

/// Text that resembles URLs: random text would hardly ever get past the scheme.
fn url_like() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "https://", "http://", "ssh://", "git://", "file://", "HTTPS://", "", "x::", "ftp://",
    ]);
    let user = prop_oneof![Just(String::new()), "[a-z%@:.~-]{0,6}@", "git@"];
    let host =
        prop_oneof!["[a-zA-Z0-9.-]{1,12}", "[0-9.x]{1,10}", r"\[[0-9a-f:.]{2,20}\]", Just("localhost".to_owned())];
    let port = prop_oneof![Just(String::new()), ":[0-9]{0,6}", Just(":".to_owned())];
    let path =
        prop_oneof!["[/~]?[ -~]{0,20}", "(/[a-z~.%0-9A-F-]{0,5}){0,4}", "[/~:]?\\PC{0,10}", "(/%[0-9a-fA-F]{2}){0,5}"];
    (scheme, user, host, port, path)
        .prop_map(|(scheme, user, host, port, path)| format!("{scheme}{user}{host}{port}{path}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn parsing_never_panics(text in ".*") {
        drop(RepositoryUrl::parse(&text));
    }

    #[test]
    fn the_canonical_form_is_stable_and_reads_back_as_the_same_url(text in url_like()) {
        if let Ok(url) = RepositoryUrl::parse(&text) {
            let canonical = url.canonical();
            prop_assert_eq!(RepositoryUrl::parse(&canonical), Ok(url.clone()), "{}", canonical);
            prop_assert!(!canonical.contains(|character: char| character.is_control() || character.is_whitespace()));
            let json = serde_json::to_string(&url).unwrap();
            prop_assert_eq!(serde_json::from_str::<RepositoryUrl>(&json).unwrap(), url);
        }
    }

    #[test]
    fn no_part_of_a_url_is_an_option_or_climbs(text in url_like()) {
        if let Ok(url) = RepositoryUrl::parse(&text) {
            for part in [Some(url.path()), url.host(), url.user()].into_iter().flatten() {
                prop_assert!(!part.starts_with('-') && !part.is_empty());
                prop_assert!(!part.contains(|character: char| character.is_control()));
            }
            prop_assert!(url.path().split('/').all(|part| part != ".."));
        }
    }
}
