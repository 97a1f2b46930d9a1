//! Public keys, each pinned to the one algorithm it verifies.

mod seen;

use super::Error;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use seen::Seen;
use spki::{
    Document, ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode as _, asn1::UintRef},
};
use std::{ops::RangeInclusive, sync::Arc};

const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Bits of an RSA modulus.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// The signatures that are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// The name in a token's header (RFC 7518, RFC 8037).
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A key that verifies one algorithm.
#[derive(Debug, Clone)]
pub struct PublicKey {
    material: Material,
    seen: Arc<Seen>,
}

#[derive(Debug, Clone)]
enum Material {
    Ed25519([u8; 32]),
    /// An uncompressed point.
    P256([u8; 65]),
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` as PEM (`BEGIN PUBLIC KEY`) or DER.
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, Error> {
        let not_a_key = |problem: &dyn ToString| Error::NotAKey(problem.to_string());
        let pem = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN"));
        let der = match pem {
            Some(pem) => match Document::from_pem(pem.trim()).map_err(|e| not_a_key(&e))? {
                ("PUBLIC KEY", document) => document.as_bytes().to_vec(),
                (label, _) => return Err(not_a_key(&format!("it is a {label:?}"))),
            },
            None => bytes.to_vec(),
        };
        let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(|e| not_a_key(&e))?;
        let key = info.subject_public_key.as_bytes().ok_or_else(|| not_a_key(&"its bits are no bytes"))?;
        match info.algorithm.oid {
            ED25519_OID => Self::ed25519(key),
            EC_OID if info.algorithm.parameters_oid().ok() == Some(P256_OID) => {
                let point = key.try_into().map_err(|_| not_a_key(&"the point must be uncompressed"))?;
                Self::p256(point)
            }
            RSA_OID => {
                let (n, e) = rsa_components(key).map_err(|e| not_a_key(&e))?;
                Self::rsa(n, e)
            }
            other => Err(Error::Algorithm(format!("of algorithm {other}"))),
        }
    }

    /// An Ed25519 key of 32 bytes.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.try_into().map_err(|_| Error::NotAKey("Ed25519 keys have 32 bytes".to_owned()))?;
        Ok(Material::Ed25519(bytes).into())
    }

    /// A P-256 key: `04`, x, y.
    pub(super) fn p256(point: [u8; 65]) -> Result<Self, Error> {
        if point[0] != 4 {
            return Err(Error::NotAKey("the point must be uncompressed".to_owned()));
        }
        Ok(Material::P256(point).into())
    }

    /// An RSA key by its big-endian modulus and exponent.
    pub(super) fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, Error> {
        let strip = |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (strip(n), strip(e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(Error::Algorithm(format!("RSA of {bits} bits")));
        }
        Ok(Material::Rsa { n, e }.into())
    }

    /// The algorithm this key is for.
    pub const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Ed25519(_) => Algorithm::EdDsa,
            Material::P256(_) => Algorithm::Es256,
            Material::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let mark = seen::mark(message, signature);
        if self.seen.has(&mark) {
            return true;
        }
        let is_good = match &self.material {
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Material::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        }
        .is_ok();
        if is_good {
            self.seen.keep(mark);
        }
        is_good
    }
}

impl From<Material> for PublicKey {
    fn from(material: Material) -> Self {
        Self { material, seen: Arc::default() }
    }
}

/// `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017).
fn rsa_components(der: &[u8]) -> spki::der::Result<(Vec<u8>, Vec<u8>)> {
    use spki::der::{Reader as _, SliceReader};
    let mut reader = SliceReader::new(der)?;
    let components = reader.sequence(|sequence| {
        let n: UintRef<'_> = sequence.decode()?;
        let e: UintRef<'_> = sequence.decode()?;
        Ok((n.as_bytes().to_vec(), e.as_bytes().to_vec()))
    })?;
    reader.finish(components)
}
