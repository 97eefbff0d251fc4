#!/usr/bin/env python3
"""cross/sbom.py TARGET FEATURES RUSTC: a bill of materials (CycloneDX 1.5, JSON) of the program, on standard output.

What is in the program of these features (parted by commas) that the compiler RUSTC makes for that target: every crate that
is linked, with version, licence and checksum as Cargo.lock has them; what is linked besides; and the models. The same
program of the same commit gives the same bytes: no time, no random number.
"""

import json
import pathlib
import re
import subprocess
import sys


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    target, features, rustc = sys.argv[1:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    command += ["--no-default-features", "--features", features]
    try:
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"sbom: cargo does not tell what is in the program ({error}); run it where cross/build.sh {target} works")
    document = bill(json.loads(answer), checksums(pathlib.Path("Cargo.lock").read_text()), beside(target, rustc) + models())
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    print()


def checksums(lock: str) -> dict:
    """Of each name and version. Python knows TOML from 3.11 on only, and cargo writes this file in one way."""
    entries = [dict(re.findall(r'^(\w+) = "(.*)"$', entry, re.M)) for entry in lock.split("[[package]]")[1:]]
    return {(entry["name"], entry["version"]): entry.get("checksum") for entry in entries}


def bill(metadata: dict, sums: dict, besides: list) -> dict:
    root = metadata["resolve"]["root"]
    packages = {p["id"]: p for p in metadata["packages"]}
    edges = {node["id"]: linked(node, packages) for node in metadata["resolve"]["nodes"]}
    used = reachable(root, edges)
    besides = besides + [c for i in sorted(used) for c in c_library(packages[i])]
    crates = [component(packages[i], sums) for i in sorted(used - {root}, key=lambda i: purl(packages[i]))]
    depends = {purl(packages[i]): {purl(packages[d]) for d in edges[i]} for i in used}
    depends[purl(packages[root])] |= {entry["bom-ref"] for entry in besides}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root], sums) | {"type": "application"}},
        "components": crates + besides,
        "dependencies": [{"ref": ref, "dependsOn": sorted(depends[ref])} for ref in sorted(depends)],
    }


def linked(node: dict, packages: dict) -> list:
    """Dependencies that end up in the program: not those of tests and build scripts, nor what the compiler runs itself."""
    ids = [d["pkg"] for d in node["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
    return [i for i in ids if not any("proc-macro" in made["kind"] for made in packages[i]["targets"])]


def reachable(root: str, edges: dict) -> set:
    seen, waiting = set(), [root]
    while waiting:
        package = waiting.pop()
        if package not in seen:
            seen.add(package)
            waiting += edges[package]
    return seen


def purl(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package: dict, sums: dict) -> dict:
    # Old crates part alternatives with a slash.
    entry = library(purl(package), package["name"], package["version"], (package.get("license") or "").replace("/", " OR "))
    if checksum := sums.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def library(ref: str, name: str, version: str, licence: str) -> dict:
    entry = {"type": "library", "bom-ref": ref, "purl": ref, "name": name}
    if version:
        entry["version"] = version
    if licence:
        entry["licenses"] = [{"expression": licence}]
    return entry


def beside(target: str, rustc: str) -> list:
    """What the compiler links. Which musl that is depends on whose toolchain it was, and the program does not tell."""
    std = library(f"pkg:generic/rust-std@{rustc}", "std", rustc, "MIT OR Apache-2.0")
    return [std] + ([library("pkg:generic/musl", "musl", "", "MIT")] if "musl" in target else [])


def c_library(package: dict) -> list:
    """The C library that a crate compiles, where its version names it: `2.0.16+zstd.1.5.7`. Others (ring) are the crate."""
    name, _, version = package["version"].partition("+")[2].partition(".")
    if not (package["name"] == f"{name}-sys" and version):
        return []
    return [library(f"pkg:generic/{name}@{version}", name, version, LICENCES_IN_C.get(name, ""))]


LICENCES_IN_C = {"zstd": "BSD-3-Clause OR GPL-2.0-only"}


def models() -> list:
    """The models inside, with every file that a manifest names and the checksum to which build.rs holds it."""
    return [model(path.parent.name, json.loads(path.read_text())) for path in sorted(pathlib.Path("models").glob("*/manifest.json"))]


def model(name: str, manifest: dict) -> dict:
    files = {file: entry["sha256"] if isinstance(entry, dict) else entry for file, entry in manifest["files"].items()}
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{name}",
        "name": name,
        "licenses": [{"expression": manifest["licence"]}],
        "components": [
            {"type": "file", "bom-ref": f"model:{name}/{file}", "name": file, "hashes": [{"alg": "SHA-256", "content": sum}]}
            for file, sum in sorted(files.items())
        ],
    }


main()
