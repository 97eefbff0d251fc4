//! The keys of small models and of what they may run on.

use super::super::kind::Kind::{Channels, Flag, Name, OneOf, Path, Text, Time};
use super::super::schema::Key;
use super::{H, S};
use crate::limits;

pub(super) const MODEL: &[Key] = &[
    Key::optional("name", Name, "\"cold_room\"", "Name of the model in alarms, unique in the file."),
    Key::optional(
        "bundle",
        Text { min: 1, max: limits::CONFIG_PATH_BYTES_MAX },
        "\"cold_room\"",
        "A model of this program (cold_room: the course of a cold room's temperature), or the folder of a bundle.",
    ),
    Key::optional(
        "channels",
        Channels,
        "[\"cold1.temp\"]",
        "The channels that it looks at, in the order of its manifest.",
    ),
    Key::new(
        "every",
        Time { min_ms: S, max_ms: H },
        "\"1 min\"",
        "Time from one judgement to the next, at least one sample of the model.",
    ),
    Key::new(
        "backends",
        Text { min: 1, max: 256 },
        "\"onnx\"",
        "What may run it, in order of preference, parted by commas: names of accelerators, tflite, and onnx (tract on the CPU), which stands behind them in any case.",
    ),
    Key::new(
        "policy",
        OneOf(&["prefer", "require"]),
        "\"prefer\"",
        "Whether the next backend takes over where the first does not do, or the agent does not start.",
    ),
];

pub(super) const TFLITE: &[Key] = &[
    Key::optional(
        "library",
        Path,
        "\"/usr/lib/libtensorflowlite_c.so\"",
        "TensorFlow Lite's C library; when absent, where the system keeps libraries.",
    ),
    Key::new(
        "xnnpack",
        Flag,
        "false",
        "Use XNNPACK on the CPU, which is faster and rounds in its own way: a model bears it if its golden vectors do.",
    ),
    DEADLINE,
];

pub(super) const ACCELERATOR: &[Key] = &[
    Key::optional(
        "delegate",
        Path,
        "\"/usr/lib/libvx_delegate.so\"",
        "Shared library of a TensorFlow Lite external delegate, for builds with the feature tflite; one of delegate and plugin must be given.",
    ),
    Key::optional(
        "plugin",
        Path,
        "\"/usr/lib/outpost/hailo.so\"",
        "Shared library of the plug-in; `outpost_plugin.h` in the sources says what it has to provide.",
    ),
    Key::new(
        "options",
        Text { min: 0, max: 1024 },
        "\"\"",
        "For the delegate or the plug-in: key=value, parted by commas.",
    ),
    DEADLINE,
];

const DEADLINE: Key = Key::new(
    "deadline",
    Time { min_ms: 10, max_ms: 10 * S },
    "\"500 ms\"",
    "Longest time for one run; then its process is ended and the next backend answers.",
);
