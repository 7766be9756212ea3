//! Certificate authorities for tests, trusted only by clients that are told to.

use std::io::Write;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::bn::MsbOption;
use openssl::ec::EcGroup;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::pkey::Private;
use openssl::x509::X509;
use openssl::x509::X509Builder;
use openssl::x509::X509NameBuilder;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::extension::KeyUsage;
use openssl::x509::extension::SubjectAlternativeName;
use tempfile::NamedTempFile;

/// A TLS server's certificate and key.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
    /// The authority of the clients that it serves; `None` for everybody.
    pub(crate) clients: Option<X509>,
    /// Whether its server speaks no newer TLS than 1.2.
    pub(crate) old: bool,
}

impl Identity {
    /// A self-signed certificate for `names`.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = new_key();
        let mut builder = begin("gitrepo self-signed", &key, Validity::Current);
        builder.set_issuer_name(&name("gitrepo self-signed")).unwrap();
        add_server_extensions(&mut builder, names, None);
        Self { certificate: finish(builder, &key), key, clients: None, old: false }
    }

    /// The same for a server that serves only clients with a certificate of `authority`.
    #[must_use]
    pub fn for_clients_of(self, authority: &Authority) -> Self {
        Self { clients: Some(authority.identity.certificate.clone()), ..self }
    }

    /// The same for a server that speaks no newer TLS than 1.2.
    #[must_use]
    pub fn until_tls_1_2(self) -> Self {
        Self { old: true, ..self }
    }

    /// The certificate.
    pub fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    /// The private key.
    pub fn key_pem(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }
}

/// A certificate authority.
pub struct Authority {
    identity: Identity,
    file: NamedTempFile,
}

#[derive(Clone, Copy)]
enum Validity {
    Current,
    Expired,
    Future,
}

impl Authority {
    /// A new authority with a unique name: clients look authorities up by name.
    pub fn new() -> Self {
        Self::signed_by(None)
    }

    /// An authority below this one.
    #[must_use]
    pub fn intermediate(&self) -> Self {
        Self::signed_by(Some(&self.identity))
    }

    fn signed_by(issuer: Option<&Identity>) -> Self {
        let mut file = NamedTempFile::with_prefix("gitrepo-ca-").unwrap();
        let own_name = file.path().file_name().unwrap().to_string_lossy().into_owned();
        let key = new_key();
        let mut builder = begin(&own_name, &key, Validity::Current);
        let own = name(&own_name);
        builder.set_issuer_name(issuer.map_or(&own, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap()).unwrap();
        let certificate = finish(builder, issuer.map_or(&key, |issuer| &issuer.key));
        let identity = Identity { certificate, key, clients: None, old: false };
        file.write_all(identity.pem().as_bytes()).unwrap();
        Self { identity, file }
    }

    /// The authority's own certificate, for the secret key `ca.crt`.
    pub fn ca_pem(&self) -> String {
        self.identity.pem()
    }

    /// A file with [`Self::ca_pem`].
    pub fn ca_file(&self) -> &Path {
        self.file.path()
    }

    /// A server certificate for `localhost` and 127.0.0.1.
    pub fn issue_for_loopback(&self) -> Identity {
        self.issue(&["localhost", "127.0.0.1"])
    }

    /// A server certificate for `names`, host names or addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(names, Validity::Current)
    }

    /// An expired server certificate for `names`.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.sign(names, Validity::Expired)
    }

    /// A server certificate for `names` that is not valid yet.
    pub fn issue_for_the_future(&self, names: &[&str]) -> Identity {
        self.sign(names, Validity::Future)
    }

    fn sign(&self, names: &[&str], validity: Validity) -> Identity {
        let key = new_key();
        let mut builder = begin("gitrepo test server", &key, validity);
        builder.set_issuer_name(self.identity.certificate.subject_name()).unwrap();
        add_server_extensions(&mut builder, names, Some(&self.identity.certificate));
        Identity { certificate: finish(builder, &self.identity.key), key, clients: None, old: false }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(common_name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_nid(Nid::COMMONNAME, common_name).unwrap();
    builder.build()
}

fn begin(subject: &str, key: &PKey<Private>, validity: Validity) -> X509Builder {
    const DAY: i64 = 24 * 60 * 60;
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let (from, to) = match validity {
        Validity::Current => (now - DAY, now + DAY),
        Validity::Expired => (now - 2 * DAY, now - DAY),
        Validity::Future => (now + DAY, now + 2 * DAY),
    };
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(to).unwrap()).unwrap();
    builder
}

fn add_server_extensions(builder: &mut X509Builder, names: &[&str], issuer: Option<&X509>) {
    let mut alternative = SubjectAlternativeName::new();
    for name in names {
        match name.parse::<std::net::IpAddr>() {
            Ok(_) => alternative.ip(name),
            Err(_) => alternative.dns(name),
        };
    }
    let context = builder.x509v3_context(issuer.map(AsRef::as_ref), None);
    let alternative = alternative.build(&context).unwrap();
    builder.append_extension(alternative).unwrap();
    builder.append_extension(BasicConstraints::new().critical().build().unwrap()).unwrap();
    builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build().unwrap()).unwrap();
}

fn finish(mut builder: X509Builder, signer: &PKey<Private>) -> X509 {
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}
