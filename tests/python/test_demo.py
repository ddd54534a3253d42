"""``hustings demo``: the main job, on a small folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from conftest import run_command
from hustings import demo


def make_folder(root: Path, files: int) -> Path:
    folder = root / "sources"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    for i in range(files):
        lines = "".join(f"def f{j}(x):\n    return x + {j}\n" for j in range(50 * (i % 3 + 1)))
        (folder / "inner" / f"m{i}.py").write_text(lines)
    (folder / "broken.py").write_bytes(b"def (\xff")
    (folder / "inner" / "__pycache__" / "x.py").write_text("")
    (folder / "notes.txt").write_text("not a source")
    return folder


def test_one_file_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("class A:\n    def f(self):\n        pass\n")
    counted = demo.count_file(str(file))
    assert (counted["lines"], counted["words"], counted["definitions"]) == (3, 5, 2)
    assert len(counted["sha256"]) == 64
    file.write_text("def (")
    assert demo.count_file(str(file))["definitions"] is None


def test_files_are_found_and_bad_folders_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 4)
    _, files = demo.find_files(str(folder))
    assert len(files) == 5
    _, library = demo.find_files(None)
    assert len(library) > 100
    assert not any("site-packages" in path for path in library)
    empty = tmp_path / "empty"
    empty.mkdir()
    for bad in (tmp_path / "none", folder / "notes.txt", empty):
        with pytest.raises(demo.DemoInputError):
            demo.find_files(str(bad))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", [(), ("--kill-entry",)])
def test_the_demo_keeps_its_promises_on_few_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = make_folder(tmp_path, 30)
    done = run_command(
        "demo", str(folder), "--out", str(tmp_path), "--json", "--profile", "ci", *options
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["good"]
    assert result["files"] == 31
    assert result["totals_equal"]
    assert result["accepted_without_outcome"] == 0
    assert result["late_completions"] >= 1
    assert result["steals"] >= 1
    assert len(result["leaders"]) >= 2
    assert (result["entry_killed"] is not None) == bool(options)
    assert (tmp_path / "hustings-demo.png").stat().st_size > 10_000
    with (tmp_path / "hustings-demo.csv").open(newline="") as file:
        kinds = {row["kind"] for row in csv.DictReader(file)}
    assert {"became_leader", "fault", "late_completion"} <= kinds
