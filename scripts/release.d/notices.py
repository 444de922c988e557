"""The licences of everything inside the published programs, each text once: what their notices ask to travel along."""

import glob
import os

from dependencies import packages

NAMES = ["LICEN[SC]E*", "COPYING*", "NOTICE*", "UNLICENSE*", "COPYRIGHT*"]
# Where crates keep the C sources that they compile.
INSIDE = ["", "ext/*", "*/libjpeg-turbo*", "libjpeg-turbo*", "src/zlib*", "vendor/*"]


def texts(folder):
    for inside in INSIDE:
        for name in NAMES:
            for path in sorted(glob.glob(os.path.join(glob.escape(folder), inside, name))):
                if os.path.isfile(path):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        yield os.path.relpath(path, folder), file.read().strip()


by_text = {}
without = []
for package in packages():
    if package["source"] is None:
        continue
    title = f"{package['name']} {package['version']}"
    found = list(texts(os.path.dirname(package["manifest_path"])))
    if not found:
        without.append(f"{title}: {package['license']} ({package['repository'] or 'no repository named'})")
    for path, text in found:
        by_text.setdefault(text, []).append(f"{title} ({path})")

print("The programs of rust-train contain what is listed here, under the licences that follow.\n")
if without:
    print("Published under these licences, without a text of their own:\n  " + "\n  ".join(without))
for text, titles in sorted(by_text.items(), key=lambda pair: pair[1]):
    print("\n" + "=" * 100 + "\n" + "\n".join(titles) + "\n\n" + text)
