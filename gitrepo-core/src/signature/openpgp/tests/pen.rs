//! Makes keys and signatures, good ones and such as gpg refuses to make.

use openssl::bn::BigNumContext;
use openssl::ec::EcGroup;
use openssl::ec::EcKey;
use openssl::ec::PointConversionForm;
use openssl::ecdsa::EcdsaSig;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey::PKey;
use openssl::pkey::Private;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use openssl::rsa::Rsa;
use openssl::sign::Signer;

use super::super::armor;
use super::super::hash::Hash;
use super::super::key::PublicKey;
use super::super::kind;

/// When all keys are made, in seconds since 1970.
pub(super) const MADE: u64 = 1_600_000_000;

/// When documents are signed, unless a test says otherwise.
pub(super) const SIGNED: u64 = 1_700_000_000;

/// The flags of a key.
pub(super) const CERTIFIES_AND_SIGNS: u8 = 0x03;
pub(super) const SIGNS: u8 = 0x02;
pub(super) const ENCRYPTS: u8 = 0x0c;

pub(super) const USER: &[u8] = b"Alice <alice@example.com>";

/// The number of SHA-256.
pub(super) const SHA256: u8 = 8;

/// A secret key.
pub(super) struct Pen {
    secret: PKey<Private>,
    version: u8,
    algorithm: u8,
    /// The body of its public packet.
    pub(super) body: Vec<u8>,
}

/// A signature to be made.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) kind: u8,
    pub(super) hash: u8,
    /// Subpackets.
    pub(super) hashed: Vec<u8>,
    pub(super) unhashed: Vec<u8>,
}

impl Draft {
    /// One that says when it is made.
    pub(super) fn new(kind: u8, time: u64) -> Self {
        Self { kind, hash: SHA256, hashed: subpacket(2, &short_time(time)), unhashed: Vec::new() }
    }

    pub(super) fn with(mut self, kind: u8, body: &[u8]) -> Self {
        self.hashed.extend(subpacket(kind, body));
        self
    }

    pub(super) fn flags(self, flags: u8) -> Self {
        self.with(27, &[flags])
    }

    pub(super) fn key_lifetime(self, seconds: u64) -> Self {
        self.with(9, &short_time(seconds))
    }

    pub(super) fn hash(self, hash: u8) -> Self {
        Self { hash, ..self }
    }
}

impl Pen {
    fn new(version: u8, algorithm: u8, secret: PKey<Private>, material: &[u8]) -> Self {
        let length = u32::try_from(material.len()).unwrap().to_be_bytes();
        let length = if version == 6 { &length[..] } else { &[] };
        let body = [&[version], &short_time(MADE)[..], &[algorithm], length, material].concat();
        Self { secret, version, algorithm, body }
    }

    /// The kind of key that gpg makes unless told otherwise.
    pub(super) fn gpg() -> Self {
        let secret = PKey::generate_ed25519().unwrap();
        let point = [&[0x40], &secret.raw_public_key().unwrap()[..]].concat();
        Self::new(4, 22, secret, &[named(super::super::key::ED25519), integer(&point)].concat())
    }

    pub(super) fn edwards(version: u8, algorithm: u8) -> Self {
        let secret = if algorithm == 27 { PKey::generate_ed25519() } else { PKey::generate_ed448() }.unwrap();
        let material = secret.raw_public_key().unwrap();
        Self::new(version, algorithm, secret, &material)
    }

    pub(super) fn rsa(version: u8, algorithm: u8, bits: u32) -> Self {
        let secret = Rsa::generate(bits).unwrap();
        let material = [integer(&secret.n().to_vec()), integer(&secret.e().to_vec())].concat();
        Self::new(version, algorithm, PKey::from_rsa(secret).unwrap(), &material)
    }

    pub(super) fn ecdsa(version: u8, curve: usize) -> Self {
        let (name, nid) = super::super::key::CURVES[curve];
        let group = EcGroup::from_curve_name(nid).unwrap();
        let secret = EcKey::generate(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let point = secret.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
        let material = [named(name), integer(&point)].concat();
        Self::new(version, 19, PKey::from_ec_key(secret).unwrap(), &material)
    }

    /// Another key that calls itself one of another algorithm.
    pub(super) fn called(self, algorithm: u8) -> Self {
        let body = [&self.body[..5], &[algorithm], &self.body[6..]].concat();
        Self { algorithm, body, ..self }
    }

    pub(super) fn public(&self) -> PublicKey<'_> {
        PublicKey::read(&self.body).unwrap()
    }

    pub(super) fn name(&self) -> String {
        self.public().name()
    }

    /// The subpacket by which its signatures name it.
    pub(super) fn issuer(&self) -> Vec<u8> {
        let fingerprint: Vec<u8> = (0..self.name().len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&self.name()[at..at + 2], 16).unwrap())
            .collect();
        subpacket(33, &[&[self.version], &fingerprint[..]].concat())
    }

    /// The packet of a signature of this content, with its issuer.
    pub(super) fn sign(&self, draft: &Draft, content: &[&[u8]]) -> Vec<u8> {
        let draft = Draft { unhashed: [draft.unhashed.clone(), self.issuer()].concat(), ..draft.clone() };
        packet(2, &self.sign_alone(&draft, content))
    }

    /// The body of such a packet, without issuer.
    pub(super) fn sign_alone(&self, draft: &Draft, content: &[&[u8]]) -> Vec<u8> {
        let hash = Hash::of(draft.hash).unwrap();
        let length = |area: &[u8]| match self.version {
            6 => u32::try_from(area.len()).unwrap().to_be_bytes().to_vec(),
            _ => u16::try_from(area.len()).unwrap().to_be_bytes().to_vec(),
        };
        let own = [&[self.version, draft.kind, self.algorithm, draft.hash], &length(&draft.hashed)[..], &draft.hashed]
            .concat();
        let salt = vec![7; if self.version == 6 { hash.salt } else { 0 }];
        let total = u32::try_from(own.len()).unwrap().to_be_bytes();
        let trailer = [&own[..], &[self.version, 0xff], &total].concat();
        let digest = hash.digest(&[&[&salt[..]], content, &[&trailer]].concat()).unwrap();
        let salt = if self.version == 6 { [vec![u8::try_from(salt.len()).unwrap()], salt].concat() } else { salt };
        let value = self.value(hash, &digest);
        [own, length(&draft.unhashed), draft.unhashed.clone(), digest[..2].to_vec(), salt, value].concat()
    }

    /// The packet of a signature of version 3, which old programs made with keys of version 4.
    pub(super) fn sign_old(&self, kind: u8, time: u64, hash: u8, content: &[&[u8]]) -> Vec<u8> {
        let function = Hash::of(hash).unwrap();
        let trailer = [&[kind], &short_time(time)[..]].concat();
        let digest = function.digest(&[content, &[&trailer]].concat()).unwrap();
        let issuer = &self.public().fingerprint()[12..].to_vec();
        let own = [&[3, 5], &trailer[..], issuer, &[self.algorithm, hash]].concat();
        packet(2, &[own, digest[..2].to_vec(), self.value(function, &digest)].concat())
    }

    fn value(&self, hash: Hash, digest: &[u8]) -> Vec<u8> {
        let edwards = || Signer::new_without_digest(&self.secret).unwrap().sign_oneshot_to_vec(digest).unwrap();
        match self.secret.id() {
            Id::RSA => {
                let mut context = PkeyCtx::new(&self.secret).unwrap();
                context.sign_init().unwrap();
                context.set_rsa_padding(Padding::PKCS1).unwrap();
                context.set_signature_md(Md::from_nid(hash.function.type_()).unwrap()).unwrap();
                let mut value = Vec::new();
                context.sign_to_vec(digest, &mut value).unwrap();
                integer(&value)
            }
            Id::EC => {
                let signature = EcdsaSig::sign(digest, &self.secret.ec_key().unwrap()).unwrap();
                [integer(&signature.r().to_vec()), integer(&signature.s().to_vec())].concat()
            }
            _ if self.algorithm == 22 => {
                let value = edwards();
                [integer(&value[..32]), integer(&value[32..])].concat()
            }
            _ => edwards(),
        }
    }

    /// A key with one user ID that it vouches for with this signature.
    pub(super) fn certified(&self, draft: &Draft) -> Vec<u8> {
        [packet(6, &self.body), packet(13, USER), self.sign(draft, &[&self.public().hashed(), &user(USER)])].concat()
    }

    /// A key as gpg makes it.
    pub(super) fn certificate(&self) -> Vec<u8> {
        match self.version {
            6 => [packet(6, &self.body), self.sign(&said(kind::DIRECT), &[&self.public().hashed()])].concat(),
            _ => self.certified(&said(0x13)),
        }
    }

    /// A subkey of this key, that both vouch for.
    pub(super) fn bind(&self, subkey: &Self, draft: &Draft) -> Vec<u8> {
        let about = [self.public().hashed(), subkey.public().hashed()].concat();
        let in_turn = subkey.sign_alone(&Draft::new(kind::PRIMARY_KEY, MADE), &[&about]);
        self.bind_alone(subkey, &draft.clone().with(32, &in_turn))
    }

    /// The same without what the subkey says.
    pub(super) fn bind_alone(&self, subkey: &Self, draft: &Draft) -> Vec<u8> {
        let about = [self.public().hashed(), subkey.public().hashed()].concat();
        [packet(14, &subkey.body), self.sign(draft, &[&about])].concat()
    }

    /// An armored signature of a document.
    pub(super) fn document(&self, payload: &[u8]) -> Vec<u8> {
        block(&self.sign(&Draft::new(kind::DOCUMENT, SIGNED), &[payload]))
    }
}

/// What a key says about itself when it is made.
pub(super) fn said(kind: u8) -> Draft {
    Draft::new(kind, MADE).flags(CERTIFIES_AND_SIGNS)
}

/// What it says about a subkey for signing.
pub(super) fn binding() -> Draft {
    Draft::new(kind::SUBKEY, MADE).flags(SIGNS)
}

/// A user ID as signatures hash it.
pub(super) fn user(content: &[u8]) -> Vec<u8> {
    [&[0xb4], &u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

pub(super) fn block(packets: &[u8]) -> Vec<u8> {
    armor::of_keys(packets).replace("PUBLIC KEY BLOCK", "SIGNATURE").into_bytes()
}

pub(super) fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xc0 | kind, 0xff], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

pub(super) fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff], &u32::try_from(body.len() + 1).unwrap().to_be_bytes()[..], &[kind], body].concat()
}

pub(super) fn short_time(seconds: u64) -> [u8; 4] {
    u32::try_from(seconds).unwrap().to_be_bytes()
}

fn named(identifier: &[u8]) -> Vec<u8> {
    [&[u8::try_from(identifier.len()).unwrap()], identifier].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let bits = bytes.first().map_or(0, |first| bytes.len() * 8 - usize::try_from(first.leading_zeros()).unwrap());
    [&u16::try_from(bits).unwrap().to_be_bytes()[..], bytes].concat()
}
