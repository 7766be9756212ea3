use std::io;
use std::time::Duration;
use std::time::Instant;

use super::*;

fn url(text: &str) -> RepositoryUrl {
    RepositoryUrl::parse(text).unwrap()
}

fn driver(change: impl FnOnce(&mut Config)) -> Policy {
    let mut config = Config::for_drivers();
    change(&mut config);
    Policy::new(config)
}

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
}

/// A resolver with a fixed answer for each name in the tests below.
fn fake_resolver(name: &str) -> io::Result<Vec<IpAddr>> {
    let addresses: &[&str] = match name {
        "public.example" => &["192.0.2.1", "2001:db8::1", "192.0.2.1"],
        "mixed.example" => &["127.0.0.1", "192.0.2.1", "169.254.169.254"],
        "rebound.example" => &["::ffff:127.0.0.1", "127.0.0.1"],
        "metadata.example" => &["169.254.169.254"],
        "private.example" => &["10.0.0.5", "64:ff9b::10.0.0.5"],
        "empty.example" => &[],
        "hanging.example" => loop {
            std::thread::park();
        },
        _ => return Err(io::Error::other("Name or service not known")),
    };
    Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn pin(policy: Policy, text: &str) -> Result<Option<PinnedHost>, PolicyError> {
    Policy { resolver: fake_resolver, ..policy }.pin(&url(text), &Cancel::new())
}

fn addresses(pinned: Result<Option<PinnedHost>, PolicyError>) -> Vec<String> {
    pinned.unwrap().unwrap().addresses.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn a_host_is_pinned_to_where_its_name_stands() {
    let pinned = pin(driver(|_| {}), "https://Public.example:8443/x").unwrap().unwrap();
    assert_eq!((pinned.name.as_str(), pinned.port), ("public.example", 8443));
    assert_eq!(addresses(Ok(Some(pinned))), ["192.0.2.1:8443", "[2001:db8::1]:8443"]);
    assert_eq!(addresses(pin(driver(|_| {}), "git@public.example:x")), ["192.0.2.1:22", "[2001:db8::1]:22"]);
    assert_eq!(addresses(pin(driver(|_| {}), "http://[2001:db8::7]/x")), ["[2001:db8::7]:80"]);
}

#[test]
fn s14_denied_addresses_are_left_out_and_none_left_is_refused() {
    assert_eq!(addresses(pin(driver(|_| {}), "https://mixed.example/x")), ["192.0.2.1:443"]);
    let denied = [
        ("https://rebound.example/x", "allowLoopback"),
        ("https://metadata.example/x", "allowLinkLocal"),
        ("http://169.254.169.254/x", "allowLinkLocal"),
        ("http://[fd00:ec2::254]/x", "allowLinkLocal"),
        ("http://[::ffff:127.0.0.1]/x", "allowLoopback"),
        ("http://127.0.0.1/x", "allowLoopback"),
        ("http://[::1]/x", "allowLoopback"),
        ("http://[fe80::1]/x", "allowLinkLocal"),
        ("http://0.0.0.0/x", "unspecified"),
        ("http://[::]/x", "unspecified"),
        ("http://255.255.255.255/x", "broadcast"),
    ];
    for (text, advice) in denied {
        let error = pin(driver(|_| {}), text).unwrap_err();
        assert!(matches!(error, PolicyError::AddressDenied { .. }), "{text}: {error:?}");
        assert_eq!(error.kind(), Kind::PermissionDenied);
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[test]
fn the_configuration_opens_loopback_and_link_local_one_by_one() {
    let loopback = || driver(|config| config.allow_loopback = true);
    let link_local = || driver(|config| config.allow_link_local = true);
    assert_eq!(addresses(pin(loopback(), "http://127.0.0.1:8080/x")), ["127.0.0.1:8080"]);
    assert!(pin(loopback(), "http://169.254.169.254/x").is_err());
    assert_eq!(addresses(pin(link_local(), "http://169.254.169.254/x")), ["169.254.169.254:80"]);
    assert!(pin(link_local(), "http://127.0.0.1/x").is_err());
    let both = driver(|config| (config.allow_loopback, config.allow_link_local) = (true, true));
    assert!(pin(both, "http://0.0.0.0/x").is_err());
}

#[test]
fn a_denied_address_is_denied_under_every_name() {
    let policy = driver(|config| config.denied_hosts = patterns(&["10.*"]));
    assert!(matches!(pin(policy, "https://private.example/x"), Err(PolicyError::HostDenied { .. })));
}

#[test]
fn a_name_that_cannot_be_resolved_is_unavailable() {
    for name in ["unknown.example", "empty.example"] {
        let error = pin(driver(|_| {}), &format!("https://{name}/x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn r7_a_resolver_that_hangs_holds_nobody_up() {
    let policy = Policy { resolver: fake_resolver, ..driver(|_| {}) };
    let began = Instant::now();
    let cancel = Cancel::new().within(Duration::from_millis(100));
    let error = policy.pin(&url("https://hanging.example/x"), &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);

    let cancel = Cancel::new();
    cancel.cancel();
    let error = policy.pin(&url("https://hanging.example/x"), &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_proxy_is_pinned_in_place_of_a_web_host_but_not_of_an_ssh_host() {
    let proxy = || ProxyConfig::new(Proxy::parse("http://127.0.0.1:3128").unwrap());
    let proxied = || driver(|config| config.proxy = proxy());
    let pinned = pin(proxied(), "https://unknown.example/x").unwrap().unwrap();
    assert_eq!((pinned.name.as_str(), pinned.port), ("127.0.0.1", 3128));
    assert_eq!(addresses(Ok(Some(pinned))), ["127.0.0.1:3128"]);
    assert_eq!(addresses(pin(proxied(), "git@public.example:x")), ["192.0.2.1:22", "[2001:db8::1]:22"]);
    for denied in ["http://169.254.169.254/x", "http://localhost/x", "https://git.localhost/x"] {
        assert!(matches!(pin(proxied(), denied), Err(PolicyError::AddressDenied { .. })), "{denied}");
    }
    let excepting = |entry: &str| {
        let no_proxy = vec![Bypass::parse(entry).unwrap()];
        driver(|config| config.proxy = ProxyConfig { no_proxy, ..proxy() })
    };
    assert_eq!(
        addresses(pin(excepting("example"), "https://public.example/x")),
        ["192.0.2.1:443", "[2001:db8::1]:443"]
    );
    assert!(matches!(pin(excepting("*"), "https://metadata.example/x"), Err(PolicyError::AddressDenied { .. })));
}

#[test]
fn the_configurations_proxy_goes_over_the_environments() {
    let environment = |config: &mut Config| {
        let read = |name: &str| (name == "https_proxy").then(|| "http://me:canary@environment:1".to_owned());
        config.environment_proxies = EnvironmentProxies::read(read).unwrap();
    };
    let access = |policy: Policy| policy.proxy_access(&url("https://git.example.com/x")).unwrap();
    let from_environment = access(driver(environment)).unwrap();
    assert_eq!(from_environment.proxy.to_string(), "http://environment:1");
    assert_eq!(from_environment.login.unwrap().password().expose(), "canary");
    let both = |proxy: &ProxyConfig| {
        driver(|config| {
            environment(config);
            config.proxy = proxy.clone();
        })
    };
    let of_the_file = ProxyConfig::new(Proxy::parse("socks5://file:2").unwrap());
    let from_file = access(both(&of_the_file)).unwrap();
    assert_eq!((from_file.proxy.to_string().as_str(), from_file.login), ("socks5://file:2", None));
    assert!(access(both(&ProxyConfig::default())).is_some_and(|access| access.proxy.host() == "environment"));

    let missing = ProxyConfig { credentials_file: Some("/nonexistent/login".into()), ..of_the_file };
    let error = both(&missing).proxy_access(&url("https://git.example.com/x")).unwrap_err();
    assert!(matches!(error, PolicyError::ProxyLogin { .. }) && error.kind() == Kind::FailedPrecondition, "{error}");
    assert_eq!(both(&missing).proxy_access(&url("ssh://git@git.example.com/x")), Ok(None));
}
