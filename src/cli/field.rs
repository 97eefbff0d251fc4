//! Sources from the field: the configuration into the options of the `sensor` room.

use super::link::files;
use super::run::precision;

use crate::config::{AgentConfig, FieldConfig, LogsConfig, ModbusConfig, ModbusLinkConfig, SubscribeConfig};
use crate::limits;
use crate::sensor::{
    CanOptions, ExecOptions, FieldOptions, LogInput, LogsOptions, ModbusLink, ModbusOptions, Parity,
    PushOptions, SerialOptions, SourceOptions, SubscribeOptions,
};

/// What `config` means for the source of that name.
pub(super) fn source(name: &str, config: &FieldConfig, agent: &AgentConfig) -> SourceOptions {
    SourceOptions::Field(match config {
        FieldConfig::Logs { input, window, learn } => FieldOptions::Logs(LogsOptions {
            input: log_input(input),
            every: *window,
            learn: *learn,
            state_dir: Some(agent.data_dir.join(LOGS_DIR)),
        }),
        FieldConfig::Modbus(config) => FieldOptions::Modbus(modbus(name, config)),
        FieldConfig::Subscribe(config) => FieldOptions::Subscribe(subscribe(name, config, &agent.device)),
        FieldConfig::Can { interface, dbc, interval, channel_prefix } => FieldOptions::Can(CanOptions {
            interface: interface.clone(),
            channel_prefix: channel_prefix.clone(),
            dbc: dbc.clone(),
            interval: *interval,
        }),
        FieldConfig::Push { listen, allow_remote, token_file, precision_ns } => {
            FieldOptions::Push(PushOptions {
                listen: *listen,
                allow_remote: *allow_remote,
                token_file: token_file.clone(),
                precision: precision(*precision_ns),
                durable: agent.raw_keep,
            })
        }
        FieldConfig::Exec { command, interval, timeout } => FieldOptions::Exec(ExecOptions {
            command: command.clone(),
            interval: *interval,
            timeout: *timeout,
        }),
    })
}

/// The options of a broker in the field.
pub(super) fn subscribe(name: &str, config: &SubscribeConfig, device: &str) -> SubscribeOptions {
    SubscribeOptions {
        host: config.host.clone(),
        port: config.port,
        tls: config.tls.as_ref().map(files),
        client_id: config.client_id.clone().unwrap_or_else(|| format!("outpost-{device}-{name}")),
        user: config.user.clone(),
        password_file: config.password_file.clone(),
        certificates_every: limits::CERTIFICATES_EVERY,
        topics: config.topics.clone(),
    }
}

fn modbus(name: &str, config: &ModbusConfig) -> ModbusOptions {
    let link = match &config.link {
        ModbusLinkConfig::Tcp(address) => ModbusLink::Tcp(*address),
        ModbusLinkConfig::Rtu { device, baud, parity } => ModbusLink::Rtu(SerialOptions {
            device: device.clone(),
            baud: *baud,
            parity: match parity.as_str() {
                "odd" => Parity::Odd,
                "none" => Parity::None,
                _ => Parity::Even,
            },
        }),
    };
    ModbusOptions {
        name: name.to_owned(),
        link,
        unit: config.unit_id,
        map: config.map.clone(),
        interval: config.interval,
        timeout: config.timeout,
    }
}

/// Templates and places of logs, beside the spool.
const LOGS_DIR: &str = "logs";

fn log_input(input: &LogsConfig) -> LogInput {
    match input {
        LogsConfig::Files(paths) => LogInput::Files(paths.clone()),
        LogsConfig::Syslog { udp, tcp, allow_remote } => {
            LogInput::Syslog { udp: *udp, tcp: *tcp, allow_remote: *allow_remote }
        }
        LogsConfig::Journal => LogInput::Journal(JOURNAL.map(str::to_owned).to_vec()),
    }
}

/// One JSON object per line.
const JOURNAL: [&str; 4] = ["journalctl", "--follow", "--output=json", "--no-pager"];
