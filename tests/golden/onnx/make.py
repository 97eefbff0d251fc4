"""Golden file for the ONNX reader: an export like the shipped student's, as small as can be. `python make.py`.

`tiny.onnx`: one layer of random weights, written by the student's own exporter (models/student/export.py, whose
requirements this has). Small, so that a broken byte of it stands in the graph rather than in a weight.
"""

import sys
from pathlib import Path

import onnx
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "models" / "student"))

import export  # noqa: E402
from glm import Glm, Shape  # noqa: E402

if __name__ == "__main__":
    torch.manual_seed(0)
    shape = Shape(vocab=24, hidden=32, layers=1, heads=2, kv_heads=1, inter=32, head_dim=16, rotary_dim=8, context=8)
    onnx.save(export.build(export.dequantised(Glm(shape))), HERE / "tiny.onnx")
