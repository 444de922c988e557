"""Whether every container gives the same batches as the folder does: equal.py PROGRAMS FROM, what make.py has written."""
import os
import subprocess
import sys

from PIL import Image

programs, made = sys.argv[1:]
first = next(os.path.join(path, files[0]) for path, _, files in os.walk(f"{made}/folder/train") if files)
side = Image.open(first).width
ALONE = {"table": "all.csv", "npz": "data.npz", "hdf5": "data.h5"}  # not the folder, but a file of it
ARRAYS = ("npz", "hdf5")
RANDOM = (
    "folder", "lists", "table", "webdataset-cls", "webdataset-json", "tar-of-folders", "tar-of-a-class", "pax", "zip-stored", "zip-deflated",
    "lmdb-pickled", "lmdb-of-a-class", "lmdb-caffe-encoded", "lmdb-caffe", "lmdb-of-keys",
)


def epoch(container, contents, ranks):
    path = os.path.join(made, container, ALONE.get(container, ""))
    command = [f"{programs}/examples/epoch", path, contents, str(ranks), str(side)]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or result.stderr.strip().splitlines()[0]


print(f"{'container':18} {'from':8} {'hash of the first epoch on 1, 2 and 4 ranks, and of the images to validate on'}")
expected = epoch("folder", "none", 1)
wrong = checked = 0
for container in sorted(os.listdir(made)):
    for contents in ("none", "encoded", "pixels"):
        if contents != "none" and container in ARRAYS:
            continue
        if contents == "none" and container not in RANDOM + ARRAYS:
            continue
        found = [epoch(container, contents, ranks) for ranks in (1, 2, 4)]
        checked += 1
        is_equal = all(one == expected for one in found)
        wrong += not is_equal
        shown = {"none": "itself", "encoded": "cache", "pixels": "pixels"}[contents]
        print(f"{container:18} {shown:8} {found[0][:24]}…  {'equal' if is_equal else f'OTHER: {found}'}")
print(f"{checked - wrong} of {checked} equal to {expected}")
sys.exit(wrong > 0)
