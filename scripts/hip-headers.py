"""Makes the headers of a libtorch for ROCm out of those for CUDA, with PyTorch's own hipify, for scripts/rocm-env.

    PYTHONPATH=(where the package hipify lies) python3 scripts/hip-headers.py INCLUDE OUT

A build of PyTorch for ROCm does the same to its sources, with the same folders and exceptions (tools/amd_build/build_amd.py).
"""

import os
import pathlib
import re
import shutil
import sys
import tempfile

from hipify import hipify_python

include, out = (pathlib.Path(path).resolve() for path in sys.argv[1:])
FOLDERS = ["native", "native/sparse", "native/nested", "native/quantized"]

with tempfile.TemporaryDirectory() as project:
    # Laid out as the sources are, which is what hipify's rules are about.
    aten = f"{project}/aten/src/ATen"
    shutil.copytree(include / "c10", f"{project}/c10")
    shutil.copytree(include / "ATen", aten)
    shutil.copytree(include / "torch", f"{project}/torch")
    cuda = ["cuda"] + [f"{folder}/{part}" for folder in FOLDERS for part in ("cuda", "cudnn")]
    made = hipify_python.hipify(
        project_directory=project,
        output_directory=project,
        includes=[f"{project}/c10/cuda/*", f"{project}/torch/*"] + [f"{aten}/{folder}/*" for folder in cuda],
        ignores=[f"{aten}/hip/*", f"{aten}/core/*", f"{aten}/cuda/CUDAConfig.h"],
        hip_clang_launch=True,
        show_progress=False,
    )
    changed = sum(one.status == "[ok]" for one in made.values())
    if changed < 100:
        sys.exit(f"hipify changed {changed} headers: its rules and these folders do not fit")

    shutil.copytree(include, out, dirs_exist_ok=True)
    for folder in ["c10/cuda", "ATen/cuda", "torch"] + [f"ATen/{folder}/cuda" for folder in FOLDERS]:
        shutil.rmtree(out / folder, ignore_errors=True)
    shutil.copytree(f"{project}/c10/hip", out / "c10/hip")
    shutil.copytree(f"{project}/torch", out / "torch")
    for folder in ["."] + FOLDERS:
        if os.path.isdir(f"{aten}/{folder}/hip"):
            shutil.copytree(f"{aten}/{folder}/hip", out / "ATen" / folder / "hip", dirs_exist_ok=True)

# Two that CMake writes.
shutil.copy(include / "c10/cuda/impl/cuda_cmake_macros.h", out / "c10/hip/impl/hip_cmake_macros.h")
config = (include / "ATen/cuda/CUDAConfig.h").read_text()
config = config.replace("AT_ROCM_ENABLED() 0", "AT_ROCM_ENABLED() 1")
config = re.sub(r"AT_(CUDNN|CUSPARSELT)_ENABLED\(\) 1", r"AT_\1_ENABLED() 0", config)
config = "".join(line for line in config.splitlines(keepends=True) if "NVCC_FLAGS" not in line)
(out / "ATen/hip/HIPConfig.h").write_text(config)
print(f"{changed} headers of libtorch for HIP")
