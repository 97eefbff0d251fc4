#!/usr/bin/env python3
"""cross/sbom.py TARGET [FEATURES]: a bill of materials (CycloneDX 1.5, JSON) of the program, on standard output.

Every crate that is compiled into it for that target, with version, licence and checksum, as Cargo.lock has them. The
same commit gives the same bytes: no time, no random number.
"""

import json
import subprocess
import sys
import tomllib


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    target, features = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "gateway"
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    command += ["--no-default-features", "--features", features]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    with open("Cargo.lock", "rb") as lock:
        sums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    json.dump(document(metadata, sums), sys.stdout, indent=1, sort_keys=True)
    print()


def document(metadata: dict, sums: dict) -> dict:
    root = metadata["resolve"]["root"]
    packages = {p["id"]: p for p in metadata["packages"]}
    edges = {node["id"]: linked(node) for node in metadata["resolve"]["nodes"]}
    used = reachable(root, edges)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root], sums) | {"type": "application"}},
        "components": [component(packages[i], sums) for i in sorted(used - {root}, key=lambda i: purl(packages[i]))],
        "dependencies": sorted(
            ({"ref": purl(packages[i]), "dependsOn": sorted(purl(packages[d]) for d in edges[i])} for i in used),
            key=lambda entry: entry["ref"],
        ),
    }


def linked(node: dict) -> list[str]:
    """Dependencies that end up in the program: neither those of tests nor those of build scripts."""
    return [d["pkg"] for d in node["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]


def reachable(root: str, edges: dict) -> set[str]:
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
    entry = {
        "type": "library",
        "bom-ref": purl(package),
        "purl": purl(package),
        "name": package["name"],
        "version": package["version"],
    }
    if package.get("license"):
        # Old crates part alternatives with a slash.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := sums.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


main()
