//! Certificates of servers, by an authority that ends with them.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{fs, path::Path};

/// Where the authority's certificate is.
pub(crate) const AUTHORITY: &str = "authority.pem";

/// Writes `certificate.pem` and `key.pem` of a server on loopback, and its authority.
pub(crate) fn write(directory: &Path) {
    let key = KeyPair::generate().expect("a key can be made");
    let mut params = CertificateParams::new(Vec::new()).expect("there are no names to be wrong");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("a certificate can be signed").pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("a key can be made");
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let params = CertificateParams::new(names).expect("these are names");
    let certificate = params.signed_by(&own, &issuer).expect("a certificate can be signed").pem();
    for (name, text) in
        [(AUTHORITY, authority), ("certificate.pem", certificate), ("key.pem", own.serialize_pem())]
    {
        fs::write(directory.join(name), text).expect("a certificate can be written");
    }
}
