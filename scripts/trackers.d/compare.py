"""What scripts/trackers compares: the numbers of a run's metrics.jsonl with those that the trackers' clients wrote down.

compare.py RUST_TRAIN DOCUMENT
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path


def expected(run):
    """(name, step) -> value, of all numbers that the run recorded."""
    step, numbers = 0, {}
    for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        step = row.pop("step", step)
        numbers |= {(name, step): value for name, value in row.items()}
    assert len(numbers) > 100 and ("top1", step) in numbers
    return numbers


def of_mlflow(store):
    """The name of each run in the store -> its parameters and numbers."""
    import mlflow

    client = mlflow.MlflowClient(store)
    runs = {}
    for run in client.search_runs(["0"]):
        histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        numbers = {(metric.key, metric.step): metric.value for history in histories for metric in history}
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert files == ["report.html"], files
        runs[run.info.run_name] = run.data.params, numbers
    return runs


def records(path):
    """The records of a .wandb file: LevelDB's log, blocks of 32 KiB, each record behind 7 bytes of checksum, length and kind."""
    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def of_wandb(folder):
    """The name of each run below `folder` -> its parameters and numbers."""
    from wandb.proto import wandb_internal_pb2

    runs = {}
    for path in folder.glob("wandb/offline-run-*/run-*.wandb"):
        name, parameters, numbers = None, {}, {}
        for data in records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name
                update = record.run.config.update
                parameters |= {item.key: json.loads(item.value_json) for item in update if not item.key.startswith("_")}
            elif kind == "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                step = row["_step"]
                numbers |= {(name, step): value for name, value in row.items() if not name.startswith("_")}
        assert (path.parent / "files" / "report.html").exists()
        runs[name] = parameters, numbers
    return runs


def main():
    program, document = sys.argv[1], Path(sys.argv[2]).read_text()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        offline = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "WANDB_MODE": "offline", "HOME": str(folder)}
        environment = os.environ | offline | {"RUST_LOG": "warn", "MLFLOW_DISABLE_TELEMETRY": "true"}

        def run(*command):
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")

        # The second is interrupted and resumed.
        run(program, "--epochs", "2", "--output", "runs/first")
        run(program, "--epochs", "3", "--max-steps", "50", "--output", "runs/second")
        run(program, "--resume", "runs/second", "--max-steps", "100", "--allow-changed-plan")
        scripts = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", document, re.S))
        assert scripts.keys() == {"to_mlflow.py", "to_wandb.py"}, scripts.keys()
        for name, text in scripts.items():
            assert len(text.splitlines()) < 20, "a script that can be read at a glance"
            (folder / name).write_text(text)
            run(sys.executable, name, "runs/first", "runs/second")
        for tracker, found in [("MLflow", of_mlflow(offline["MLFLOW_TRACKING_URI"])), ("W&B", of_wandb(folder))]:
            assert found.keys() == {"first", "second"}, (tracker, found.keys())
            for name, (parameters, numbers) in found.items():
                plan = tomllib.loads((folder / "runs" / name / "plan.toml").read_text())
                assert {key: str(value) for key, value in parameters.items()} == {k: str(v) for k, v in plan.items()}
                assert numbers == expected(folder / "runs" / name), (tracker, name)
                print(f"{tracker}: {name}: {len(parameters)} flags and {len(numbers)} numbers, all as the run wrote them")


main()
