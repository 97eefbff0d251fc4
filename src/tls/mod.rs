//! TLS from files: read, check, explain. TLS 1.2 and 1.3 through rustls and ring, client certificate always.
//!
//! The files are read again at every connection attempt, so a renewed certificate is in use without a restart; who holds
//! a connection also looks whether they have changed while it lasts ([`Renewal`]). The expiry of our own certificate is not judged
//! when connecting (the far side does that, and our clock may be wrong); `outpost check` shows it.

mod explain;

pub use explain::{Peer, find, why, why_tls};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::limits::TLS_FILE_BYTES_MAX;
use crate::time::{Mono, Wall};

/// Where the PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may vouch for the broker.
    pub ca: PathBuf,
    /// Our certificate, followed by any intermediate ones, and its private key (PKCS#8, PKCS#1 or SEC1), which should be
    /// readable by the agent alone. `None` for a broker that asks for none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate must carry where it differs from the host, such as when connecting by
    /// address. `None`: the host.
    pub server_name: Option<String>,
}

/// What is wrong with the files; the operator's fault, each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Missing or unreadable.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing usable inside.
    #[error("{} holds no PEM {what}; check that the right file is named", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// It is PEM and yet not a certificate or key that can be used.
    #[error("{} is not usable: {why}; issue it again", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key are not a pair.
    #[error("{} does not belong to {}; name the key that the certificate was issued for", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The configured name cannot stand in a certificate.
    #[error("server name {0:?} is neither a DNS name nor an address; correct it")]
    ServerName(String),
}

/// A certificate as shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Distinguished name of the holder.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Valid from.
    pub not_before: Wall,
    /// Valid to.
    pub not_after: Wall,
}

/// What the files say, each for itself: one that is wrong does not hide the others.
#[derive(Debug)]
pub struct TlsReport {
    /// The authorities, at least one.
    pub authorities: Result<Vec<CertInfo>, TlsError>,
    /// Our own certificate, once it belongs to its key; `None` where none is named.
    pub own: Option<Result<CertInfo, TlsError>>,
    /// Whether others than the owner may read or write the private key.
    pub key_exposed: bool,
}

impl TlsFiles {
    /// Reads and checks everything and makes the client configuration. Reads files; blocks shortly.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let identity = match &self.identity {
            Some((cert, key)) => Some(SingleCertAndKey::from(certified(cert, key, &provider)?)),
            None => None,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|e| TlsError::Unusable { path: self.ca.clone(), why: e.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(Arc::new(match identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(identity)),
            None => config.with_no_client_auth(),
        }))
    }

    /// Reads and checks every file and says what is in it. Reads files; blocks shortly.
    pub fn inspect(&self) -> TlsReport {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = || {
            self.verifier(&provider)?;
            certificates(&self.ca)?.iter().map(|der| describe(&self.ca, der)).collect()
        };
        let own = |cert: &Path, key: &Path| {
            let pair = certified(cert, key, &provider)?;
            describe(cert, pair.cert.first().ok_or_else(|| empty(cert, CERTIFICATE))?)
        };
        TlsReport {
            authorities: authorities(),
            own: self.identity.as_ref().map(|(cert, key)| own(cert, key)),
            key_exposed: self.identity.as_ref().is_some_and(|(_, key)| is_exposed(key)),
        }
    }

    /// Signs `message` with the private key of our certificate; `None` where there is none. Reads files; blocks shortly.
    pub fn sign(&self, message: &[u8]) -> Result<Option<Vec<u8>>, TlsError> {
        let Some((cert, key)) = &self.identity else { return Ok(None) };
        let pair = certified(cert, key, &rustls::crypto::ring::default_provider())?;
        let unusable = |why: String| TlsError::Unusable { path: key.clone(), why };
        let signer = pair.key.choose_scheme(SCHEMES).ok_or_else(|| unusable("it can't sign".into()))?;
        signer.sign(message).map(Some).map_err(|e| unusable(e.to_string()))
    }

    /// What tells one version of the files from another: their checksums, and `None` for a file that cannot be read.
    /// Times would miss a file that is put back with its old one.
    fn version(&self) -> Vec<Option<u32>> {
        let (cert, key) = self.identity.as_ref().map_or((None, None), |(c, k)| (Some(c), Some(k)));
        let paths = [Some(&self.ca), cert, key].into_iter().flatten();
        paths.map(|path| read(path).ok().map(|pem| crc32fast::hash(&pem))).collect()
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        let unusable = |why: String| TlsError::Unusable { path: self.ca.clone(), why };
        for der in certificates(&self.ca)? {
            roots.add(der).map_err(|e| unusable(e.to_string()))?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let inner = inner.build().map_err(|e| unusable(e.to_string()))?;
        let Some(name) = &self.server_name else { return Ok(inner) };
        let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))?;
        Ok(Arc::new(Named { inner, name }))
    }
}

/// Looks whether the files that a connection began with have been replaced.
#[derive(Debug)]
pub struct Renewal {
    version: Vec<Option<u32>>,
    looked_at: Mono,
    every: Duration,
}

impl Renewal {
    /// Reads the files as they are `now`; they are looked at again after `every`. Blocks shortly.
    pub fn new(files: &TlsFiles, every: Duration, now: Mono) -> Self {
        Self { version: files.version(), looked_at: now, every }
    }

    /// `None`: it is not yet time to look, or nothing has changed. With others that are in order one should connect
    /// again; with others that are not, or are only half written, live on with those in use. Blocks shortly.
    pub fn look(&mut self, files: &TlsFiles, now: Mono) -> Option<Result<(), TlsError>> {
        if now.since(self.looked_at) < self.every {
            return None;
        }
        self.looked_at = now;
        (files.version() != self.version).then(|| files.load().map(drop))
    }
}

/// Whether `signature` over `message` was made with the key of the certificate in the PEM file `cert`. Reads the file;
/// blocks shortly.
pub fn is_signed_by(cert: &Path, message: &[u8], signature: &[u8]) -> Result<bool, TlsError> {
    let chain = certificates(cert)?;
    let unusable = |why: &str| TlsError::Unusable { path: cert.to_owned(), why: why.into() };
    let der = chain.first().ok_or_else(|| empty(cert, CERTIFICATE))?;
    let (_, parsed) = X509Certificate::from_der(der).map_err(|e| unusable(&e.to_string()))?;
    let spki = parsed.public_key();
    let kind = key_kind(spki.raw).ok_or_else(|| unusable("its key has no kind"))?;
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let fitting =
        known.mapping.iter().filter(|(scheme, _)| SCHEMES.contains(scheme)).flat_map(|(_, all)| *all);
    let mut fitting = fitting.filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
    Ok(fitting.any(|algorithm| {
        algorithm.verify_signature(&spki.subject_public_key.data, message, signature).is_ok()
    }))
}

/// What stands for the kind of key in the DER of a public key: the content of its first field.
fn key_kind(spki: &[u8]) -> Option<&[u8]> {
    let outer = if *spki.get(1)? < 0x80 { 2 } else { 2 + usize::from(spki[1] & 0x7f) };
    let (tag, length) = (*spki.get(outer)?, usize::from(*spki.get(outer + 1)?));
    (tag == 0x30 && length < 0x80).then(|| spki.get(outer + 2..outer + 2 + length))?
}

/// One signature per kind of key, none longer than [`crate::limits::SIGNATURE_BYTES_MAX`] for keys that are in use.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

fn certified(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let pem = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| empty(key, "private key"))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { cert: cert.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(e) => {
            TlsError::Unusable { path: cert.to_owned(), why: format!("{e:?}") }
        }
        e => TlsError::Unusable { path: key.to_owned(), why: e.to_string() },
    })
}

/// Checks the broker's certificate against one configured name instead of the host that was connected to. Everything
/// else is webpki's work.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

const CERTIFICATE: &str = "certificate";

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > TLS_FILE_BYTES_MAX {
        return Err(TlsError::Unusable {
            path: path.to_owned(),
            why: format!("{bytes} bytes are no PEM file"),
        });
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let unusable = |why: String| TlsError::Unusable { path: path.to_owned(), why };
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unusable(e.to_string()))?;
    if all.is_empty() { Err(empty(path, CERTIFICATE)) } else { Ok(all) }
}

fn empty(path: &Path, what: &'static str) -> TlsError {
    TlsError::Empty { path: path.to_owned(), what }
}

fn describe(path: &Path, der: &CertificateDer<'_>) -> Result<CertInfo, TlsError> {
    let (_, cert) = X509Certificate::from_der(der)
        .map_err(|e| TlsError::Unusable { path: path.to_owned(), why: e.to_string() })?;
    Ok(CertInfo {
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        not_before: Wall::from_secs(cert.validity().not_before.timestamp()),
        not_after: Wall::from_secs(cert.validity().not_after.timestamp()),
    })
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_path: &Path) -> bool {
    false
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use super::*;
    use crate::demo::pki;

    fn files(dir: &Path) -> TlsFiles {
        pki::throwaway(dir, &["a", "b"]).unwrap().tls_files("a")
    }

    fn said(files: &TlsFiles) -> String {
        files.load().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let good = files(dir.path());
        good.load().unwrap();
        let missing = TlsFiles { ca: dir.path().join("none.pem"), ..good.clone() };
        assert!(said(&missing).contains("none.pem") && said(&missing).contains("check the path"));
        let (cert, key) = good.identity.clone().unwrap();
        let with =
            |cert: &Path, key: &Path| TlsFiles { identity: Some((cert.into(), key.into())), ..good.clone() };
        TlsFiles { identity: None, ..good.clone() }.load().unwrap();
        let swapped = with(&cert, &dir.path().join("b.key"));
        assert!(said(&swapped).contains("does not belong to"), "{}", said(&swapped));
        let no_key = with(&cert, &cert);
        assert!(said(&no_key).contains("holds no PEM private key"));
        let no_cert = with(&key, &key);
        assert!(said(&no_cert).contains("holds no PEM certificate"));
        let bad_name = TlsFiles { server_name: Some("not a name".into()), ..good.clone() };
        assert!(said(&bad_name).contains("neither a DNS name nor an address"));
    }

    #[test]
    fn a_signature_holds_for_its_message_and_its_certificate_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let signature = files.sign(b"the account").unwrap().unwrap();
        assert!(signature.len() <= crate::limits::SIGNATURE_BYTES_MAX);
        let (own, other) = (dir.path().join("a.pem"), dir.path().join("b.pem"));
        assert!(is_signed_by(&own, b"the account", &signature).unwrap());
        assert!(!is_signed_by(&own, b"The account", &signature).unwrap());
        assert!(!is_signed_by(&own, b"the account", b"").unwrap());
        assert!(!is_signed_by(&other, b"the account", &signature).unwrap());
        assert!(is_signed_by(&dir.path().join("none.pem"), b"", b"").is_err());
        assert_eq!(TlsFiles { identity: None, ..files }.sign(b"x").unwrap(), None);
    }

    #[test]
    fn keys_of_every_kind_sign() {
        let dir = tempfile::tempdir().unwrap();
        let ca = files(dir.path()).ca;
        for (name, kind) in [
            ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("ed25519", &rcgen::PKCS_ED25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(kind).unwrap();
            let cert = rcgen::CertificateParams::new(vec![name.into()]).unwrap().self_signed(&pair).unwrap();
            let at = |end: &str| dir.path().join(format!("{name}.{end}"));
            std::fs::write(at("crt"), cert.pem()).unwrap();
            std::fs::write(at("key"), pair.serialize_pem()).unwrap();
            let files =
                TlsFiles { ca: ca.clone(), identity: Some((at("crt"), at("key"))), server_name: None };
            let signature = files.sign(b"m").unwrap().unwrap();
            assert!(is_signed_by(&at("crt"), b"m", &signature).unwrap(), "{name}");
            assert!(!is_signed_by(&at("crt"), b"n", &signature).unwrap(), "{name}");
        }
    }

    #[test]
    fn garbage_in_a_file_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let good = files(dir.path());
        let (cert, key) = good.identity.clone().unwrap();
        let pem = std::fs::read(&cert).unwrap();
        let bad = dir.path().join("bad.pem");
        for at in (0..pem.len()).step_by(7) {
            let mut bytes = pem.clone();
            bytes[at] ^= 0x11;
            std::fs::write(&bad, &bytes).unwrap();
            let _ = TlsFiles { identity: Some((bad.clone(), key.clone())), ..good.clone() }.inspect();
            let _ = TlsFiles { ca: bad.clone(), ..good.clone() }.inspect();
        }
    }

    #[test]
    fn a_report_names_holder_issuer_and_validity() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let report = files.inspect();
        let own = report.own.unwrap().unwrap();
        assert!(own.subject.contains("CN=a") && own.issuer == report.authorities.unwrap()[0].subject);
        assert!(own.not_before < crate::clock::wall() && crate::clock::wall() < own.not_after);
        assert!(!report.key_exposed);
        use std::os::unix::fs::PermissionsExt as _;
        let (_, key) = files.identity.as_ref().unwrap();
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(files.inspect().key_exposed);
    }
}
