"""Runs of rust-train under mpirun, and what two of them have in common."""

import os
import random
import subprocess
import sys

work, program = sys.argv[1:3]


def noise(side, count=64):
    """A folder of images of noise, two classes of them."""
    folder = f"{work}/noise-{side}"
    if not os.path.isdir(folder):
        source = random.Random(side)
        for split, images in (("train", count), ("val", 8)):
            for index in range(images):
                path = f"{folder}/{split}/{'ab'[index % 2]}"
                os.makedirs(path, exist_ok=True)
                with open(f"{path}/{index}.ppm", "wb") as file:
                    file.write(b"P6\n%d %d\n255\n" % (side, side) + source.randbytes(3 * side * side))
    return folder


def train(ranks, flags, output, cores=None, after=None):
    """Trains; gives the exit status. `after` seconds rank 0's mpirun is asked to stop."""
    bind = ["taskset", "-c", ",".join(map(str, range(cores)))] if cores else []
    command = [*bind, "mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", program, "--device", "cpu", "--output", f"{work}/{output}"]
    with open(f"{work}/{output}.log", "a") as log:
        job = subprocess.Popen([*command, *flags.split()], stdout=log, stderr=log, cwd=work)
        if after is not None:
            try:
                job.wait(after)
            except subprocess.TimeoutExpired:
                job.send_signal(10)  # USR1, which mpirun hands on
        status = job.wait()
    # Done; stopped; or stopped before it listened, which ends it where it stands, as any program.
    if status not in (0, 75, 128 + 10):
        with open(f"{work}/{output}.log") as log:
            sys.exit(f"{' '.join(command)} {flags}: status {status}\n{log.read()[-3000:]}")
    return status


def difference(one, other):
    """What compare-bits says of two runs; empty where they are the same."""
    ran = subprocess.run([program, "compare-bits", f"{work}/{one}", f"{work}/{other}"], capture_output=True, text=True)
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr
