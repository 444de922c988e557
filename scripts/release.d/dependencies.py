"""The crates that are inside the published programs, as cargo knows them."""

import json
import subprocess

ROOTS = {"rust-train", "installation", "check-devices", "check-devices-probe"}
FEATURES = "rust-train/cuda,rust-train/static-hdf5"


def packages():
    """What the programs are built of, in the order of names: other people's crates, and those of the workspace."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", FEATURES]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    known = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo = [ident for ident, package in known.items() if package["name"] in ROOTS and package["source"] is None]
    seen = set(todo)
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            # What only builds, or tests, is not inside.
            if dependency["pkg"] not in seen and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    # Sources of C libraries that a build script compiles are dependencies of its crate's build alone.
    for ident, package in known.items():
        if package["name"].endswith("-src") and ident not in seen:
            seen.add(ident)
    return sorted((known[ident] for ident in seen), key=lambda package: (package["name"], package["version"]))
