"""How this interpreter is started again: as a runner of tasks, or as a node of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def runner_argv() -> list[str]:
    """How a runner is started: this interpreter, without the working directory slipping into
    ``sys.path``."""
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *safe, "-m", "hustings._runner"]


def node_argv(descriptor: int) -> list[str]:
    """How a node of an isolated local cluster is started."""
    return [*runner_argv()[:-1], "hustings._node_main", str(descriptor)]


def python_path() -> list[str]:
    """``sys.path`` as another process can use it."""
    return [os.path.abspath(p) if p == "" else str(p) for p in sys.path]


def package_env() -> dict[str, str]:
    """Lets a child find this very package when it lies outside the site directories (a source
    tree)."""
    root = str(Path(__file__).resolve().parent.parent)
    if os.path.basename(root) in ("site-packages", "dist-packages"):
        return {}
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([root, inherited]) if inherited else root}


def runner_env() -> dict[str, str]:
    """The environment a node adds for its runners."""
    return {"HUSTINGS_SYS_PATH": os.pathsep.join(python_path()), **package_env()}
