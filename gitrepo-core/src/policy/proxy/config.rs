//! The configuration's field `proxy`.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

use super::Bypass;
use super::Proxy;
use crate::spec::RepositoryUrl;

/// The admin's proxy. In the file a plain text is its `url`, and `null` means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The proxy; `None` for a direct way to every host.
    pub url: Option<Proxy>,
    /// A file with the user and the password that the proxy wants.
    pub credentials_file: Option<PathBuf>,
    /// Hosts that are reached without it.
    pub no_proxy: Vec<Bypass>,
}

impl ProxyConfig {
    /// The way to every host through this proxy.
    pub fn new(url: Proxy) -> Self {
        Self { url: Some(url), ..Self::default() }
    }

    /// The proxy for a repository.
    pub(crate) fn of(&self, url: &RepositoryUrl) -> Option<&Proxy> {
        self.url.as_ref().filter(|_| !self.no_proxy.iter().any(|bypass| bypass.covers(url)))
    }
}

impl<'de> Deserialize<'de> for ProxyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(remote = "ProxyConfig", rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            #[serde(default)]
            url: Option<Proxy>,
            #[serde(default)]
            credentials_file: Option<PathBuf>,
            #[serde(default)]
            no_proxy: Vec<Bypass>,
        }

        struct TextOrObject;

        impl<'de> Visitor<'de> for TextOrObject {
            type Value = ProxyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with url, credentialsFile and noProxy, or the url alone")
            }

            fn visit_unit<E: Error>(self) -> Result<ProxyConfig, E> {
                Ok(ProxyConfig::default())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ProxyConfig, E> {
                Proxy::parse(text).map(ProxyConfig::new).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProxyConfig, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(TextOrObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ProxyConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_proxy_is_an_object_or_its_url_alone() {
        let plain = read(r#""http://proxy:3128""#).unwrap();
        assert_eq!(plain, read(r#"{ "url": "http://proxy:3128" }"#).unwrap());
        assert_eq!(serde_json::from_value::<ProxyConfig>(serde_json::to_value(&plain).unwrap()).unwrap(), plain);
        assert_eq!(read("null").unwrap(), ProxyConfig::default());
        assert_eq!(read(r#"{ "url": null, "credentialsFile": null, "noProxy": [] }"#).unwrap(), ProxyConfig::default());
        let text = r#"{ "url": "socks5://proxy:1080", "credentialsFile": "/etc/login", "noProxy": [".example.com", "10.0.0.0/8"] }"#;
        let config = read(text).unwrap();
        let of = |url: &str| config.of(&RepositoryUrl::parse(url).unwrap()).map(Proxy::to_string);
        assert_eq!(of("https://git.example.org/x").as_deref(), Some("socks5://proxy:1080"));
        assert_eq!((of("https://git.example.com/x"), of("http://10.0.0.1/x")), (None, None));
    }

    #[test]
    fn a_mistake_is_told_without_a_password() {
        for text in [
            r#""http://user:canary@proxy:3128""#,
            r#"{ "url": "http://user:canary@proxy:3128" }"#,
            r#"{ "url": "ftp://proxy:21" }"#,
            r#"{ "noProxy": "example.com" }"#,
            r#"{ "noProxy": ["https://example.com"] }"#,
            r#"{ "password": "x" }"#,
            r#"["http://proxy:3128"]"#,
            "5",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
