"""Trains, quantises, exports and measures the model of cold rooms: `python make.py` writes every file beside it.

An autoencoder that knows sound windows only; what it cannot redraw is odd. It is trained with Keras, quantised to int8 by
TensorFlow Lite (per channel, whole numbers from input to output), and the same whole numbers are written as an ONNX graph
of QLinearConv, so that both files compute the same. The f32 graph is beside it for backends without int8.
"""

import hashlib
import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import cold_room

HERE = Path(__file__).parent
SEED = 20261126
LENGTH = cold_room.LENGTH
CLIP = 4.0  # degrees around the mean of the window; beyond, more says nothing more
FALSE_ALARMS = 0.002  # share of sound windows that may be flagged, which sets the threshold
EPOCHS = 40
GOLDEN = 12


def model():
    """64 samples to 8 numbers and back."""
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input((1, LENGTH, 1)),
        layers.Conv2D(8, (1, 5), strides=(1, 2), activation="relu"),
        layers.DepthwiseConv2D((1, 5), strides=2, activation="relu"),
        layers.Conv2D(16, (1, 1), activation="relu"),
        layers.Conv2D(4, (1, 5), strides=(1, 2), activation="relu"),
        layers.Flatten(),
        layers.Dense(8),
        layers.Dense(96, activation="relu"),
        layers.Dense(LENGTH),
    ])


def trained(rng):
    """A model that has seen sound windows."""
    x = np.clip(cold_room.windows(rng, 60_000), -CLIP, CLIP)
    net = model()
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * (len(x) // 256))
    net.compile(tf.keras.optimizers.Adam(rate), "mse")
    net.fit(x.reshape(-1, 1, LENGTH, 1), x, batch_size=256, epochs=EPOCHS, verbose=2, shuffle=True)
    return net, x


def quantised(net, x):
    """The TensorFlow Lite file, int8 from end to end."""
    concrete = tf.function(lambda t: net(t)).get_concrete_function(tf.TensorSpec((1, 1, LENGTH, 1), tf.float32))
    # The calibrator of the converter does not know variables.
    frozen = convert_variables_to_constants_v2(concrete)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row.reshape(1, 1, LENGTH, 1)] for row in x[:2000])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


class Tflite:
    """The file under TensorFlow Lite's own built-in kernels."""

    def __init__(self, data):
        kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.interpreter = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=kind)
        self.interpreter.allocate_tensors()
        self.input, self.output = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]

    def run(self, codes):
        """int8 [LENGTH] to int8 [LENGTH]."""
        self.interpreter.set_tensor(self.input["index"], codes.reshape(self.input["shape"]))
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"]).reshape(-1).copy()


def quantisation(tensor):
    """(scales, zero point) of a tensor."""
    q = tensor["quantization_parameters"]
    return q["scales"].astype(np.float32), int(q["zero_points"][0])


class Graph:
    """Collects nodes and constants of an ONNX graph."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, array):
        """One initializer."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, output, **attributes):
        """One node; returns its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def written(self, kind, shape_out):
        """The file, checked."""
        x = helper.make_tensor_value_info("window", kind, [1, 1, 1, LENGTH])
        y = helper.make_tensor_value_info("redrawn", kind, shape_out)
        graph = helper.make_graph(self.nodes, "cold_room", [x], [y], self.constants)
        file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="outpost")
        onnx.checker.check_model(file, full_check=True)
        return file.SerializeToString()


def onnx_int8(lite):
    """The whole numbers of the TensorFlow Lite file, operator by operator. A dense layer is a convolution over all."""
    tensors = {t["index"]: t for t in lite.interpreter.get_tensor_details()}
    g, x, width = Graph(), "window", None
    for i, op in enumerate(lite.interpreter._get_ops_details()):
        name, inputs = op["op_name"], [int(t) for t in op["inputs"]]
        if name == "RESHAPE":
            continue
        weight = lite.interpreter.get_tensor(inputs[1])
        before, kernel, after = tensors[inputs[0]], tensors[inputs[1]], tensors[int(op["outputs"][0])]
        strides, group = [1, 1], 1
        if name == "CONV_2D":  # OHWI
            w = weight.transpose(0, 3, 1, 2)
        elif name == "DEPTHWISE_CONV_2D":  # 1HWC
            w, group = weight.transpose(3, 0, 1, 2), weight.shape[3]
        else:  # FULLY_CONNECTED [out, in]; after Flatten the input lies width first, then channels
            place, channels = width if width else (1, weight.shape[1])
            w = weight.reshape(len(weight), 1, place, channels).transpose(0, 3, 1, 2)
            width = None
        if name != "FULLY_CONNECTED":
            strides = [1, 2] if w.shape[3] > 1 else [1, 1]
            width = (int(after["shape"][2]), int(after["shape"][3]))
        (x_scale, x_zero), (k_scale, _), (y_scale, y_zero) = map(quantisation, (before, kernel, after))
        # A bias of noughts is left out of the file.
        bias = lite.interpreter.get_tensor(inputs[2]) if inputs[2] >= 0 else np.zeros(len(w), np.int32)
        constants = [
            (f"{i}.x_scale", x_scale[0]), (f"{i}.x_zero", np.int8(x_zero)), (f"{i}.weight", w),
            (f"{i}.w_scale", k_scale), (f"{i}.w_zero", np.zeros(len(k_scale), np.int8)),
            (f"{i}.y_scale", y_scale[0]), (f"{i}.y_zero", np.int8(y_zero)), (f"{i}.bias", bias),
        ]
        names = [g.constant(n, np.asarray(value)) for n, value in constants]
        x = g.add("QLinearConv", [x, *names], f"{i}.out", strides=strides, group=group, kernel_shape=list(w.shape[2:]))
    shape = g.constant("shape", np.array([1, LENGTH], np.int64))
    g.add("Reshape", [x, shape], "redrawn")
    return g.written(TensorProto.INT8, [1, LENGTH])


def onnx_f32(net):
    """The trained weights as they are."""
    g, x = Graph(), "window"
    for i, layer in enumerate(net.layers):
        if isinstance(layer, tf.keras.layers.Flatten):
            # Keras lays width before channels.
            x = g.add("Transpose", [x], f"{i}.wide", perm=[0, 2, 3, 1])
            x = g.add("Flatten", [x], f"{i}.flat")
            continue
        kernel, bias = (w.numpy() for w in layer.weights)
        b = g.constant(f"{i}.bias", bias)
        if isinstance(layer, tf.keras.layers.Dense):
            x = g.add("Gemm", [x, g.constant(f"{i}.weight", kernel), b], f"{i}.out")
        else:
            depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
            w = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
            x = g.add("Conv", [x, g.constant(f"{i}.weight", w), b], f"{i}.out", strides=[1, layer.strides[1]],
                      group=len(w) if depthwise else 1, kernel_shape=list(w.shape[2:]))
        if getattr(layer, "activation", None) is tf.keras.activations.relu:
            x = g.add("Relu", [x], f"{i}.relu")
    g.nodes[-1].output[0] = "redrawn"
    return g.written(TensorProto.FLOAT, [1, LENGTH])


def centred(row):
    """A window as the model sees it: without its mean, within CLIP."""
    row = np.asarray(row, np.float64)
    return np.clip(row - row.mean(), -CLIP, CLIP).astype(np.float32)


class Bundle:
    """The shipped files, and what they say of windows."""

    def __init__(self, tflite, int8, f32):
        self.lite = Tflite(tflite)
        self.int8 = onnxruntime.InferenceSession(int8, providers=["CPUExecutionProvider"])
        self.f32 = onnxruntime.InferenceSession(f32, providers=["CPUExecutionProvider"])
        (scale, self.x_zero), (out, self.y_zero) = quantisation(self.lite.input), quantisation(self.lite.output)
        self.x_scale, self.y_scale = scale[0], out[0]

    def codes(self, row):
        """A window as the int8 input, in the arithmetic of the program."""
        # Halves away from zero, as Rust rounds.
        q = centred(row) / np.float32(self.x_scale)
        return np.clip(np.trunc(q + np.copysign(np.float32(0.5), q)) + self.x_zero, -128, 127).astype(np.int8)

    def score(self, row):
        """Root mean square of what was not redrawn, in degrees."""
        redrawn = (self.lite.run(self.codes(row)).astype(np.float32) - self.y_zero) * np.float32(self.y_scale)
        return float(np.sqrt(np.mean((centred(row) - redrawn) ** 2)))

    def scores(self, rows):
        """One score per window."""
        return np.array([self.score(row) for row in rows])


def area(sound, odd):
    """Area under the ROC curve: how often an odd window scores higher than a sound one."""
    order = np.argsort(np.concatenate([sound, odd]), kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    return float((ranks[len(sound):].sum() - len(odd) * (len(odd) + 1) / 2) / (len(sound) * len(odd)))


def measured(bundle, threshold):
    """Figures on windows of rooms that were in neither training nor the choice of the threshold."""
    rng = np.random.default_rng(SEED + 2)
    sound = bundle.scores(cold_room.windows(rng, 4000))
    figures = {"sound_windows": len(sound), "false_alarms": round(float((sound > threshold).mean()), 5), "faults": {}}
    for fault in cold_room.FAULTS:
        odd = bundle.scores(cold_room.windows(rng, 1000, fault))
        figures["faults"][fault] = {"windows": 1000, "found": round(float((odd > threshold).mean()), 4),
                                    "roc_auc": round(area(sound, odd), 4)}
    return figures


def golden(bundle, rng):
    """Windows with every backend's answer; the worst differences between them are told."""
    rows = np.concatenate([cold_room.windows(rng, GOLDEN - len(cold_room.FAULTS))]
                          + [cold_room.windows(rng, 1, fault) for fault in cold_room.FAULTS])
    vectors, off = [], 0
    # As a sensor in a freezer would tell them.
    for row in np.round(rows.astype(np.float64) - 18.0, 2):
        codes = bundle.codes(row)
        lite = bundle.lite.run(codes)
        other = bundle.int8.run(None, {"window": codes.reshape(1, 1, 1, LENGTH)})[0].reshape(-1)
        off = max(off, int(np.abs(lite.astype(int) - other.astype(int)).max()))
        f32 = bundle.f32.run(None, {"window": centred(row).reshape(1, 1, 1, LENGTH)})[0].reshape(-1)
        vectors.append({"window": [round(float(v), 2) for v in row], "score": round(bundle.score(row), 5),
                        "outputs": {"int8": lite.tolist(), "f32": [round(float(v), 5) for v in f32]}})
    return vectors, off


def main():
    """Everything, in order."""
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(SEED)
    net, x = trained(rng)
    tflite = quantised(net, x)
    files = {"cold_room.tflite": tflite, "cold_room.int8.onnx": onnx_int8(Tflite(tflite)), "cold_room.f32.onnx": onnx_f32(net)}
    bundle = Bundle(*files.values())
    chosen = np.random.default_rng(SEED + 1)
    threshold = round(float(np.quantile(bundle.scores(cold_room.windows(chosen, 4000)), 1.0 - FALSE_ALARMS)), 3)
    vectors, off = golden(bundle, np.random.default_rng(SEED + 3))
    t, values = cold_room.recording(np.random.default_rng(SEED + 4), 6, 4, "iced_evaporator")
    rows = "".join(f"{1_790_000_000 + int(s)},{v}\n" for s, v in zip(t, values))
    files["golden.json"] = json.dumps({"vectors": vectors}, separators=(",", ":")).encode() + b"\n"
    files["held_out.csv"] = ("timestamp,cold1.temp [Cel]\n" + rows).encode()
    for name, data in files.items():
        (HERE / name).write_bytes(data)
    write_manifest(bundle, files, threshold, off, measured(bundle, threshold))


def write_manifest(bundle, files, threshold, off, figures):
    """What the program reads, with the hash of every file."""
    whole = {"element": "int8", "input": {"scale": float(bundle.x_scale), "zero_point": bundle.x_zero},
             "output": {"scale": float(bundle.y_scale), "zero_point": bundle.y_zero}}
    manifest = {
        "format": 1,
        "name": "cold_room",
        "licence": "Apache-2.0",
        "purpose": "windows of a cold room's air temperature: odd cycles, a door left open, a compressor that stands",
        "input": {"channels": [{"role": "air", "unit": "Cel"}], "step_ms": cold_room.STEP_S * 1000, "length": LENGTH,
                  "normalisation": {"subtract": "window_mean", "divide": [1.0], "clip": CLIP}},
        "output": {"kind": "reconstruction", "threshold": threshold},
        "variants": [
            {"backend": "tflite", "file": "cold_room.tflite", "input_shape": [1, 1, LENGTH, 1], "output_shape": [1, LENGTH],
             # To the bit on x86-64; on aarch64 the library's own kernels are two steps off in one vector.
             "tolerance": 2, **whole},
            {"backend": "onnx", "file": "cold_room.int8.onnx", "input_shape": [1, 1, 1, LENGTH], "output_shape": [1, LENGTH],
             # Every engine rounds between layers in its own way.
             "tolerance": off + 1, **whole},
            {"backend": "onnx", "file": "cold_room.f32.onnx", "input_shape": [1, 1, 1, LENGTH], "output_shape": [1, LENGTH],
             "element": "f32", "tolerance": 0.001},
        ],
        "golden": "golden.json",
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "bytes": {name: len(data) for name, data in files.items()},
        "measured": {**figures, "int8_steps_between_tflite_and_onnxruntime": off},
    }
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(json.dumps({"threshold": threshold, **manifest["measured"], "bytes": manifest["bytes"]}, indent=1))


if __name__ == "__main__":
    main()
