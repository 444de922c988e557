"""Prints what a benchmark measured, for the scripts beside this folder.

Reads lines `CONTESTANT VALUE` (images per second, say), one for each run in the order in which they ran, from standard
input. The first argument is the unit; the second names our contestants' prefix, the third the peer's; the fourth says
whether the best is the `most` (if it is left out) or the `least`. Prints every contestant's median with its smallest and
largest value, and the ratio of our best contestant to the peer's best, round by round, so that a machine whose speed
drifts does not count.
"""

import collections
import statistics
import sys

unit, ours, theirs = sys.argv[1:4]
best_of = min if sys.argv[4:] == ["least"] else max
values = collections.defaultdict(list)
for line in sys.stdin:
    name, value = line.rsplit(None, 1)
    values[name].append(float(value))


def spread(numbers):
    return f"{statistics.median(numbers):10.2f}  ({min(numbers):.2f}–{max(numbers):.2f})"


def best(prefix):
    mine = [name for name in values if name.startswith(prefix)]
    return best_of(mine, key=lambda name: statistics.median(values[name]))


width = max(map(len, values))
for name, numbers in values.items():
    print(f"{name:{width}} {spread(numbers)} {unit}, {len(numbers)} runs")
a, b = best(ours), best(theirs)
print(f"ratio, round by round: {spread([x / y for x, y in zip(values[a], values[b]) if y]).strip()}   ({a} / {b})")
