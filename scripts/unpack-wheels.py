"""Unpacks files of Python wheels, for scripts/setup: what a C++ build needs of them, and nothing else.

    python3 scripts/unpack-wheels.py WHEELS lib FOLDER NAME...    files called NAME, into FOLDER
    python3 scripts/unpack-wheels.py WHEELS tree FOLDER PREFIX... what lies below a folder that matches PREFIX
"""

import fnmatch
import glob
import os
import shutil
import sys
import zipfile

wheels, kind, folder, *wanted = sys.argv[1:]


def target(name):
    """Where `name` goes below `folder`, or None."""
    if kind == "lib":
        base = os.path.basename(name)
        return base if base in wanted else None
    for prefix in wanted:
        depth = prefix.count("/") + 1
        parts = name.split("/")
        if len(parts) > depth and fnmatch.fnmatch("/".join(parts[:depth]), prefix):
            return "/".join(parts[depth:])
    return None


for wheel in sorted(glob.glob(f"{wheels}/*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place = None if name.endswith("/") else target(name)
            if place is not None:
                path = os.path.join(folder, place)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(name) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink)
