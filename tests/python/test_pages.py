"""Every block of Python in the pages runs, in the order of its page, with warnings as errors."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NEEDED = {
    "futures.md": (),
    "output.md": (),
    "streams.md": (),
    "tracing.md": ("opentelemetry", "opentelemetry.sdk"),
    "integrations/joblib.md": ("joblib", "sklearn"),
    "integrations/dask.md": ("dask", "numpy"),
    "integrations/notebooks.md": (),
}
TESTS = ("integrations/pytest.md",)
"""Pages whose blocks are tests."""


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def run(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=280, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", NEEDED)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    for module in NEEDED[page]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)))
    run("-W", "error", str(script), cwd=tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", TESTS)
def test_the_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text("\n".join(blocks(page)))
    run("-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:asyncio", cwd=tmp_path)


def test_every_page_of_an_integration_is_tested() -> None:
    pages = {f"integrations/{path.name}" for path in (DOCS / "integrations").glob("*.md")}
    assert pages == {page for page in (*NEEDED, *TESTS) if page.startswith("integrations/")}
    assert all(blocks(page) for page in (*NEEDED, *TESTS))
