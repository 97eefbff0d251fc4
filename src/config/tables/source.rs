//! The keys of sources of every kind.

use super::super::kind::Kind::{Address, Flag, Integer, Name, Number, OneOf, Path, Paths, Text, Texts, Time};
use super::super::schema::Key;
use super::{CA, CERT, D, H, KEY, MIN, S, TLS};

/// What a source can be.
const KINDS: &[&str] = &[
    "host", "replay", "lines", "i2c", "spi", "hwmon", "iio", "w1", "gpio", "logs", "syslog", "journal",
    "modbus", "mqtt", "can", "push", "exec",
];

pub(super) const SOURCE: &[Key] = &[
    Key::optional("name", Name, "\"plant\"", "Name of the source, unique in the file."),
    Key::optional(
        "kind",
        OneOf(KINDS),
        "\"host\"",
        "What it is: the gateway itself, CSV recordings, lines from other programs, chips on an I2C or SPI bus, what kernel drivers publish (hardware monitors, industrial I/O, 1-Wire thermometers, GPIO), log files, syslog over the network, the systemd journal, a Modbus device, topics of a broker in the field, a CAN bus, lines that are posted over HTTP, or a program that is run again and again.",
    ),
    Key::new("interval", Time { min_ms: 100, max_ms: H }, "\"1 s\"", "Time between looks, runs, or readings of one signal.")
        .only("host hwmon iio w1 gpio modbus can exec"),
    Key::new("mounts", Paths, "[\"/\"]", "File systems whose use is watched.").only("host"),
    Key::optional(
        "paths",
        Paths,
        "\"recording.csv\"",
        "CSV files with a time column (replay), or log files, with * and ? in the last part of a path (logs).",
    )
    .only("replay logs"),
    Key::new(
        "speed",
        Number { min: 0.0, max: 1e6 },
        "1.0",
        "1 is the recording's own pace, 60 a minute per second, 0 as fast as possible.",
    )
    .only("replay"),
    Key::new("loop", Flag, "false", "Begin again at the end.").only("replay"),
    Key::new("channel_prefix", Text { min: 0, max: 32 }, "\"\"", "Put before every channel name.")
        .only("replay can"),
    Key::new(
        "stdin",
        Flag,
        "false",
        "Read lines from standard input; one of stdin, unix and tcp must be given.",
    )
    .only("lines"),
    Key::optional("unix", Path, "\"outpost.sock\"", "Listen for lines on this unix socket (mode 0600).")
        .only("lines"),
    Key::optional("tcp", Address, "\"127.0.0.1:9760\"", "Listen for lines or syslog on this address.")
        .only("lines syslog"),
    Key::optional("udp", Address, "\"127.0.0.1:5514\"", "Listen for syslog datagrams on this address.")
        .only("syslog"),
    Key::new(
        "allow_remote",
        Flag,
        "false",
        "Allow an address that others can reach; lines and syslog carry no password.",
    )
    .only("lines syslog push"),
    Key::new("precision", OneOf(&["ns", "us", "ms", "s"]), "\"ns\"", "Unit of the times in Influx lines.")
        .only("lines push"),
    Key::optional(
        "device",
        Path,
        "\"/dev/i2c-1\"",
        "Device file; of an SPI bus without the chip select: /dev/spidev0.",
    )
    .only("i2c spi gpio"),
    Key::optional(
        "buffer",
        Text { min: 1, max: 32 },
        "\"iio:device0\"",
        "Read the course of this one device from its buffer; when absent, every value of every device by its file.",
    )
    .only("iio"),
    Key::optional(
        "rate",
        Number { min: 0.001, max: 1e6 },
        "1000.0",
        "Samples per second to set with buffer; when absent, as the driver has it.",
    )
    .only("iio"),
    Key::new(
        "window",
        Time { min_ms: S, max_ms: H },
        "\"10 s\"",
        "Lines are counted per template and so long.",
    )
    .only("logs syslog journal"),
    Key::new(
        "learn",
        Time { min_ms: 0, max_ms: 30 * D },
        "\"1 h\"",
        "What is new in this time after the first start is no news.",
    )
    .only("logs syslog journal"),
    Key::optional(
        "address",
        Address,
        "\"192.0.2.7:502\"",
        "Address of the device or of its gateway; when absent, the serial line.",
    )
    .only("modbus"),
    Key::optional("serial", Path, "\"/dev/ttyUSB0\"", "Serial line of the device (RTU).").only("modbus"),
    Key::new(
        "baud",
        OneOf(&["1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"]),
        "\"19200\"",
        "Bits per second of the serial line.",
    )
    .only("modbus"),
    Key::new(
        "parity",
        OneOf(&["even", "odd", "none"]),
        "\"even\"",
        "Parity of the serial line; without one there are two stop bits.",
    )
    .only("modbus"),
    Key::new("unit_id", Integer { min: 0, max: 255 }, "1", "Address of the device behind its line or gateway.")
        .only("modbus"),
    Key::new(
        "gap",
        Integer { min: 0, max: 100 },
        "0",
        "Registers that nobody asked for are read along if so many or fewer part two that are wanted.",
    )
    .only("modbus"),
    Key::new(
        "timeout",
        Time { min_ms: 10, max_ms: MIN },
        "\"1 s\"",
        "Longest wait for a connection and for an answer, or longest run of a program.",
    )
    .only("modbus exec"),
    Key::new(
        "broker",
        Text { min: 1, max: 260 },
        "\"localhost:8883\"",
        "Name or address of a broker in the field, which its certificate must carry, and its port, 8883 unless given (1883 without TLS).",
    )
    .only("mqtt"),
    TLS.only("mqtt"),
    CA.only("mqtt"),
    Key {
        meaning: "Own certificate (PEM); empty together with `key` for none. A renewed one is shown at the next connection.",
        ..CERT
    }
    .only("mqtt"),
    KEY.only("mqtt"),
    Key::optional(
        "client_id",
        Name,
        "\"outpost-gw-17-field\"",
        "MQTT client id at that broker; when absent, `outpost-`, device and source.",
    )
    .only("mqtt"),
    Key::optional("user", Text { min: 1, max: 128 }, "\"outpost\"", "User, if the broker wants one.").only("mqtt"),
    Key::optional("password_file", Path, "\"field-password\"", "File with the user's password.").only("mqtt"),
    Key::optional("interface", Text { min: 1, max: 15 }, "\"can0\"", "Network interface of the CAN bus.").only("can"),
    Key::optional("dbc", Path, "\"machine.dbc\"", "DBC file: which signals lie in which frames.").only("can"),
    Key::optional("listen", Address, "\"127.0.0.1:9770\"", "Take posted lines on this address.").only("push"),
    Key::optional(
        "token_file",
        Path,
        "\"push-token\"",
        "File with the token that clients must show; when absent, everybody is let in.",
    )
    .only("push"),
    Key::optional(
        "command",
        Texts,
        "[\"/usr/local/bin/read-ups\", \"--json\"]",
        "Program and its arguments; it writes lines as for kind = \"lines\".",
    )
    .only("exec"),
];
