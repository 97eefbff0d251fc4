//! The account that an agent gives of itself, signed, and held against the one before.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::eventually;
use super::seat::Seat;
use super::site::{DEVICE, Site, lines_of, pending, promised, send};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn ledger(aggregator: &Seat) -> Option<Value> {
    aggregator.json(&format!("/api/device/{DEVICE}/ledger"))
}

/// Sends readings and waits until they are acknowledged and a heartbeat has said so.
fn deliver(agent: &Seat, aggregator: &Seat, numbers: std::ops::RangeInclusive<u64>) {
    let before = promised(agent);
    let count = numbers.clone().count() as u64;
    send(&mut lines_of(agent), numbers).unwrap();
    eventually("a delivery", || (promised(agent) == before + count && pending(agent) == 0).then_some(()));
    eventually("an account of it", || {
        let ledger = ledger(aggregator)?;
        (ledger["lanes"][3]["admitted"].as_u64()? >= before + count).then_some(())
    });
}

#[test]
fn an_account_is_signed_and_an_older_image_of_the_spool_is_found_out_on_both_sides() {
    let site = Site::new();
    let devices = site.spool_dir().parent().unwrap().parent().unwrap().join("devices");
    std::fs::create_dir_all(&devices).unwrap();
    let (cert, _) = site.broker.pki.pem("gateway");
    std::fs::copy(cert, devices.join(format!("{DEVICE}.pem"))).unwrap();
    let mut aggregator = site.aggregator_with(&format!("certificates = {devices:?}\n"));
    let mut agent = site.agent(site.broker.addr, "");
    deliver(&agent, &aggregator, 1..=100);
    let good = ledger(&aggregator).unwrap();
    assert_eq!((&good["trust"], &good["ok"]), (&"verified".into(), &true.into()), "{good}");
    assert!(agent.stop().success());

    // Somebody keeps an image of the disk, and puts it back after the agent has gone on.
    let image = site.spool_dir().with_file_name("image");
    copy(&site.spool_dir(), &image);
    agent.restart();
    deliver(&agent, &aggregator, 101..=150);
    assert!(agent.stop().success());
    std::fs::remove_dir_all(site.spool_dir()).unwrap();
    copy(&image, &site.spool_dir());
    agent.restart();
    let found = eventually("the older image", || {
        ledger(&aggregator).filter(|l| l["faults"].as_array().is_some_and(|f| !f.is_empty()))
    });
    assert_eq!(found["ok"], false, "{found}");
    let codes: Vec<&str> =
        found["faults"].as_array().unwrap().iter().filter_map(|f| f["code"].as_str()).collect();
    assert!(codes.contains(&"serial_back") && codes.contains(&"account_back"), "{codes:?}");
    let said = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_outpost")).arg("ledger").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = said(&["--store", site.database().to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("an older image of its spool is in use"), "{text}");
    // The gateway's own books are even: that it is not the newest it can't know.
    let (code, text) = said(&["--url", &format!("http://{}", agent.http)]);
    assert!(code == Some(0) && text.contains(DEVICE), "{text}");
    assert!(agent.stop().success() && aggregator.stop().success());
}
