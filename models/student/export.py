"""From a checkpoint to the shipped files: int8 weights, ONNX graph, golden answers, manifest, model card.

The graph is written node by node with the operators that the program's engine knows (Gather, RMSNormalization, MatMul,
Attention of opset 24, Swish). Weights are int8 with one scale per output channel, zero point 0, and are dequantised in
the graph. `python export.py --random` ships untrained weights: the format alone; `--quick` measures on fewer scenarios.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import golden
import scenarios
import shipped
import train
import vocabulary as vocab
from glm import Glm, interleaved_rows

HERE = Path(__file__).parent
OPSET = 24


def quantise(weight, axis):
    """[rows, columns] f32 -> (int8, scales): one scale per index of `axis`, symmetric, -127..127."""
    peak = np.abs(weight).max(axis=1 - axis, keepdims=True)
    scale = np.where(peak > 0, peak / 127.0, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale.reshape(-1)


def dequantised(model):
    """A copy whose matrices hold exactly what the graph computes with."""
    copy = Glm(model.shape)
    copy.load_state_dict(model.state_dict())
    for parameter in copy.parameters():
        if parameter.dim() == 2:  # [out, in], and the embedding's [token, hidden]: rows are the channels
            codes, scale = quantise(parameter.detach().numpy(), axis=0)
            parameter.data = torch.from_numpy(codes.astype(np.float32) * scale[:, None])
    return copy.eval()


class Graph:
    """Collects nodes and constants."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, op, inputs, output, **attributes):
        """One node with one or more outputs; returns the name of the first."""
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def constant(self, name, array):
        """One initializer."""
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, name, matrix, axis):
        """An int8 matrix, dequantised along `axis`."""
        codes, scale = quantise(matrix, axis)
        parts = [self.constant(f"{name}.codes", codes), self.constant(f"{name}.scale", scale)]
        parts.append(self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)))
        return self.add("DequantizeLinear", parts, name, axis=axis)

    def linear(self, x, name, weight):
        """x times the transposed [out, in] weight."""
        matrix = self.weight(f"{name}.weight", weight.detach().numpy().T, axis=1)
        return self.add("MatMul", [x, matrix], name)

    def norm(self, x, name, weight, eps):
        """RMSNorm over the last axis."""
        scale = self.constant(f"{name}.weight", weight.detach().numpy())
        return self.add("RMSNormalization", [x, scale], name, axis=-1, epsilon=eps)

    def heads(self, x, name, count, width):
        """[1, S, count * width] -> [1, count, S, width]."""
        shape = self.constant(f"{name}.shape", np.array([0, 0, count, width], np.int64))
        parted = self.add("Reshape", [x, shape], f"{name}.parted")
        return self.add("Transpose", [parted], name, perm=[0, 2, 1, 3])


def positions(graph, model):
    """Cosine and sine of the new positions P..P+S: two names, [S, head_dim] each."""
    shape = model.shape
    one, two = (graph.constant(f"number.{n}", np.array(n, np.int64)) for n in (1, 2))
    ids_shape = graph.add("Shape", ["input_ids"], "ids.shape")
    count = graph.add("Gather", [ids_shape, one], "new.count", axis=0)
    past_shape = graph.add("Shape", ["past_k_0"], "past.shape")
    first = graph.add("Gather", [past_shape, two], "past.count", axis=0)
    end = graph.add("Add", [first, count], "all.count")
    place = graph.add("Range", [first, end, one], "positions")
    cos = torch.cat((model.cos, model.cos), dim=-1).numpy()
    sin = torch.cat((model.sin, model.sin), dim=-1).numpy()
    assert cos.shape == (shape.context, shape.head_dim)
    return (
        graph.add("Gather", [graph.constant("table.cos", cos), place], "cos", axis=0),
        graph.add("Gather", [graph.constant("table.sin", sin), place], "sin", axis=0),
    )


def rotate(graph, x, name, half, cos, sin):
    """x * cos + (-second half, first half) * sin."""
    bound = {n: f"slice.{n}" for n in ("zero", "half", "end", "axis")}
    first = graph.add("Slice", [x, bound["zero"], bound["half"], bound["axis"]], f"{name}.first")
    second = graph.add("Slice", [x, bound["half"], bound["end"], bound["axis"]], f"{name}.second")
    turned = graph.add("Concat", [graph.add("Neg", [second], f"{name}.minus"), first], f"{name}.turned", axis=-1)
    straight = graph.add("Mul", [x, cos], f"{name}.straight")
    return graph.add("Add", [straight, graph.add("Mul", [turned, sin], f"{name}.across")], name)


def block(graph, model, n, x, cos, sin):
    """One layer; returns the name of its output."""
    s, b, here = model.shape, model.blocks[n], f"layer{n}"
    q_w, k_w, v_w = b.qkv.weight.split(train.stacked_rows("qkv", b.qkv.weight, s))
    normed = graph.norm(x, f"{here}.norm_attention", b.norm_attention, s.eps)
    q = graph.heads(graph.linear(normed, f"{here}.q", q_w), f"{here}.q.heads", s.heads, s.head_dim)
    k = graph.heads(graph.linear(normed, f"{here}.k", k_w), f"{here}.k.heads", s.kv_heads, s.head_dim)
    v = graph.heads(graph.linear(normed, f"{here}.v", v_w), f"{here}.v.heads", s.kv_heads, s.head_dim)
    q = rotate(graph, q, f"{here}.q.rope", s.head_dim // 2, cos, sin)
    k = rotate(graph, k, f"{here}.k.rope", s.head_dim // 2, cos, sin)
    inputs = [q, k, v, "", f"past_k_{n}", f"past_v_{n}"]
    outputs = [f"{here}.attention", f"present_k_{n}", f"present_v_{n}"]
    y = graph.add("Attention", inputs, outputs, is_causal=1, scale=1.0 / math.sqrt(s.head_dim))
    y = graph.add("Transpose", [y], f"{here}.attention.back", perm=[0, 2, 1, 3])
    y = graph.add("Reshape", [y, "shape.joined"], f"{here}.attention.joined")
    x = graph.add("Add", [x, graph.linear(y, f"{here}.o", b.out.weight)], f"{here}.attended")
    normed = graph.norm(x, f"{here}.norm_mlp", b.norm_mlp, s.eps)
    gate_w, up_w = b.gate_up.weight.chunk(2)
    gate = graph.add("Swish", [graph.linear(normed, f"{here}.gate", gate_w)], f"{here}.gate.swish")
    product = graph.add("Mul", [gate, graph.linear(normed, f"{here}.up", up_w)], f"{here}.mlp")
    return graph.add("Add", [x, graph.linear(product, f"{here}.down", b.down.weight)], f"{here}.out")


def build(model):
    """The whole ONNX model."""
    s, graph = model.shape, Graph()
    for name, number in (("zero", 0), ("half", s.head_dim // 2), ("end", 2**63 - 1), ("axis", 3)):
        graph.constant(f"slice.{name}", np.array([number], np.int64))
    graph.constant("shape.joined", np.array([0, 0, s.heads * s.head_dim], np.int64))
    cos, sin = positions(graph, model)
    table = graph.weight("embedding", model.embed.weight.detach().numpy(), axis=0)
    x = graph.add("Gather", [table, "input_ids"], "embedded", axis=0)
    for n in range(s.layers):
        x = block(graph, model, n, x, cos, sin)
    logits = graph.linear(graph.norm(x, "norm", model.norm, s.eps), "logits", model.head.weight)
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "S"])]
    outputs = [helper.make_tensor_value_info(logits, TensorProto.FLOAT, [1, "S", s.vocab])]
    for n in range(s.layers):
        for kind in "kv":
            past, present = [1, s.kv_heads, "P", s.head_dim], [1, s.kv_heads, "P+S", s.head_dim]
            inputs.append(helper.make_tensor_value_info(f"past_{kind}_{n}", TensorProto.FLOAT, past))
            outputs.append(helper.make_tensor_value_info(f"present_{kind}_{n}", TensorProto.FLOAT, present))
    body = helper.make_graph(graph.nodes, "outpost-student", inputs, outputs, graph.constants)
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=11)
    proto.producer_name = "outpost"
    onnx.checker.check_model(proto, full_check=True)
    return proto


def reference(model):
    """transformers' GlmForCausalLM with the same weights, its rows in GLM's own order."""
    from transformers import GlmConfig, GlmForCausalLM

    s = model.shape
    config = GlmConfig(
        vocab_size=s.vocab, hidden_size=s.hidden, num_hidden_layers=s.layers, num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads, head_dim=s.head_dim, intermediate_size=s.inter, rms_norm_eps=s.eps,
        max_position_embeddings=s.context, attention_bias=False, tie_word_embeddings=False, pad_token_id=vocab.PAD,
        bos_token_id=vocab.BOS, eos_token_id=vocab.END_IDS,
        rope_parameters={"rope_type": "default", "rope_theta": s.rope_theta, "partial_rotary_factor": 0.5},
    )  # fmt: skip
    config._attn_implementation = "eager"
    rows = interleaved_rows(s)

    def glm_order(weight, heads):
        return weight.view(heads, s.head_dim, s.hidden)[:, rows].reshape(heads * s.head_dim, s.hidden)

    state = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm}
    state["lm_head.weight"] = model.head.weight
    for n, b in enumerate(model.blocks):
        here = f"model.layers.{n}"
        q, k, v = b.qkv.weight.split(train.stacked_rows("qkv", b.qkv.weight, s))
        state[f"{here}.self_attn.q_proj.weight"] = glm_order(q, s.heads)
        state[f"{here}.self_attn.k_proj.weight"] = glm_order(k, s.kv_heads)
        state[f"{here}.self_attn.v_proj.weight"] = v
        state[f"{here}.self_attn.o_proj.weight"] = b.out.weight
        state[f"{here}.mlp.gate_up_proj.weight"] = b.gate_up.weight
        state[f"{here}.mlp.down_proj.weight"] = b.down.weight
        state[f"{here}.input_layernorm.weight"] = b.norm_attention
        state[f"{here}.post_attention_layernorm.weight"] = b.norm_mlp
    theirs = GlmForCausalLM(config)
    theirs.load_state_dict({name: w.detach().clone() for name, w in state.items()}, strict=True)
    return theirs.eval()


def run_graph(path, prompt_ids, answer_ids):
    """Logits of onnxruntime along one case: prompt in one call, then token by token on the cache."""
    options = onnxruntime.SessionOptions()  # its optimiser would fuse the int8 weights into int8 activations
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for i in session.get_inputs()[1:]:
        feeds[i.name] = np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
    rows, step = [], prompt_ids
    for token in [*answer_ids, None]:
        out = session.run(None, {"input_ids": np.array([step], np.int64), **feeds})
        rows.append(out[0][0, -1])
        feeds = dict(zip(feeds, out[1:]))
        step = [token]
    return np.stack(rows)


@torch.no_grad()
def check(ours, theirs, path, cases):
    """Worst difference of logits: (our GLM against transformers', onnxruntime against transformers')."""
    worst_ours = worst_graph = 0.0
    for case in cases:
        ids = torch.tensor([case["prompt_ids"] + case["answer_ids"]])
        wanted = theirs(ids).logits[0]
        worst_ours = max(worst_ours, (ours(ids)[0][0] - wanted).abs().max().item())
        graph = torch.from_numpy(run_graph(path, case["prompt_ids"], case["answer_ids"]))
        worst_graph = max(worst_graph, (graph - wanted[len(case["prompt_ids"]) - 1 :]).abs().max().item())
    assert worst_ours < 1e-3 and worst_graph < 1e-3, (worst_ours, worst_graph)
    return worst_ours, worst_graph


def main(random_weights=False, measured=1000):
    """Writes every shipped file; `measured`: held-out scenarios for the shipped figures."""
    vocab.write_files()
    torch.manual_seed(0)
    name = best_run()
    model = Glm(train.STUDENT) if random_weights or name is None else train.load(name)
    quantised = dequantised(model)
    path = HERE / "student.onnx"
    onnx.save(build(quantised), path)
    theirs = reference(quantised)
    cases = golden.cases(quantised, theirs)
    (HERE / "golden.json").write_text(golden.dumps(cases), encoding="utf-8")
    parity = check(quantised, theirs, path, cases)
    figures = {} if random_weights else {run: saved_figures(run) for run in train.RUNS if saved_figures(run)}
    if figures:
        figures["shipped"] = train.measure(quantised, count=measured)
        in_operation = list(scenarios.operation(train.SEED_HELD_OUT, measured))
        figures["shipped_in_operation"] = train.measure(quantised, cases=in_operation)
        figures["shipped_without_quantisation"] = train.measure(model, count=measured)
    manifest = describe(model, None if random_weights else name, figures, parity)
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (HERE / "MODEL_CARD.md").write_text(golden.card(manifest, cases), encoding="utf-8")
    print(json.dumps({"parity": parity, "shipped": figures.get("shipped"), "onnx_bytes": path.stat().st_size}))


def best_run():
    """The student with the most exact answers; the distilled ones where they are level."""
    students = [n for n in ("deep", "long", "distilled", "continued", "plain", "first") if is_here(n)]
    return max(students, key=lambda n: saved_figures(n)["exact"], default=None)


def is_here(name):
    """Whether `train.load` finds the weights of a training."""
    return (train.CHECKPOINTS / f"{name}.pt").exists() or name == shipped.run()


def saved_figures(name):
    """What was measured after a training, with the number of parameters; None if it has not run.

    The figures of a training whose checkpoint is gone are those of the last export.
    """
    path = train.CHECKPOINTS / f"{name}.pt"
    if not path.exists():
        return shipped.manifest().get("measured", {}).get(name)
    saved = torch.load(path)
    return {"parameters": sum(w.numel() for w in saved["model"].values()), **saved["figures"]}


def describe(model, run, figures, parity):
    """The manifest."""
    files = ["student.onnx", "vocab.txt", "vocab.json", "golden.json"]
    s = model.shape
    return {
        "name": "outpost-student",
        "licence": "Apache-2.0",
        "run": run or "untrained",
        "files": {f: hashlib.sha256((HERE / f).read_bytes()).hexdigest() for f in files},
        "bytes": {f: (HERE / f).stat().st_size for f in files},
        "architecture": "glm",
        "parameters": model.parameters_count(),
        "hidden": s.hidden, "layers": s.layers, "heads": s.heads, "kv_heads": s.kv_heads, "head_dim": s.head_dim,
        "inter": s.inter, "rotary_dim": s.rotary_dim, "rope_theta": s.rope_theta, "rms_norm_eps": s.eps,
        "vocab": s.vocab,
        "context_tokens_max": s.context,
        "end_ids": vocab.END_IDS,
        "weights": "int8, symmetric, one scale per output channel",
        "distillation": {"temperature": train.TEMPERATURE, "alpha": train.ALPHA},
        "logit_difference_max": {"training_code": parity[0], "onnxruntime": parity[1]},
        "measured": figures,
    }  # fmt: skip


if __name__ == "__main__":
    main("--random" in sys.argv, 300 if "--quick" in sys.argv else 1000)
