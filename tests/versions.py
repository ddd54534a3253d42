"""The package as people install it, on each Python that is found: a wheel, an environment of its
own, the tests through that, and the notebooks where asked for. ``make test-versions`` runs it.

Two wheels serve all: one for Python 3.10, one by the stable interface for 3.11 and later.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target" / "versions"
STABLE_FROM = (3, 11)
"""The stable interface has the buffer protocol from here on."""


@dataclass
class Result:
    """What was seen on one version."""

    version: str
    wheel: str = ""
    tests: str = "not run"
    notebooks: str = "not run"
    failed: bool = False


def main(words: list[str]) -> int:
    """Runs what ``words`` say; 1 if anything failed, or nothing was there to run on."""
    parser = argparse.ArgumentParser(description=__doc__, prog="versions.py")
    parser.add_argument("versions", nargs="*", default=["3.10", "3.11", "3.12", "3.13"])
    parser.add_argument("--notebooks", nargs="*", default=["3.10", "3.13"], metavar="VERSION")
    parser.add_argument("--pytest", default="", help="further arguments of pytest")
    chosen = parser.parse_args(words)
    found = {version: find_python(version) for version in chosen.versions}
    results = []
    for version, python in found.items():
        if python is None:
            print(f"Python {version}: not found here, left out", flush=True)
            continue
        notebooks = version in chosen.notebooks
        results.append(check(version, python, notebooks, chosen.pytest.split()))
    print("\n| Python | wheel | tests | notebooks |\n|---|---|---|---|")
    for done in results:
        print(f"| {done.version} | {done.wheel} | {done.tests} | {done.notebooks} |")
    return 1 if not results or any(done.failed for done in results) else 0


def find_python(version: str) -> str | None:
    """An interpreter of that version: on the path, or one of pyenv's."""
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"), reverse=True)
    for candidate in candidates:
        # A shim of pyenv is there for versions that are not switched on, too.
        if candidate and says(candidate, "--version").startswith(f"Python {version}."):
            return candidate
    return None


def says(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def check(version: str, python: str, notebooks: bool, more: list[str]) -> Result:
    """Builds, installs and tests on one version."""
    result = Result(says(python, "--version").split()[-1])
    print(f"\n=== Python {result.version}", flush=True)
    wheel = build(version, python)
    result.wheel = f"{wheel.name.split('-')[2]}, {wheel.stat().st_size / 1e6:.1f} MB"
    inside = install(version, python, wheel)
    result.tests, failed = run_tests([inside, "-m", "pytest", "-q", "--tb=short", *more])
    result.failed |= failed
    if notebooks:
        # A notebook may take minutes; warnings of the kernel's own packages are not ours.
        options = ["-o", "timeout=900", "-o", "filterwarnings=default", "--nbmake-timeout=600"]
        result.notebooks, failed = run_tests(
            [inside, "-m", "pytest", "-q", *options, "--nbmake", "examples/notebooks"]
        )
        result.failed |= failed
    return result


def build(version: str, python: str) -> Path:
    """The wheel for a version; the stable one is built once."""
    stable = tuple(map(int, version.split("."))) >= STABLE_FROM
    wheels = OUT / "wheels" / ("stable" if stable else version)
    kind = ["--features", "abi3"] if stable else []
    if wheels not in _built:
        shutil.rmtree(wheels, ignore_errors=True)
        maturin = shutil.which("maturin") or "maturin"
        subprocess.run(
            [maturin, "build", "--release", "--locked", "-i", python, *kind, "--out", str(wheels)],
            check=True,
            cwd=ROOT,
        )
        _built.add(wheels)
    (wheel,) = wheels.glob("hustings-*.whl")
    return wheel


_built: set[Path] = set()


def install(version: str, python: str, wheel: Path) -> str:
    """An environment with the wheel and everything optional; its interpreter."""
    folder = OUT / version
    inside = str(folder / "bin" / "python")
    if not Path(inside).exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{wheel}[dev,all]"], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True)
    return inside


def run_tests(command: list[str]) -> tuple[str, bool]:
    """Runs pytest, shows what it says, and returns its last line and whether it failed."""
    began = time.monotonic()
    # Nothing of the environment that runs this one leaks in.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=kept)
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    code = process.wait()
    counts = re.sub(r" in [\d.]+s.*$", "", last.strip("= "))
    return f"{counts}, {(time.monotonic() - began) / 60:.1f} min", code != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
