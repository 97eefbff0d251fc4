//! `outpost check`: whether a broker in the field takes this device. A build without the gateway seat never goes there.

use super::broker::{self, Visit};
use super::{Finding, Mark};
use crate::cli::field::subscribe;
use crate::config::SubscribeConfig;
use crate::link::{LinkOptions, Protocol};
use crate::sensor::SubscribeOptions;

/// As far as its word; a broker that does not answer may be off.
pub(super) fn broker(name: &str, config: &SubscribeConfig, device: &str) -> Finding {
    asked(name, &subscribe(name, config, device))
}

fn asked(name: &str, options: &SubscribeOptions) -> Finding {
    let login = match options.login() {
        Ok(login) => login,
        Err(e) => return Finding::error("source", format!("{name}: {e}"), "look at password_file"),
    };
    broker::knock(&Visit {
        area: "source",
        source: format!("{name}: "),
        link: LinkOptions {
            protocol: Protocol::V311,
            tls: options.tls.clone(),
            ..LinkOptions::new(&*options.host, options.port, &*options.client_id)
        },
        login,
        absent: Mark::Warning,
        keys: ["broker", "broker"],
    })
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use super::*;
    use crate::demo::broker::{self as own, BrokerOptions};
    use crate::demo::pki;
    use crate::limits::CHECK_STEP_TIME;
    use crate::tls::TlsFiles;

    #[test]
    fn a_broker_in_the_field_is_asked_whether_it_takes_this_device() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pki = pki::throwaway(dir.path(), &["field"]).expect("certificates");
        let foreign = pki::throwaway(&dir.path().join("foreign"), &["field"]).expect("certificates");
        let broker = BrokerOptions { port: 0, protocol: Protocol::V311, pki: Some(pki.clone()) };
        let port = own::start(&broker).expect("broker").addr.port();
        let ask = |tls, port| {
            let options = SubscribeOptions {
                host: "127.0.0.1".into(),
                port,
                tls: Some(tls),
                client_id: "field".into(),
                user: None,
                password_file: None,
                certificates_every: CHECK_STEP_TIME,
                topics: Vec::new(),
            };
            asked("local", &options)
        };
        let good = pki.tls_files("field");
        let taken = ask(good.clone(), port);
        assert_eq!(taken.what, format!("local: 127.0.0.1:{port} answers, and takes this device"));
        let distrusted = ask(TlsFiles { ca: foreign.ca(), ..good.clone() }, port);
        assert_eq!((distrusted.mark, distrusted.next.contains("authority")), (Mark::Error, true));
        let unused =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address");
        let off = ask(good, unused.port());
        assert_eq!((off.mark, off.next.contains("look at broker")), (Mark::Warning, true), "{off:?}");
    }
}
