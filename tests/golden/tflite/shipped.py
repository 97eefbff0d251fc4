"""What Python's interpreter answers to the shipped small model, whole and up to its last convolution, in the form that `make.py`
writes: `python shipped.py`, with the packages that `benches/infer/requirements.txt` names."""

import json
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HERE = Path(__file__).parent
VECTORS = 8
CONVOLUTIONS = 4


def convolutions(data):
    """The file up to its last convolution."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:CONVOLUTIONS]
    graph.outputs = graph.operators[-1].outputs
    used = {int(tensor) for operator in graph.operators for tensor in [*operator.inputs, *operator.outputs]}
    for number, tensor in enumerate(graph.tensors):
        if number not in used:
            model.buffers[tensor.buffer].data = None
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def golden(scale, zero_point):
    """The codes of the bundle's golden windows: degrees around the mean of the window, as its manifest says."""
    bundle = HERE.parents[2] / "models/cold_room"
    clip = json.loads((bundle / "manifest.json").read_text())["input"]["normalisation"]["clip"]
    windows = [np.array(v["window"]) for v in json.loads((bundle / "golden.json").read_text())["vectors"]]
    steps = [np.clip(w - w.mean(), -clip, clip) / scale for w in windows]
    return [np.clip(np.floor(np.abs(x) + 0.5) * np.sign(x) + zero_point, -128, 127).astype(np.int8) for x in steps]


def side(detail):
    scale, zero_point = detail["quantization"]
    return {"shape": detail["shape"].tolist(), "scale": float(scale), "zero_point": int(zero_point)}


def answered(data):
    lite = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    lite.allocate_tensors()
    inward, outward = lite.get_input_details()[0], lite.get_output_details()[0]
    rng, vectors = np.random.default_rng(20261127), []
    # From quiet windows to such as saturate everywhere, and the bundle's golden ones.
    noise = [np.clip(rng.normal(-18, 3 * 1.8**i, inward["shape"]), -128, 127).astype(np.int8) for i in range(VECTORS)]
    for codes in noise + golden(*inward["quantization"]):
        codes = codes.reshape(inward["shape"])
        lite.set_tensor(inward["index"], codes)
        lite.invoke()
        answer = lite.get_tensor(outward["index"])
        vectors.append({"input": codes.reshape(-1).tolist(), "output": answer.reshape(-1).tolist()})
    scales = max(len(t["quantization_parameters"]["scales"]) for t in lite.get_tensor_details())
    return {"scales_of_a_tensor_max": scales, "input": side(inward), "output": side(outward), "vectors": vectors}


if __name__ == "__main__":
    whole = (HERE.parents[2] / "models/cold_room/cold_room.tflite").read_bytes()
    (HERE / "shipped.json").write_text(json.dumps(answered(whole)) + "\n")
    half = convolutions(whole)
    (HERE / "shipped_convolutions.tflite").write_bytes(half)
    (HERE / "shipped_convolutions.json").write_text(json.dumps(answered(half)) + "\n")
