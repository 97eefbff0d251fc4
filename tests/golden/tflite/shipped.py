"""What Python's interpreter answers to the shipped small model, in the form that `make.py` writes: `python shipped.py`, with the
packages that `benches/infer/requirements.txt` names."""

import json
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HERE = Path(__file__).parent
VECTORS = 8


def side(detail):
    scale, zero_point = detail["quantization"]
    return {"shape": detail["shape"].tolist(), "scale": float(scale), "zero_point": int(zero_point)}


if __name__ == "__main__":
    file = HERE.parents[2] / "models/cold_room/cold_room.tflite"
    lite = Interpreter(str(file), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    lite.allocate_tensors()
    inward, outward = lite.get_input_details()[0], lite.get_output_details()[0]
    rng, vectors = np.random.default_rng(20261127), []
    for i in range(VECTORS):
        # From quiet windows to such as saturate everywhere.
        codes = np.clip(rng.normal(-18, 3 * 1.8**i, inward["shape"]), -128, 127).astype(np.int8)
        lite.set_tensor(inward["index"], codes)
        lite.invoke()
        answer = lite.get_tensor(outward["index"])
        vectors.append({"input": codes.reshape(-1).tolist(), "output": answer.reshape(-1).tolist()})
    scales = max(len(t["quantization_parameters"]["scales"]) for t in lite.get_tensor_details())
    told = {"scales_of_a_tensor_max": scales, "input": side(inward), "output": side(outward), "vectors": vectors}
    (HERE / "shipped.json").write_text(json.dumps(told) + "\n")
