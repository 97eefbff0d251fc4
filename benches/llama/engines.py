"""The engines that are compared, each asked the same questions, each question a process of its own on named cores."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

WORK = Path(os.environ["LLAMA_WORK"])
# On a machine that has other work too, a negative one (as root) gives both sides the cores alike.
NICE = os.environ.get("LLAMA_NICE", "0")


def run(command, threads, stdin=b""):
    """Runs on the first `threads` cores: output, errors, and what the process took of time and memory."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[:threads])
    begin = time.monotonic()
    process = subprocess.Popen(
        ["nice", "-n", NICE, "taskset", "-c", cores, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    memory = {"rss": 0, "anonymous": 0}
    watcher = threading.Thread(target=watch, args=(process, Path(shutil.which(command[0]) or command[0]).resolve(), memory))
    watcher.start()
    out, err = process.communicate(stdin)
    seconds = time.monotonic() - begin
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {process.returncode}\n{err.decode(errors='replace')[-2000:]}")
    return out, err.decode(errors="replace"), {"seconds": seconds, **memory}


def watch(process, program, memory):
    """Peak of what is resident, and of the part that no file stands behind: that is what another process can't have."""
    begin = time.monotonic()
    while process.poll() is None:
        # A small model has started and is over in milliseconds.
        time.sleep(0.01 if time.monotonic() - begin > 0.1 else 0.001)
        try:
            # Until then it is what starts the program.
            if Path(f"/proc/{process.pid}/exe").readlink() != program:
                continue
            text = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return
        for key, name in (("rss", "VmHWM"), ("anonymous", "RssAnon")):
            if found := re.search(rf"{name}:\s+(\d+) kB", text):
                memory[key] = max(memory[key], int(found[1]) * 1024)


class Outpost:
    """Ours: weights in a bundle that is imported from the GGUF file."""

    name = "outpost"

    def __init__(self):
        self.binary = Path(os.environ["OUTPOST"])

    def model(self, gguf):
        bundle = gguf.with_suffix(".bundle")
        if not bundle.exists():
            # Blocks are kept to the bit; f32 has to be asked for. An import takes all cores and is not measured here.
            formats = ["--format", "f32", "--ends", "f32"] if gguf.stem.endswith("-f32") else []
            run([self.binary, "model", "import", gguf, "--to", bundle, *formats], os.cpu_count())
        return bundle

    def bench(self, gguf, threads, prompt, generate, depth, repeat):
        command = [self.binary, "model", "bench", self.model(gguf), "--threads", threads, "--prompt", prompt]
        command += ["--generate", generate, "--depth", depth, "--repeat", repeat, "--json"]
        out, _, usage = run(command, threads)
        told = json.loads(out)
        speeds = told["prefill_tokens_per_s" if prompt else "decode_tokens_per_s"]["all"]
        return {"tokens_per_s": sum(speeds) / len(speeds), **usage}, f"{told['isa']}, kv {told['kv_format']}"

    def start(self, gguf, threads):
        command = [self.binary, "model", "bench", self.model(gguf), "--threads", threads, "--prompt", 1]
        out, _, usage = run([*command, "--generate", 0, "--repeat", 1, "--json"], threads)
        return {"first_token_ms": json.loads(out)["first_token_ms"], **usage}

    def logits(self, gguf, sequences, kv="f16"):
        context = max(map(len, sequences))
        command = [self.binary.parent / "examples" / "logits", self.model(gguf), os.cpu_count(), context, kv]
        return run(command, os.cpu_count(), packed(sequences))[0]

    def files(self, gguf):
        return [path for path in self.model(gguf).iterdir() if path.is_file()]


class Llama:
    """One build of llama.cpp; its own choice of kernels, flash attention and copying of weights."""

    def __init__(self, name, folder):
        self.name, self.folder = f"llama.cpp {name}", Path(folder)

    def bench(self, gguf, threads, prompt, generate, depth, repeat):
        command = [self.folder / "llama-bench", "-m", gguf, "-t", threads, "-p", prompt, "-n", generate, "-d", depth, "-r", repeat]
        out, _, usage = run([*command, "-o", "json"], threads)
        (told,) = json.loads(out)
        return {"tokens_per_s": told["avg_ts"], **usage}, f"build {told['build_commit']}, kv {told['type_k']}"

    def start(self, gguf, threads):
        _, err, usage = run([self.folder / "llama-logits", gguf, threads, 1, "f16"], threads, struct.pack("<II", 1, 1))
        return {"first_token_ms": float(re.search(r"first_token_ms (\S+)", err)[1]), **usage}

    def files(self, gguf):
        return [gguf]

    def logits(self, gguf, sequences, kv="f16"):
        context = max(map(len, sequences))
        out, _, _ = run([self.folder / "llama-logits", gguf, os.cpu_count(), context, kv], os.cpu_count(), packed(sequences))
        return out

    def system(self, gguf):
        _, err, _ = run([self.folder / "llama-logits", gguf, 1, 1, "f16"], 1, struct.pack("<II", 1, 1))
        return re.search(r"system (.*)", err)[1]


def kept(path):
    """What was measured before, if anything was."""
    return json.loads(Path(path).read_text()) if Path(path).exists() else None


def versions():
    """What is compared."""
    ours = subprocess.run([os.environ["OUTPOST"], "--version"], capture_output=True, text=True).stdout.strip()
    return f"{ours}, llama.cpp of llama-cpp-python {os.environ.get('LLAMA_VERSION', '')}"


def peers():
    return [Llama(*build.split("=", 1)) for build in os.environ["LLAMA_BUILDS"].split()]


def packed(sequences):
    """As both programs that write logits read them: length and ids, u32."""
    return b"".join(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids) for ids in sequences)


def forget(paths):
    """Drops files from the page cache, so that a start has to read them."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
