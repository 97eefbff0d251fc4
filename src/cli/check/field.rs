//! `outpost check`: whether what a source from the field needs is there.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::machine::page;
use super::{Finding, certificates};
use crate::cli::link::files;
use crate::clock;
use crate::config::{FieldConfig, LogsConfig, ModbusLinkConfig};
use crate::field::dbc::Dbc;
use crate::files::read_file;
use crate::limits::{CHECK_STEP_TIME, SOURCE_FILE_BYTES_MAX};

/// What can be said of one source without starting it.
///
/// `device` is what the agent calls itself where it connects.
#[cfg_attr(not(feature = "gateway"), expect(unused_variables, reason = "only the gateway seat connects"))]
pub(super) fn source(name: &str, config: &FieldConfig, device: &str) -> Vec<Finding> {
    match config {
        FieldConfig::Logs { input: LogsConfig::Files(paths), .. } => {
            paths.iter().map(|path| log_file(name, path)).collect()
        }
        FieldConfig::Logs { input: LogsConfig::Syslog { udp, tcp, .. }, .. } => {
            let udp = udp.map(|address| datagrams(name, address));
            udp.into_iter().chain(tcp.map(|address| page("source", address))).collect()
        }
        FieldConfig::Logs { input: LogsConfig::Journal, .. } => vec![program(name, Path::new("journalctl"))],
        FieldConfig::Modbus(config) => {
            let requests = config.map.spans().len();
            let map = format!("{name}: {} registers in {requests} requests", config.map.all().len());
            let link = match &config.link {
                ModbusLinkConfig::Tcp(address) => answers(name, *address),
                ModbusLinkConfig::Rtu { device, .. } => device_file(name, device),
            };
            vec![Finding::ok("source", map), link]
        }
        FieldConfig::Subscribe(config) => {
            let tls = config.tls.as_ref().map(files);
            let seen = tls.iter().flat_map(|tls| certificates::look(tls, clock::wall()));
            #[cfg(feature = "gateway")]
            let seen = seen.chain([super::subscription::broker(name, config, device)]);
            seen.collect()
        }
        FieldConfig::Can { interface, dbc, .. } => vec![signals(name, dbc), interface_there(name, interface)],
        FieldConfig::Push { listen, .. } => vec![page("source", *listen)],
        FieldConfig::Exec { command, .. } => {
            command.first().map(|first| program(name, Path::new(first))).into_iter().collect()
        }
    }
}

/// A pattern may match nothing yet; its folder must be there, and a file that is there must be readable.
fn log_file(name: &str, path: &Path) -> Finding {
    let shown = path.display();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(e) = access(folder, Access::READ_OK | Access::EXEC_OK) {
        let next = "name a folder that exists and that this user may read";
        return Finding::error("source", format!("{name}: {}: {e}", folder.display()), next);
    }
    match access(path, Access::READ_OK) {
        Ok(()) if !path.is_file() => Finding::error(
            "source",
            format!("{name}: {shown} is not a file"),
            "name a file; what comes through a pipe is read with kind = \"lines\"",
        ),
        Err(rustix::io::Errno::ACCESS) => Finding::error(
            "source",
            format!("{name}: {shown} may not be read"),
            "put this user into the file's group (often adm)",
        ),
        Ok(()) => Finding::ok("source", format!("{name}: {shown} can be read")),
        Err(_) => Finding::ok("source", format!("{name}: {shown} will be looked for")),
    }
}

fn datagrams(name: &str, address: SocketAddr) -> Finding {
    match UdpSocket::bind(address) {
        Ok(_) => Finding::ok("source", format!("{name}: udp {address} is free")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Finding::warning(
            "source",
            format!("{name}: udp {address} is in use"),
            "if outpost is running, this is fine; if not, choose another port",
        ),
        Err(e) => Finding::error(
            "source",
            format!("{name}: udp {address}: {e}"),
            "choose an address of this machine and a port above 1023",
        ),
    }
}

fn signals(name: &str, dbc: &Path) -> Finding {
    let shown = dbc.display();
    let bytes = read_file(dbc, SOURCE_FILE_BYTES_MAX).map_err(|e| e.to_string());
    match bytes.and_then(|b| Dbc::parse(&String::from_utf8_lossy(&b)).map_err(|e| e.to_string())) {
        Ok(dbc) => {
            let read = format!("{name}: {shown} has {} signals", dbc.signals());
            match dbc.left_out() {
                [] => Finding::ok("source", read),
                [first, ..] => Finding::warning(
                    "source",
                    format!("{read}; {} are left out, the first: {first}", dbc.left_out().len()),
                    "correct the DBC file, or do without them",
                ),
            }
        }
        Err(e) => Finding::error("source", format!("{name}: {shown}: {e}"), "correct the DBC file"),
    }
}

fn interface_there(name: &str, interface: &str) -> Finding {
    if Path::new("/sys/class/net").join(interface).exists() {
        return Finding::ok("source", format!("{name}: {interface} is there"));
    }
    let next = "name a CAN interface of this machine (`ip link show type can`), and set it up";
    Finding::warning("source", format!("{name}: there is no interface {interface}"), next)
}

/// A device that is off is no reason not to start.
fn answers(name: &str, address: SocketAddr) -> Finding {
    match TcpStream::connect_timeout(&address, CHECK_STEP_TIME) {
        Ok(_) => Finding::ok("source", format!("{name}: {address} takes connections")),
        Err(e) => Finding::warning(
            "source",
            format!("{name}: {address}: {e}"),
            "switch the device on, or correct its address; the agent tries again and again",
        ),
    }
}

fn device_file(name: &str, device: &Path) -> Finding {
    let shown = device.display();
    match access(device, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Finding::ok("source", format!("{name}: {shown} can be read and written")),
        Err(e) => Finding::error(
            "source",
            format!("{name}: {shown}: {e}"),
            "plug it in, and put this user into its group (often dialout)",
        ),
    }
}

/// Whether `program` is where it is said to be, or in the search path.
fn program(name: &str, program: &Path) -> Finding {
    let shown = program.display();
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || -> Vec<PathBuf> { std::env::split_paths(&dirs).map(|dir| dir.join(program)).collect() };
    let places = if program.components().count() > 1 { vec![program.to_owned()] } else { in_path() };
    match places.iter().find(|place| access(place.as_path(), Access::EXEC_OK).is_ok()) {
        Some(place) => Finding::ok("source", format!("{name}: {} can be run", place.display())),
        None => Finding::error(
            "source",
            format!("{name}: there is no program {shown} that this user may run"),
            "install it, or name it with its whole path",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_log_that_may_appear_later_is_fine_and_a_folder_that_is_missing_is_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(log_file("a", &dir.path().join("*.log")).mark, Mark::Ok);
        assert_eq!(log_file("a", Path::new("/nowhere/a.log")).mark, Mark::Error);
        assert_eq!(log_file("a", dir.path()).mark, Mark::Error, "neither a folder nor a pipe is a file");
    }

    #[test]
    fn a_program_is_looked_for_where_a_shell_would() {
        assert_eq!(program("a", Path::new("sh")).mark, Mark::Ok);
        assert_eq!(program("a", Path::new("no-such-program")).mark, Mark::Error);
        assert_eq!(program("a", Path::new("./sh")).mark, Mark::Error);
    }

    #[test]
    fn a_dbc_with_a_mistake_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.dbc");
        std::fs::write(&path, "BO_ 1 M: 8 E\n SG_ S : 0|99@1+ (1,0) [0|0] \"\" X\n").expect("write");
        let found = signals("a", &path);
        assert!(found.mark == Mark::Error && found.what.contains("line 2"), "{}", found.what);
    }

    #[test]
    fn signals_that_are_left_out_are_remarked_upon() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.dbc");
        let signal = |name: &str, start: u32| format!(" SG_ {name} : {start}|8@1+ (1,0) [0|0] \"\" X\n");
        std::fs::write(&path, format!("BO_ 1 M: 2 E\n{}{}", signal("A", 0), signal("B", 40))).expect("write");
        let found = signals("a", &path);
        assert!(found.mark == Mark::Warning && found.what.contains("line 3"), "{}", found.what);
    }

    #[test]
    fn a_port_of_datagrams_that_is_taken_is_remarked_upon() {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("bind");
        assert_eq!(datagrams("a", taken.local_addr().expect("address")).mark, Mark::Warning);
    }
}
