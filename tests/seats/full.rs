//! A disk that is full or read-only when the agent starts: it waits, says for what, and comes up by itself.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::disk::Disk;
use super::eventually;
use super::seat::Seat;

fn config(data: &Path) -> String {
    format!(
        "device = \"gw-full\"\ndata_dir = {data:?}\n[mqtt]\nhost = \"127.0.0.1\"\nport = 9\ntls = \"off-insecure\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n"
    )
}

/// Ends the hindrance some time after the start; the start returns once the page is up.
fn start_while(dir: &Path, data: &Path, end: impl FnOnce() + Send + 'static) -> Seat {
    let mended = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(3));
        end();
    });
    let agent = Seat::start("run", dir, &config(data));
    mended.join().unwrap();
    agent
}

fn awaited(agent: &Seat) -> Vec<String> {
    let events = agent.events();
    let awaited = events.iter().filter(|e| e["event"] == "spool_awaited");
    awaited.map(|e| e["error"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_disk_that_is_full_at_the_first_start_is_waited_for() {
    let Some(disk) = Disk::tmpfs(24) else { return };
    let dir = tempfile::tempdir().unwrap();
    let filler = disk.path().join("log of somebody else");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let mut agent = start_while(dir.path(), &disk.path(), move || std::fs::remove_file(filler).unwrap());
    let told = awaited(&agent);
    assert!(told.len() == 1 && told[0].contains("space"), "{told:?}");
    assert!(agent.stop().success());
}

#[test]
fn a_disk_that_is_read_only_at_the_start_is_waited_for_and_a_stop_waits_for_nothing() {
    let Some(disk) = Disk::tmpfs(24) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Seat::start("run", dir.path(), &config(&disk.path()));
    assert!(agent.stop().success());
    assert!(disk.remount("ro"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            assert!(disk.remount("rw"));
        });
        agent.restart();
    });
    let told = awaited(&agent);
    assert!(told.len() == 1 && told[0].contains("ead-only"), "{told:?}");
    assert!(agent.stop().success());

    assert!(disk.remount("ro"));
    agent.restart_without_page();
    eventually("that it waits", || (!awaited(&agent).is_empty()).then_some(()));
    assert!(agent.stop().success());
}
