"""Times the shipped small model under onnxruntime and LiteRT, one thread each, for `cargo bench --bench infer`.

`python others.py RUNS FILE...` prints one JSON line per engine and file: {"engine", "file", "p50_us", "p99_us"}. A run is what
the agent's is: the input copied in, computed, the output copied out. Of onnxruntime's two ways to run the faster one counts.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

WARM_UP = 200


def timed(runs, run):
    """Median and 99th percentile in microseconds."""
    for _ in range(WARM_UP):
        run()
    times = np.empty(runs)
    for i in range(runs):
        begun = time.perf_counter_ns()
        run()
        times[i] = time.perf_counter_ns() - begun
    return [float(q) / 1000 for q in np.percentile(times, [50, 99])]


def told(engine, file, p50, p99):
    print(json.dumps({"engine": engine, "file": file.name, "p50_us": p50, "p99_us": p99}), flush=True)


def onnx(file, runs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inward, outward = session.get_inputs()[0], session.get_outputs()[0].name
    x = np.ones(inward.shape, np.int8 if "int8" in inward.type else np.float32)
    binding = session.io_binding()

    def bound():
        binding.bind_cpu_input(inward.name, x)
        binding.bind_output(outward)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    ways = [timed(runs, lambda: session.run([outward], {inward.name: x})), timed(runs, bound)]
    told("onnxruntime", file, *min(ways))


def litert(file, runs):
    for engine, resolver in [
        ("LiteRT", OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES),
        ("LiteRT with XNNPACK", OpResolverType.AUTO),
    ]:
        interpreter = Interpreter(str(file), num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        inward, outward = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        x = np.ones(inward["shape"], inward["dtype"])

        def run():
            interpreter.set_tensor(inward["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(outward["index"])

        told(engine, file, *timed(runs, run))


for file in map(Path, sys.argv[2:]):
    (onnx if file.suffix == ".onnx" else litert)(file, int(sys.argv[1]))
