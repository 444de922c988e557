"""Runs a training command and notes what can be seen of it from outside, the same way for whatever program it is.

    watch.py [--memory] NAME IMAGES COMMAND...

Prints lines `MEASURE NAME VALUE`:

    start-up     seconds from the launch to the line that says `first step`
    speed        images per second from the first line `epoch N: ...` to the last: whole epochs of IMAGES each, with their
                 evaluation and what they save
    disturbance  per cent of the processors' time that went to other programs meanwhile
with --memory, from samples of /proc (they cost a little speed), instead of these:
    resident     MB, the largest process's peak of resident memory
    job          MB, the peak of all processes' proportional set sizes: what the job took of the machine

A command that fails, or says too little, ends it with what the command said, and exit status 1.
"""

import os
import re
import resource
import subprocess
import sys
import threading
import time

SAMPLE_SECONDS = 0.05


def busy_seconds():
    """Seconds of processor time that this machine has spent on anything since it started."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def kilobytes(path, field):
    try:
        return int(re.search(rf"^{field}:\s+(\d+) kB", open(path).read(), re.M)[1])
    except (OSError, TypeError):  # it has ended
        return 0


def descendants(ancestor):
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry))
    found = [ancestor]
    for process in found:
        found += children.get(process, [])
    return found


class Memory(threading.Thread):
    """Samples the processes below `ancestor` until it is told to stop."""

    def __init__(self, ancestor):
        super().__init__(daemon=True)
        self.ancestor, self.resident, self.job, self.stop = ancestor, 0, 0, threading.Event()

    def run(self):
        while not self.stop.wait(SAMPLE_SECONDS):
            processes = descendants(self.ancestor)
            self.resident = max(self.resident, *(kilobytes(f"/proc/{each}/status", "VmHWM") for each in processes))
            self.job = max(self.job, sum(kilobytes(f"/proc/{each}/smaps_rollup", "Pss") for each in processes))


watches_memory = sys.argv[1] == "--memory"
name, images, *command = sys.argv[1 + watches_memory :]

busy, own, launch = busy_seconds(), own_seconds(), time.perf_counter()
job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
memory = Memory(job.pid)
if watches_memory:
    memory.start()
first_step, epochs, said = None, [], []
for line in job.stdout:
    now = time.perf_counter() - launch
    said.append(line)
    if first_step is None and "first step" in line:
        first_step = now
    elif re.search(r"\bepoch \d+: ", line):
        epochs.append(now)
memory.stop.set()
status = job.wait()
wall = time.perf_counter() - launch
others = (busy_seconds() - busy) - (own_seconds() - own)

if status != 0 or first_step is None or len(epochs) < 2:
    sys.stderr.write(f"{''.join(said)}{' '.join(command)}: exit status {status}\n")
    sys.exit(1)
if watches_memory:
    print("resident", name, round(memory.resident * 1024 / 1e6, 1))
    print("job", name, round(memory.job * 1024 / 1e6, 1))
else:
    print("start-up", name, round(first_step, 3))
    print("speed", name, round((len(epochs) - 1) * int(images) / (epochs[-1] - epochs[0]), 1))
    print("disturbance", name, round(100 * max(others, 0) / (wall * os.cpu_count()), 1))
