//! Certificates: that the files read, that the key belongs to its certificate and to nobody else, and for how long.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Finding;
use crate::config::TlsPaths;
use crate::limits;
use crate::time::Wall;

const AREA: &str = "certificates";

/// Looks at every file of `tls`; `now` is held against the dates in the certificates.
pub fn look(tls: &TlsPaths, now: Wall) -> Vec<Finding> {
    let mut findings = Vec::new();
    match read(&tls.ca) {
        Ok(authorities) => {
            findings.extend(authorities.iter().map(|ca| validity("authority", &tls.ca, ca, now)));
        }
        Err(finding) => findings.push(finding),
    }
    let Some((cert, key)) = &tls.identity else {
        let next = "give `cert` and `key` unless the broker knows this device otherwise";
        findings.push(Finding::warning(AREA, "none of its own: the broker cannot tell who is calling", next));
        return findings;
    };
    let chain = read(cert);
    match &chain {
        Ok(chain) => findings.extend(chain.first().map(|own| validity("own", cert, own, now))),
        Err(finding) => findings.push(finding.clone()),
    }
    findings.extend(permissions(key));
    findings.push(match (chain, PrivateKeyDer::from_pem_file(key)) {
        (Ok(chain), Ok(private)) => belongs(chain, private, cert, key),
        (_, Err(e)) => unreadable(key, "private key", &e, NAME_KEY),
        (Err(_), Ok(_)) => Finding::ok(AREA, format!("{} is a private key", key.display())),
    });
    findings
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Finding> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(Finding::error(AREA, format!("{} holds no certificate", path.display()), NAME_PEM)),
        Err(e) => Err(unreadable(path, "certificate", &e, NAME_PEM)),
    }
}

fn unreadable(path: &Path, wanted: &str, e: &pem::Error, next: &'static str) -> Finding {
    let file = path.display();
    match e {
        pem::Error::Io(e) if e.kind() == std::io::ErrorKind::NotFound => Finding::error(
            AREA,
            format!("{file} is missing"),
            format!("put the {wanted} there, or name another file"),
        ),
        pem::Error::Io(e) => {
            Finding::error(AREA, format!("{file}: {e}"), "let the user who runs outpost read it")
        }
        pem::Error::NoItemsFound => Finding::error(AREA, format!("{file} holds no {wanted}"), next),
        other => Finding::error(AREA, format!("{file}: {other}"), next),
    }
}

fn validity(role: &str, path: &Path, der: &CertificateDer<'_>, now: Wall) -> Finding {
    let file = path.display();
    let Ok((_, cert)) = X509Certificate::from_der(der) else {
        return Finding::error(AREA, format!("{file} is not an X.509 certificate"), NAME_PEM);
    };
    let who = format!("{role}: {file}, {}", cert.subject());
    let now_s = now.0.div_euclid(1_000_000);
    let days_left = (cert.validity().not_after.timestamp() - now_s).div_euclid(DAY_S);
    if now_s < cert.validity().not_before.timestamp() {
        let next = "look at the clock first; else wait or have it issued anew";
        Finding::error(AREA, format!("{who} is not valid yet"), next)
    } else if days_left < 0 {
        Finding::error(
            AREA,
            format!("{who} expired {} days ago", -days_left),
            "have it renewed; it is read anew at the next connection",
        )
    } else if days_left < limits::CHECK_CERTIFICATE_DAYS_MIN {
        let next = "have it renewed; it is read anew at the next connection";
        Finding::warning(AREA, format!("{who}, {days_left} days left"), next)
    } else {
        Finding::ok(AREA, format!("{who}, {days_left} days left"))
    }
}

/// A key that others can read is theirs too.
fn permissions(key: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(key).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let what = format!("{} can be read or written by others (mode {mode:04o})", key.display());
        Finding::warning(AREA, what, format!("chmod 600 {}", key.display()))
    })
}

fn belongs(
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    cert: &Path,
    key: &Path,
) -> Finding {
    let (cert, key) = (cert.display(), key.display());
    match CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Finding::ok(AREA, format!("{key} belongs to {cert}")),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Finding::error(AREA, format!("{key} does not belong to {cert}"), "name the two files of one pair")
        }
        Err(e) => Finding::error(AREA, format!("{key} with {cert}: {e}"), NAME_KEY),
    }
}

const DAY_S: i64 = 86_400;
const NAME_PEM: &str = "name a PEM file that begins with -----BEGIN CERTIFICATE-----";
const NAME_KEY: &str = "name a PEM file with a PKCS#8, SEC1 or PKCS#1 private key";

#[cfg(all(test, feature = "demo"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::Mark;
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        /// A self-signed pair valid from 2026-01-01 to 2027-01-01, its key readable by its owner only.
        fn new() -> Self {
            let files = Self { dir: tempfile::tempdir().expect("temp dir") };
            files.pair("a");
            files
        }

        fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
            let key = rcgen::KeyPair::generate().expect("key");
            let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("params");
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = rcgen::date_time_ymd(2027, 1, 1);
            let cert = params.self_signed(&key).expect("certificate");
            let paths =
                (self.dir.path().join(format!("{name}.crt")), self.dir.path().join(format!("{name}.key")));
            std::fs::write(&paths.0, cert.pem()).expect("write");
            std::fs::write(&paths.1, key.serialize_pem()).expect("write");
            std::fs::set_permissions(&paths.1, PermissionsExt::from_mode(0o600)).expect("mode");
            paths
        }

        fn tls(&self) -> TlsPaths {
            let at = |name| self.dir.path().join(name);
            TlsPaths { ca: at("a.crt"), identity: Some((at("a.crt"), at("a.key"))) }
        }
    }

    fn marks(tls: &TlsPaths, day: &str) -> Vec<Mark> {
        look(tls, at(day)).iter().map(|f| f.mark).collect()
    }

    fn at(day: &str) -> Wall {
        let days = match day {
            "2025-12-31" => 20_453,
            "2026-06-01" => 20_605,
            "2026-12-20" => 20_807,
            _ => 20_900,
        };
        Wall::from_secs(days * DAY_S)
    }

    #[test]
    fn a_good_pair_is_good_until_its_days_run_out() {
        let files = Files::new();
        assert_eq!(marks(&files.tls(), "2026-06-01"), [Mark::Ok, Mark::Ok, Mark::Ok]);
        assert_eq!(marks(&files.tls(), "2026-12-20"), [Mark::Warning, Mark::Warning, Mark::Ok]);
        assert_eq!(marks(&files.tls(), "2027-03-23"), [Mark::Error, Mark::Error, Mark::Ok]);
        assert_eq!(marks(&files.tls(), "2025-12-31"), [Mark::Error, Mark::Error, Mark::Ok]);
    }

    #[test]
    fn a_key_of_another_pair_is_told() {
        let files = Files::new();
        let (_, other) = files.pair("b");
        let tls = TlsPaths { identity: Some((files.dir.path().join("a.crt"), other)), ..files.tls() };
        let last = look(&tls, at("2026-06-01")).pop().expect("finding");
        assert!(last.mark == Mark::Error && last.what.contains("does not belong to"), "{last:?}");
    }

    #[test]
    fn a_key_that_others_can_read_is_warned_of() {
        let files = Files::new();
        let key = files.dir.path().join("a.key");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).expect("mode");
        let warned = look(&files.tls(), at("2026-06-01"));
        assert!(warned.iter().any(|f| f.mark == Mark::Warning && f.next.starts_with("chmod 600")));
    }

    #[test]
    fn files_that_are_missing_or_hold_something_else_are_told() {
        let files = Files::new();
        let text = files.dir.path().join("text");
        std::fs::write(&text, "hello").expect("write");
        let tls = TlsPaths { ca: text.clone(), identity: Some((files.dir.path().join("none"), text)) };
        assert_eq!(marks(&tls, "2026-06-01").iter().filter(|m| **m == Mark::Error).count(), 3);
    }
}
