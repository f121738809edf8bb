"""Build sdist and wheel into ``dist/``, and try the wheel in a clean environment of each Python at hand: ``make dist``.

The wheel is built from the sdist, so that both are tried. Interpreters: those named, else each python3.11 and newer
on the path or below ``~/.pyenv``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = (3, 11)
TRIED = (
    "--version",
    "list learners",
    "list tasks",
    "compare --model hidden_path:K=4,H=6,p=0.6 --grants root/sample,visited/sample --learner best_of_n:n=4"
    " --learner plurality_walk:p=0.6 --problems 2 --seeds 1 --budget-tokens 1000 --out run",
    "certify best_of_n",
)
"""Commands that the core must do alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("pythons", nargs="*", help="interpreters (default: all at hand)")
    chosen = parser.parse_args()
    pythons = chosen.pythons or interpreters()
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build(Path(temporary), chosen.out)
        check_files(wheel)
        for python in pythons:
            attempt(python, wheel, Path(temporary))
    print(f"{wheel.name}: installed and tried with {len(pythons)} interpreters")


def interpreters() -> list[str]:
    """One interpreter of each version that the package supports."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], 20)]
    own = sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    candidates = [sys.executable, *map(str, own), *filter(None, map(shutil.which, names))]
    found: dict[str, str] = {}
    for candidate in candidates:
        asked = subprocess.run(
            [candidate, "-c", "import sys, venv; print(*sys.version_info[:2])"],
            capture_output=True, text=True,
        )  # fmt: skip
        if asked.returncode == 0 and tuple(map(int, asked.stdout.split())) >= OLDEST:
            found.setdefault(asked.stdout, candidate)
    return list(found.values())


def build(temporary: Path, out: Path) -> Path:
    """The wheel, made from the sdist; both in ``out``."""
    tools = environment(sys.executable, temporary / "tools")
    run(tools, "-m", "pip", "install", "--quiet", "build")
    shutil.rmtree(out, ignore_errors=True)
    run(tools, "-m", "build", "--outdir", str(out), str(ROOT))
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes; {wheel.name}: {wheel.stat().st_size:,}")
    return wheel


def check_files(wheel: Path) -> None:
    """Every file of the package is in the wheel, templates and ``py.typed`` too."""
    package = ROOT / "src" / "reroot"
    ours = (p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    missing = {str(p.relative_to(package.parent)) for p in ours} - set(
        zipfile.ZipFile(wheel).namelist()
    )
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(missing))}")


def environment(python: str, folder: Path) -> str:
    """A new environment: its interpreter."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    return str(folder / "bin" / "python")


def attempt(python: str, wheel: Path, temporary: Path) -> None:
    """Install the core alone, and do what it must do."""
    folder = temporary / f"core-{len(list(temporary.iterdir()))}"
    own = environment(python, folder)
    run(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    for command in TRIED:
        run(own, "-m", "reroot", *command.split(), at=folder)
    version = subprocess.run([own, "-VV"], capture_output=True, text=True, check=True).stdout
    print(f"tried: {version.strip()}", flush=True)


def run(python: str, *words: str, at: Path | None = None) -> None:
    """A command that must succeed; what it printed is shown if it does not."""
    done = subprocess.run([python, *words], cwd=at or ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    main()
