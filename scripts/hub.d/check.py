"""check.py PROGRAM WORK: what huggingface_hub and timm make of a model on a Hub, and what the program makes of it."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")
program, work = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import server  # noqa: E402

hub = server.Hub(work / "certificate.pem", work / "key.pem")
home = work / "huggingface"
# Before huggingface_hub is imported, which reads them once.
os.environ.update(HF_ENDPOINT=hub.address, HF_HOME=str(home))
import huggingface_hub  # noqa: E402
import numpy  # noqa: E402
import safetensors.torch  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

wrong = 0


def say(what, good, more=""):
    global wrong
    wrong += not good
    print(f"{'ok' if good else 'WRONG':6} {what}{': ' + more if more else ''}", flush=True)


def run(*arguments, store="store", status=0, **environment):
    command = [program, *map(str, arguments), "--store", str(work / store)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUST_LOG": "info", **environment})
    if result.returncode != status:
        raise SystemExit(f"{command}: status {result.returncode}\n{result.stderr}")
    return result.stderr


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# A network as timm saves it, with a preprocessing of its own, and the same in three files as transformers would.
torch.manual_seed(0)
network = timm.create_model("mobilenetv2_100", num_classes=3).eval()
data_config = {"input_size": (3, 96, 96), "interpolation": "bicubic", "crop_pct": 0.85, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
timm.models.save_for_hf(network, work / "saved", data_config=data_config, model_config={"label_names": ["ant", "bee", "cat"]}, safe_serialization="both")
saved = files_of(work / "saved")
(work / "parts").mkdir()
huggingface_hub.save_torch_state_dict(network.state_dict(), work / "parts", max_shard_size="4MB")
parts = files_of(work / "parts")
hub.models["timm/tiny.a1"] = server.Model({"README.md": b"of nobody", **saved})
hub.models["some/parts"] = server.Model({"config.json": saved["config.json"], **parts})
hub.models["some/private"] = server.Model(saved, private=True)
hub.models["some/two"] = server.Model({"a.bin": saved["pytorch_model.bin"], "deep/b.bin": saved["pytorch_model.bin"]})
hub.revisions["timm/tiny.a1"] = ["v1", "refs/pr/3"]
say("a model in several files", sum(name.endswith(".safetensors") for name in parts) > 2 and "model.safetensors.index.json" in parts)

# Images, and what timm makes of them with the config of its own.
random = numpy.random.default_rng(1)
for index, name in enumerate(["ant", "bee", "cat"] * 4):
    path = work / "data" / "val" / name / f"{index:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=numpy.uint8)).resize((160 + index, 130), Image.BICUBIC)
    smooth.save(path)
images = sorted((work / "data").rglob("*.png"))
theirs = timm.create_model("hf-hub:timm/tiny.a1", pretrained=True).eval()  # huggingface_hub fetches it into its cache
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
with torch.no_grad():
    expected = theirs(torch.stack([transform(Image.open(path)) for path in images])).numpy()


def logits(*arguments, **more):
    rows = work / "rows.tsv"
    said = run("eval", *arguments, "--data", work / "data", "--logits", rows, **more)
    lines = [line.rstrip("\n").split("\t") for line in open(rows)][-len(images):]
    return said, numpy.array([[float(value) for value in line[-3:]] for line in lines])


def compare(what, got):
    difference = numpy.abs(got - expected).max()
    largest = numpy.abs(expected).max()
    say(what, difference <= 1e-5 * largest, f"logits of up to {largest:.2f} differ by {difference:.1e} at most")


elsewhere = {"HF_HOME": str(work / "nothing")}
said, got = logits("--weights", "hf:timm/tiny.a1", **elsewhere)
compare("eval of hf:timm/tiny.a1, images as its config.json says", got)
say("no assumption had to be made", "assumed" not in said, said.strip().splitlines()[-1] if "assumed" in said else "")
_, got = logits("--weights", work / "saved", **elsewhere)
compare("eval of the folder that timm saved", got)
said, got = logits("--weights", "hf:some/parts", **elsewhere)
compare("eval of hf:some/parts, weights in several files", got)

# What was fetched, and from where.
commit = hub.models["timm/tiny.a1"].commit
kept = work / "store/hf/timm--tiny.a1" / commit
say("the file is the one that huggingface_hub fetches",
    (kept / "model.safetensors").read_bytes() == pathlib.Path(huggingface_hub.hf_hub_download("timm/tiny.a1", "model.safetensors")).read_bytes())
before = len(hub.asked)
run("fetch", "hf:timm/tiny.a1@v1", "hf://timm/tiny.a1@refs%2Fpr%2F3/model.safetensors", **elsewhere)
say("other revisions of one commit are fetched once", {path.split("?")[0].rsplit("/", 1)[-1] for _, path, _ in hub.asked[before:]} == {"v1", "refs%2Fpr%2F3"})
before = len(hub.asked)
run("fetch", f"hf:timm/tiny.a1@{commit}", "--offline", status=2, store="empty", **elsewhere)
run("fetch", "hf:timm/tiny.a1", "--offline", **elsewhere)
run("fetch", "hf:timm/tiny.a1", HF_HUB_OFFLINE="1", **elsewhere)
say("offline asks nobody", len(hub.asked) == before)

# Tokens.
line = run("fetch", "hf:some/private", status=2, **elsewhere)
say("a private model without a token", line.count("\n") == 1 and "HF_TOKEN" in line, line.strip())
before = len(hub.asked)
run("fetch", "hf:some/private", HF_TOKEN=server.TOKEN, **elsewhere)
asked = hub.asked[before:]
say("with a token, which the other host never sees",
    all((token == f"Bearer {server.TOKEN}") == (host == "hub") for host, _, token in asked) and any(host == "store" for host, *_ in asked))
home_of_login = work / "login"
home_of_login.mkdir()
(home_of_login / "token").write_text(server.TOKEN + "\n")
run("fetch", "hf:some/private", store="login-store", HF_HOME=str(home_of_login))
say("with the token of `hf auth login`", True)
for model, words in [("hf:some/none", "no such model"), ("hf:timm/tiny.a1@v9", "no revision v9"), ("hf:timm/tiny.a1/c.bin", "no such file"),
                     ("hf:some/two", "a.bin"), ("hf:some", "hf:ORG/NAME")]:
    status = 0 if model == "hf:some/two" else 2
    line = run("fetch", model, status=status, **elsewhere)
    say(f"{model}, status {status}", words in line and (status == 0 or line.count("\n") == 1), line.strip().splitlines()[-1][-160:])

# Folders of a model stay apart: the second has no config.
hub.models["some/nested"] = server.Model({"a/model.safetensors": saved["model.safetensors"], "a/config.json": saved["config.json"],
                                          "b/weights.safetensors": saved["model.safetensors"]})
said, got = logits("--weights", "hf:some/nested/a/model.safetensors", **elsewhere)
compare("weights and config of a folder", got)
said, _ = logits("--weights", "hf:some/nested/b/weights.safetensors", **elsewhere)
say("weights of another folder have another config, or none", "assumed" in said)
for part in "a/model.safetensors", "b/weights.safetensors":
    run("fetch", f"hf:some/nested/{part}", "--offline", **elsewhere)
config = json.loads(saved["config.json"])
config["model_args"] = {"act_layer": "silu"}
hub.models["some/silu"] = server.Model({**saved, "config.json": json.dumps(config).encode()})
line = run("eval", "--weights", "hf:some/silu", "--data", work / "data", status=2, **elsewhere)
say("a network that timm builds otherwise", "act_layer" in line and line.count("error: ") == 1, line.strip().splitlines()[-1][-160:])
del config["model_args"], config["pretrained_cfg"]["interpolation"]
hub.models["some/plain"] = server.Model({**saved, "config.json": json.dumps(config).encode()})
(work / "plain").mkdir()
(work / "plain/config.json").write_text(json.dumps(config))
(work / "plain/model.safetensors").write_bytes(saved["model.safetensors"])
plain = timm.create_model(f"local-dir:{work}/plain", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain))
with torch.no_grad():
    of_config, expected = expected, plain(torch.stack([transform(Image.open(path)) for path in images])).numpy()
_, got = logits("--weights", "hf:some/plain", **elsewhere)
compare("a config that says no interpolation", got)
expected = of_config

# A file that was changed on its way.
original = hub.data
hub.data = lambda hash: b"x" * len(original(hash))
line = run("fetch", "hf:timm/tiny.a1", "--attempts", "1", store="changed", status=1, **elsewhere)
say("a file that is not the one", "SHA-256" in line, line.strip().splitlines()[-1][-200:])
say("nothing of it is left", not [path for path in (work / "changed").rglob("model.safetensors")])
hub.data = original

# What huggingface_hub has fetched is read where it lies; the Hub is gone.
for name in hub.models["some/parts"].files:
    huggingface_hub.hf_hub_download("some/parts", name)
hub.stop()
for model in ("hf:timm/tiny.a1", "hf:some/parts"):
    _, got = logits("--weights", model, "--offline", store="none")
    compare(f"offline, from huggingface_hub's cache: {model}", got)
said = run("fetch", "hf:timm/tiny.a1", "--attempts", "1", **elsewhere)
say("a Hub that is not reached: what was there the last time", "the last time" in said)
run("fetch", "hf:timm/tiny.a1", "--attempts", "1", store="none", status=1, **elsewhere)
cached = next(home.rglob("snapshots/*/model.safetensors"))
cached.resolve().write_bytes(b"x" * cached.stat().st_size)
line = run("fetch", "hf:timm/tiny.a1", "--offline", store="none", status=2)
say("a cached file that was changed", "SHA-256" in line, line.strip().splitlines()[-1][-160:])
sys.exit(wrong > 0)
