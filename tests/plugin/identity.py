"""Writes identity.onnx, the model of the tests that hands its int8 input back: `python identity.py`."""

import onnx
from onnx import TensorProto, helper

side = lambda name: helper.make_tensor_value_info(name, TensorProto.INT8, [1, 16])
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [side("x")], [side("y")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "identity.onnx")
