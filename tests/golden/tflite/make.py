"""Writes the int8 models of `tests/tflite.rs` and what Python's interpreter answers: `python make.py`, with the packages that
`models/cold_room/requirements.txt` names.

Weights are random: it is arithmetic that is tested. Channels differ in size by a factor of thirty, so that one scale for all of
them would show, and both files hold what the shipped model does not: padding, pooling, a residual, a softmax, two-dimensional
kernels, a depth multiplier.
"""

import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

HERE = Path(__file__).parent
SHAPE = (12, 10, 3)
VECTORS = 8
layers = tf.keras.layers


def convolutions():
    """CONV_2D, MAX_POOL_2D, FULLY_CONNECTED, SOFTMAX."""
    return tf.keras.Sequential([
        layers.Input(SHAPE),
        layers.Conv2D(8, 3, padding="same", activation="relu6"),
        layers.MaxPool2D(2),
        layers.Conv2D(12, (3, 2), strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ])


def depthwise():
    """DEPTHWISE_CONV_2D, CONV_2D, ADD, MEAN, FULLY_CONNECTED."""
    x = start = layers.Input(SHAPE)
    x = layers.DepthwiseConv2D(3, depth_multiplier=4, padding="same", activation="relu")(x)
    x = layers.Conv2D(12, 1)(x)
    y = layers.DepthwiseConv2D((5, 3), padding="same", activation="relu6")(x)
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(start, layers.Dense(7)(x))


def plain():
    """CONV_2D, DEPTHWISE_CONV_2D, MAX_POOL_2D: what tract's own reader of such files computes."""
    return tf.keras.Sequential([
        layers.Input(SHAPE),
        layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        layers.DepthwiseConv2D((3, 2), padding="same", activation="relu"),
        layers.Conv2D(12, 1),
        layers.MaxPool2D(2),
        layers.Conv2D(7, (3, 2)),
    ])


def scattered(net, rng):
    """Random weights whose output channels differ in size."""
    for layer in net.layers:
        values = []
        for w in layer.get_weights():
            size = np.geomspace(0.05, 1.5, w.shape[-1] if w.ndim != 4 or w.shape[-1] > 1 else 1)
            values.append((rng.standard_normal(w.shape) * size / np.sqrt(max(1, w[..., 0].size))).astype(np.float32))
        layer.set_weights(values)
    return net


def quantised(net, rng):
    """The file, int8 from end to end, per channel."""
    concrete = tf.function(lambda t: net(t)).get_concrete_function(tf.TensorSpec((1, *SHAPE), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.standard_normal((1, *SHAPE)).astype(np.float32)] for _ in range(200))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def side(details):
    """Shape and quantisation of a tensor."""
    scale, zero_point = details["quantization"]
    return {"shape": details["shape"].tolist(), "scale": float(scale), "zero_point": int(zero_point)}


def answered(data, rng):
    """What the interpreter's own kernels answer to random codes, the extremes among them."""
    kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    lite = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=kind)
    lite.allocate_tensors()
    inward, outward = lite.get_input_details()[0], lite.get_output_details()[0]
    inputs = rng.integers(-128, 128, (VECTORS, *inward["shape"])).astype(np.int8)
    inputs[0], inputs[1] = -128, 127
    vectors = []
    for x in inputs:
        lite.set_tensor(inward["index"], x)
        lite.invoke()
        vectors.append({"input": x.reshape(-1).tolist(), "output": lite.get_tensor(outward["index"]).reshape(-1).tolist()})
    names = [op["op_name"] for op in lite._get_ops_details()]
    per_channel = max(len(t["quantization_parameters"]["scales"]) for t in lite.get_tensor_details())
    return {"operators": names, "scales_of_a_tensor_max": per_channel, "input": side(inward), "output": side(outward), "vectors": vectors}


def main():
    for make in [convolutions, depthwise, plain]:
        name = make.__name__
        tf.keras.utils.set_random_seed(20261126)
        rng = np.random.default_rng(20261126)
        data = quantised(scattered(make(), rng), rng)
        (HERE / f"{name}.tflite").write_bytes(data)
        told = answered(data, rng)
        (HERE / f"{name}.json").write_text(json.dumps(told) + "\n")
        print(name, len(data), "bytes", told["operators"], told["vectors"][5]["output"])


main()
