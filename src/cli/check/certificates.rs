//! Certificates: that the files read, that the key belongs to its certificate and to nobody else, and for how long.

use std::path::Path;

use super::Finding;
use crate::limits;
use crate::time::Wall;
use crate::tls::{CertInfo, TlsError, TlsFiles};

const AREA: &str = "certificates";

/// Looks at every file; `now` is held against the dates in the certificates.
pub fn look(files: &TlsFiles, now: Wall) -> Vec<Finding> {
    let report = files.inspect();
    let mut findings = match &report.authorities {
        Ok(authorities) => authorities.iter().map(|ca| validity("authority", &files.ca, ca, now)).collect(),
        Err(e) => vec![wrong(e)],
    };
    let (Some(own), Some((cert, key))) = (&report.own, &files.identity) else {
        let next = "give `cert` and `key` unless the broker knows this device otherwise";
        findings.push(Finding::warning(AREA, "none of its own: the broker cannot tell who is calling", next));
        return findings;
    };
    match own {
        Ok(own) => {
            findings.push(validity("own", cert, own, now));
            findings.push(Finding::ok(AREA, format!("{} belongs to {}", key.display(), cert.display())));
        }
        Err(e) => findings.push(wrong(e)),
    }
    if report.key_exposed {
        let what = format!("{} can be read or written by others", key.display());
        findings.push(Finding::warning(AREA, what, format!("chmod 600 {}", key.display())));
    }
    findings
}

/// The error's own words; what follows its semicolon is the next step.
fn wrong(e: &TlsError) -> Finding {
    let text = e.to_string();
    let (what, next) = text.rsplit_once("; ").unwrap_or((&text, ""));
    Finding::error(AREA, what, next)
}

fn validity(role: &str, path: &Path, cert: &CertInfo, now: Wall) -> Finding {
    let who = format!("{role}: {}, {}", path.display(), cert.subject);
    let days_left = cert.not_after.micros_since(now).div_euclid(DAY_US);
    if now < cert.not_before {
        let next = "look at the clock first; else wait or have it issued anew";
        Finding::error(AREA, format!("{who} is not valid yet"), next)
    } else if days_left < 0 {
        Finding::error(AREA, format!("{who} expired {} days ago", -days_left), RENEW)
    } else if days_left < limits::CHECK_CERTIFICATE_DAYS_MIN {
        Finding::warning(AREA, format!("{who}, {days_left} days left"), RENEW)
    } else {
        Finding::ok(AREA, format!("{who}, {days_left} days left"))
    }
}

const DAY_US: i64 = 86_400 * 1_000_000;
const RENEW: &str = "have it renewed; it is read anew at the next connection";

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

        fn tls(&self) -> TlsFiles {
            let at = |name| self.dir.path().join(name);
            TlsFiles { ca: at("a.crt"), identity: Some((at("a.crt"), at("a.key"))), server_name: None }
        }
    }

    fn marks(tls: &TlsFiles, day: &str) -> Vec<Mark> {
        look(tls, at(day)).iter().map(|f| f.mark).collect()
    }

    fn at(day: &str) -> Wall {
        let days = match day {
            "2025-12-31" => 20_453,
            "2026-06-01" => 20_605,
            "2026-12-20" => 20_807,
            _ => 20_900,
        };
        Wall::from_secs(days * 86_400)
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
        let tls = TlsFiles { identity: Some((files.dir.path().join("a.crt"), other)), ..files.tls() };
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
    fn a_file_that_is_wrong_does_not_hide_the_others() {
        let files = Files::new();
        let text = files.dir.path().join("text");
        std::fs::write(&text, "hello").expect("write");
        let missing = files.dir.path().join("none");
        let tls = TlsFiles { ca: text.clone(), ..files.tls() };
        assert_eq!(marks(&tls, "2026-06-01"), [Mark::Error, Mark::Ok, Mark::Ok]);
        let tls = TlsFiles { identity: Some((missing, text)), ..files.tls() };
        assert_eq!(marks(&tls, "2026-06-01")[..2], [Mark::Ok, Mark::Error]);
        let told = look(&tls, at("2026-06-01")).remove(1);
        assert!(told.what.contains("none") && told.next.starts_with("check the path"), "{told:?}");
    }
}
