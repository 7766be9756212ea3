use proptest::prelude::*;

use super::*;
use crate::credentials::tests::CERTIFICATE;
use crate::credentials::tests::PRIVATE_KEY;
use crate::credentials::tests::credentials;

const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n";

fn error(keys: &[(&str, &str)]) -> String {
    crate::error::chain(&credentials(keys).unwrap_err())
}

#[test]
fn a_name_is_split_at_the_longest_known_key() {
    for (name, host, key) in [
        ("token", None, SecretKey::Token),
        ("sshKey", None, SecretKey::SshPrivateKey),
        ("ca.crt", None, SecretKey::CaCertificates),
        ("git.example.com.ca.crt", Some("git.example.com"), SecretKey::CaCertificates),
        ("Git.Example.com.sshKey", Some("git.example.com"), SecretKey::SshPrivateKey),
        ("localhost.known_hosts", Some("localhost"), SecretKey::KnownHosts),
        ("10.0.0.1.ssh-passphrase", Some("10.0.0.1"), SecretKey::SshPassphrase),
        ("token.token", Some("token"), SecretKey::Token),
    ] {
        assert_eq!(split(name), Ok((host.map(str::to_owned), key)), "{name}");
    }
}

#[test]
fn an_unknown_key_names_its_nearest_neighbour() {
    for (name, nearest) in [
        ("pasword", "password"),
        ("sshPrivateKey", "ssh-privatekey"),
        ("ssh-private-key", "ssh-privatekey"),
        ("known-hosts", "known_hosts"),
        ("ca.cert", "ca.crt"),
        ("identity", "ssh-privatekey"),
        ("ssh-publickey", "ssh-privatekey"),
        ("user", "username"),
        ("pass", "password"),
        ("cacert", "ca.crt"),
        ("git.example.com.user", "git.example.com.username"),
        ("git.example.com.tokn", "git.example.com.token"),
    ] {
        assert_eq!(error(&[(name, "x")]), format!("unknown secret key {name:?}; did you mean {nearest:?}?"));
    }
    let beside = error(&[("ssh-privatekey", PRIVATE_KEY), ("ssh-publickey", "ssh-ed25519 AAAA")]);
    assert!(beside.ends_with("the secret also has \"ssh-privatekey\": leave \"ssh-publickey\" out"), "{beside}");
    let without = error(&[("colour", "x")]);
    assert!(without.contains("\"colour\"; there are ssh-privatekey, ssh-passphrase,"), "{without}");
}

#[test]
fn what_is_no_host_is_no_prefix() {
    for name in [".token", "a..token", "a b.token", "https://a.token"] {
        assert!(error(&[(name, "x")]).contains("is not a host name"), "{name}");
    }
}

#[test]
fn the_line_end_that_a_file_has_is_not_part_of_the_value() {
    let credentials = credentials(&[
        ("username", "me\n"),
        ("password", "pass \r\n"),
        ("a.org.token", "t0k3n\n"),
        ("ssh-privatekey", ENCRYPTED_KEY),
        ("ssh-passphrase", " phrase\n"),
    ])
    .unwrap();
    let own = credentials.for_host("host", "host");
    assert_eq!((own.username, own.password.unwrap().expose()), (Some("me"), "pass "));
    assert_eq!(own.ssh_key.unwrap().passphrase().unwrap().expose(), " phrase");
    assert_eq!(credentials.for_host("a.org", "host").token.unwrap().expose(), "t0k3n");
}

#[test]
fn nothing_that_could_end_a_header_is_let_through() {
    for value in ["a\nX-Evil: 1", "a\r\n\r\nGET /", "a\0b", "a\x1bb", "a\x7fb", "a\u{85}b"] {
        for keys in [
            vec![("token", value)],
            vec![("username", value), ("password", "p")],
            vec![("username", "u"), ("password", value)],
        ] {
            assert!(error(&keys).contains("cannot be sent"), "{keys:?}");
        }
    }
    assert!(error(&[("token", "two words")]).contains("cannot be sent"));
    assert!(error(&[("token", "tökén")]).contains("cannot be sent"));
    assert!(error(&[("username", "a:b"), ("password", "p")]).contains("cannot be sent"));
    assert!(credentials(&[("username", "jörg"), ("password", "p:ä ß")]).is_ok());
}

#[test]
fn a_blank_value_is_a_missing_one_under_every_key() {
    for key in SecretKey::ALL {
        for value in ["", " ", "\n", "\r\n"] {
            let credentials = credentials(&[(key.name(), value), ("a.org.token", value)]).unwrap();
            assert!(credentials.is_empty(), "{credentials:?}");
        }
    }
    assert!(credentials(&[("ssh-privatekey", PRIVATE_KEY), ("sshKey", "")]).is_ok());
    assert!(credentials(&[("token", "t"), ("username", ""), ("password", "\n")]).is_ok());
    assert!(error(&[("username", "u"), ("password", "")]).contains("no \"password\""));
    assert!(error(&[("tokn", "")]).contains("did you mean"), "a typo is told all the same");
}

#[test]
fn keys_that_need_or_exclude_one_another_say_so() {
    for (keys, message) in [
        (vec![("password", "p")], "has \"password\" but no \"username\"; if the server"),
        (vec![("username", "u")], "has \"username\" but no \"password\""),
        (vec![("username", "u"), ("token", "t")], "no \"password\"; a bearer token needs no user name"),
        (vec![("a.org.username", "u"), ("password", "p")], "has \"password\" but no \"username\""),
        (vec![("a.org.password", "p")], "has \"a.org.password\" but no \"a.org.username\""),
        (vec![("ssh-passphrase", "p")], "has \"ssh-passphrase\" but no \"ssh-privatekey\""),
        (vec![("username", "u"), ("password", "p"), ("token", "t")], "has \"token\" and \"password\", which are two"),
        (vec![("ssh-privatekey", PRIVATE_KEY), ("sshKey", PRIVATE_KEY)], "which mean the same"),
        (vec![("A.org.token", "t"), ("a.org.token", "t")], "which mean the same"),
        (vec![("ssh-privatekey", ENCRYPTED_KEY)], "encrypted: add its passphrase to the secret as \"ssh-passphrase\""),
        (vec![("a.org.sshKey", ENCRYPTED_KEY)], "as \"a.org.ssh-passphrase\""),
    ] {
        assert!(error(&keys).contains(message), "{}", error(&keys));
    }
    assert!(credentials(&[("username", "git"), ("ssh-privatekey", PRIVATE_KEY)]).is_ok());
    assert!(credentials(&[("token", "t"), ("a.org.username", "u"), ("a.org.password", "p")]).is_ok());
}

#[test]
fn a_key_a_certificate_and_known_hosts_are_checked_before_they_are_needed() {
    for (key, value, message) in [
        ("ssh-privatekey", "ssh-rsa AAAA", "\"ssh-privatekey\" cannot be used: it is a public key"),
        ("ca.crt", "MIIB", "no certificate in PEM format"),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----", "its certificate 1 is damaged"),
        ("ca.crt", PRIVATE_KEY, "no certificate"),
        ("known_hosts", "\ngit.example.com ssh-rsa", "no line in the format of known_hosts: line 2 is not of the form"),
        ("known_hosts", "@revokd host ssh-rsa AAAA\n@cert", "line 1 has an unknown marker"),
    ] {
        assert!(error(&[(key, value)]).contains(message), "{}", error(&[(key, value)]));
    }
    assert!(credentials(&[("ca.crt", &format!("# comment\n{CERTIFICATE}{CERTIFICATE}"))]).is_ok());
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    for text in
        [format!("half a li\nhost {key}\n@revokd host"), "# none\n\n".to_owned(), "host ssh-dss AAAA".to_owned()]
    {
        assert!(credentials(&[("known_hosts", &text)]).is_ok(), "{text}");
    }
}

#[test]
fn a_client_certificate_comes_with_its_key() {
    let parsed =
        credentials(&[("a.org.tls.crt", CERTIFICATE), ("a.org.tls.key", PRIVATE_KEY), ("token", "t")]).unwrap();
    assert!(parsed.for_host("git.example.com", "git.example.com").client_certificate.is_none());
    let certificate = parsed.for_host("a.org", "git.example.com").client_certificate.unwrap();
    assert_eq!((certificate.certificates(), certificate.key().expose()), (CERTIFICATE, PRIVATE_KEY));
    for (keys, message) in [
        (vec![("tls.crt", CERTIFICATE)], "has \"tls.crt\" but no \"tls.key\""),
        (vec![("a.org.tls.key", PRIVATE_KEY)], "has \"a.org.tls.key\" but no \"a.org.tls.crt\""),
        (vec![("tls.crt", CERTIFICATE), ("tls.key", CERTIFICATE)], "\"tls.key\" has no private key in PEM format"),
        (vec![("tls.crt", PRIVATE_KEY), ("tls.key", PRIVATE_KEY)], "\"tls.crt\" has no certificate"),
        (vec![("tls.crt", CERTIFICATE), ("tls.key", ENCRYPTED_KEY)], "has an encrypted private key; write"),
    ] {
        assert!(error(&keys).contains(message), "{}", error(&keys));
    }
}

#[test]
fn no_error_shows_a_value() {
    for key in SecretKey::ALL {
        for value in ["canary", "canary\r\ncanary", "canary ssh-rsa", "-----BEGIN canary PRIVATE KEY-----", "\0canary"]
        {
            let secret = [(key.name(), value)];
            if let Err(error) = credentials(&secret) {
                let shown = format!("{} {error:?}", crate::error::chain(&error));
                assert!(!shown.contains("canary"), "{shown}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_secret_makes_the_check_panic(
        names in prop::collection::vec("([a-z.]{0,5}\\.)?(ssh-privatekey|ssh-passphrase|known_hosts|username|password|token|ca.crt|tls.crt|tls.key|\\PC*)", 0..6),
        values in prop::collection::vec("\\PC*|-----BEGIN (OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9:\n]{0,80}\n-----END |[a-z]{1,8}\n?", 6),
    ) {
        let keys: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        let _checked = credentials(&keys);
    }
}

#[test]
fn s25_a_secret_is_measured_before_it_is_read() {
    let secret = |name: &str, value: &str| {
        let given = [(name.to_owned(), Secret::new(value.to_owned()))].into();
        crate::credentials::Credentials::from_secret_keys(given).unwrap_err()
    };
    let long = "x".repeat(1_400_000);
    for (name, value) in [(&*long, ""), ("known_hosts", &long), ("token", &long)] {
        let error = secret(name, value);
        assert!(matches!(error, CredentialError::TooLarge { length } if length >= 1_400_000), "{error}");
    }
    // Within the limit, names are checked but not compared letter by letter, and not shown in full.
    let dots = ".a".repeat(400_000);
    for name in [&long[..1_000_000], &dots, &format!("{}.token", &long[..900_000]), &format!("{dots}.token")] {
        assert!(secret(name, "x").to_string().len() < 600);
    }
}
