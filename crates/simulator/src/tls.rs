//! Certificates for one run: a CA, and a leaf for the public host name and the loopback addresses.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Error;

/// A TLS identity to serve with, made by a [`Simulator`](crate::Simulator) whose CA is trusted by whoever calls.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// The same in PEM, for a server that is no part of this process.
    pub(crate) chain_pem: Arc<str>,
    pub(crate) key_pem: Arc<str>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// A CA made for this run, and what is needed to serve with its leaf.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) ca_pem: String,
    pub(crate) server: ServerTls,
}

impl Tls {
    pub(crate) fn new(public_host: &str) -> Result<Self, Error> {
        make(public_host).map_err(|source| Error::setup("certificates", source))
    }
}

fn make(public_host: &str) -> Result<Tls, Box<dyn std::error::Error + Send + Sync>> {
    let ca_key = KeyPair::generate()?;
    let mut ca_params = CertificateParams::default();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca_params.distinguished_name = named("o365-collector simulator CA");
    let ca = ca_params.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca_params, ca_key);

    // A leaf apart from the CA: rustls refuses a CA's certificate as a server's own.
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if !names.iter().any(|name| name == public_host) {
        names.push(public_host.to_owned());
    }
    let leaf_key = KeyPair::generate()?;
    let mut leaf_params = CertificateParams::new(names)?;
    leaf_params.distinguished_name = named("o365-collector simulator");
    leaf_params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf_params.signed_by(&leaf_key, &issuer)?;

    let key_pem = leaf_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    // The provider is named, so that a program that installs none, or another, can use the simulator too.
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone(), ca.der().clone()], key)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        ca_pem: ca.pem(),
        server: ServerTls {
            config: Arc::new(server),
            chain_pem: format!("{}{}", leaf.pem(), ca.pem()).into(),
            key_pem: key_pem.into(),
        },
    })
}

/// What the simulator trusts when it calls a webhook.
pub(crate) fn client_config(pems: &[&str]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|source| Error::setup("roots for webhooks", source))?;
            roots
                .add(certificate)
                .map_err(|source| Error::setup("roots for webhooks", source))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::setup("TLS for webhooks", source))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
