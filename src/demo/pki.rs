//! A throwaway certificate authority on disk: for the demo and for tests, valid for a month.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::clock;
use crate::tls::TlsFiles;

/// Where the authority's files are.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

/// The files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// No entropy, or a name that cannot stand in a certificate.
    #[error("cannot make a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The folder.
    #[error("cannot write certificates: {0}; check that the folder is writable")]
    Io(#[from] io::Error),
}

/// Makes an authority, a server certificate for `localhost` and `127.0.0.1`, and one client certificate per name:
/// `ca.pem`, `server.pem`, `server.key`, `<name>.pem`, `<name>.key` in `dir`. Private keys are readable by the owner
/// alone; the authority's own key is not kept.
pub fn throwaway(dir: &Path, clients: &[&str]) -> Result<Pki, PkiError> {
    let now = now();
    throwaway_valid(dir, clients, now - Duration::DAY, now + 30 * Duration::DAY)
}

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::microseconds(clock::wall().0))
}

/// Like [`throwaway`], with the clients' certificates valid from `from` to `until`.
pub fn throwaway_valid(
    dir: &Path,
    clients: &[&str],
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Pki, PkiError> {
    std::fs::create_dir_all(dir)?;
    let now = now();
    let mut params = named("Outpost throwaway authority", now - Duration::DAY, now + 30 * Duration::DAY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);

    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name = common_name("localhost");
    (server.not_before, server.not_after) = (now - Duration::DAY, now + 30 * Duration::DAY);
    issue(dir, "server", server, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    for name in clients {
        issue(dir, name, named(name, from, until)?, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    }
    Ok(Pki { dir: dir.to_owned() })
}

impl Pki {
    /// An authority whose files are in `dir` already.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Certificate and key of `name`; `server` is the server's.
    pub fn pem(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")))
    }

    /// What a client called `name` needs.
    pub fn tls_files(&self, name: &str) -> TlsFiles {
        TlsFiles { ca: self.ca(), identity: Some(self.pem(name)), server_name: None }
    }
}

fn issue(
    dir: &Path,
    name: &str,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), PkiError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    std::fs::write(dir.join(format!("{name}.pem")), cert.pem())?;
    write_private(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    Ok(())
}

fn named(name: &str, from: OffsetDateTime, until: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name(name);
    (params.not_before, params.not_after) = (from, until);
    Ok(params)
}

/// No organisation: the demo's broker would take it for a tenant and prefix every topic with it.
fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
