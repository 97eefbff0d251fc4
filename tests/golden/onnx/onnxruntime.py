"""What onnxruntime answers to the shipped small model in int8, on windows of random numbers: `python onnxruntime.py`.

`onnxruntime.json`: inputs and outputs, in steps. Needs what benches/infer/requirements.txt names.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Python looks here first, where this file has that module's name.
sys.path = [path for path in sys.path if Path(path or ".").resolve() != HERE]

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

WINDOWS = 24

if __name__ == "__main__":
    session = onnxruntime.InferenceSession(str(HERE.parents[2] / "models/cold_room/cold_room.int8.onnx"),
                                           providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    rng = np.random.default_rng(20261127)
    # From quiet windows to such as saturate everywhere.
    inputs = [np.clip(rng.normal(-18, 3 * 1.2**i, shape), -128, 127).astype(np.int8) for i in range(WINDOWS)]
    outputs = [session.run(None, {name: x})[0] for x in inputs]
    rows = {"inputs": inputs, "outputs": outputs}
    text = json.dumps({key: [x.reshape(-1).tolist() for x in value] for key, value in rows.items()}, separators=(",", ":"))
    (HERE / "onnxruntime.json").write_text(text + "\n")
