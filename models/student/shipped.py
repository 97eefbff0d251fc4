"""The shipped model read back, dequantised: training can go on from it when its checkpoint is gone."""

import json
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from glm import Glm

HERE = Path(__file__).parent


def manifest():
    """What was exported last; nothing where nothing was."""
    path = HERE / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run():
    """The training that the shipped weights come from."""
    return manifest().get("run")


def model(shape):
    """The student of `student.onnx`, whose matrices hold exactly what the graph computes with."""
    constants = onnx.load(HERE / "student.onnx").graph.initializer
    arrays = {c.name: torch.tensor(numpy_helper.to_array(c)) for c in constants}

    def linear(*names):
        """[out, in] of matrices that the graph holds transposed, stacked."""
        return torch.cat([(arrays[f"{n}.weight.codes"].float() * arrays[f"{n}.weight.scale"]).T for n in names])

    state = {"embed.weight": arrays["embedding.codes"].float() * arrays["embedding.scale"][:, None]}
    state |= {"norm": arrays["norm.weight"], "head.weight": linear("logits")}
    for n in range(shape.layers):
        here, block = f"layer{n}", f"blocks.{n}"
        state[f"{block}.qkv.weight"] = linear(*(f"{here}.{part}" for part in "qkv"))
        state[f"{block}.out.weight"] = linear(f"{here}.o")
        state[f"{block}.gate_up.weight"] = linear(f"{here}.gate", f"{here}.up")
        state[f"{block}.down.weight"] = linear(f"{here}.down")
        for norm in ("norm_attention", "norm_mlp"):
            state[f"{block}.{norm}"] = arrays[f"{here}.{norm}.weight"]
    read = Glm(shape)
    read.load_state_dict(state)
    return read.eval()
