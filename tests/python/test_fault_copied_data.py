"""Row 32: the data directory of a node is copied, or emptied; no id votes twice, and no vote is
forgotten."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from processes import Group, Spec, free_ports

import hustings as hs
from conftest import HERE, eventually


def test_row_32_a_copied_data_directory_is_refused_and_an_empty_one_is_a_new_node(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "nodes"
    spec = Spec(folder, tasks=["fault_tasks"], profile="ci", slots=1, cwd=HERE)
    with Group(spec) as group, hs.Cluster.connect(*group.places, timeout=60) as client:

        def work(count: int) -> None:
            futures = [client.submit("fault_tasks.echo", str(n)) for n in range(count)]
            assert [f.result(60) for f in futures] == [str(n) for n in range(count)]

        def whole() -> bool:
            now = client.snapshot()
            seats = {m.id for m in now.members if m.voter and m.alive}
            return now.quorum.startswith("3 of 3") and seats == {n.id for n in group}

        eventually(whole, 60)
        work(20)
        twin = group["n3"]
        twin.kill()
        copy = folder / "copy"
        shutil.copytree(twin.data_dir, copy)
        twin.start()
        eventually(whole, 60)
        # A second process with its id, while the first lives: it ends and says why.
        command = [
            part if part != twin.place else f"127.0.0.1:{free_ports(1)[0]}"
            for part in twin.command
            if part not in ("--voters", "3")
        ]
        command[command.index(str(twin.data_dir))] = str(copy)
        second = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=100)
        assert second.returncode == 1
        assert twin.id in second.stderr
        assert "is alive at" in second.stderr or "an old copy" in second.stderr, second.stderr
        work(20)
        assert whole()
        # The old copy in the place of the node itself: it would vote twice in one term.
        twin.kill()
        shutil.move(twin.data_dir, folder / "kept")
        shutil.copytree(copy, twin.data_dir)
        # It is refused before or after it listens.
        with contextlib.suppress(RuntimeError):
            twin.start()
        assert twin.wait(100) == 1
        work(20)
        # Nothing at all in its place: a new node, which votes only once it has the log.
        shutil.rmtree(twin.data_dir)
        old = twin.id
        twin.start()
        assert twin.id != old
        eventually(whole, 60)
        work(20)
        assert client.metrics()["succeeded"] == 80
