"""What is inside the published programs, as a CycloneDX document (a software bill of materials).

    python3 scripts/release.d/sbom.py VERSION SECONDS
"""

import datetime
import json
import re
import sys

from dependencies import packages

version, seconds = sys.argv[1:]
checksums = {}
for entry in re.findall(r"\[\[package\]\]\n(.*?)(?:\n\n|\Z)", open("Cargo.lock", encoding="utf-8").read(), re.S):
    fields = dict(re.findall(r'^(\w+) = "(.*)"$', entry, re.M))
    checksums[fields["name"], fields["version"]] = fields.get("checksum")


def component(package):
    name, of = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{of}"
    result = {"type": "library", "bom-ref": purl, "name": name, "version": of, "purl": purl}
    if package["license"]:
        result["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksums.get((name, of)):
        result["hashes"] = [{"alg": "SHA-256", "content": checksums[name, of]}]
    return result


when = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {
        "timestamp": when,
        "component": {"type": "application", "bom-ref": "rust-train", "name": "rust-train", "version": version},
    },
    "components": [component(package) for package in packages()],
}
print(json.dumps(document, indent=1))
