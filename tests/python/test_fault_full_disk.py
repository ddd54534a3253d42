"""Row 13: a real file system fills up below a voter. The node ends with an error, the others go on,
and with room it comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Group, Spec

import hustings as hs
from conftest import HERE, eventually

SIZE_MIB = 24


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room, where this user may mount one."""
    place = tmp_path / "nodes" / "n1"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}); test_failing_disk shows ENOSPC")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_row_13_a_full_disk_ends_one_node_and_room_brings_it_back(small_disk: Path) -> None:
    spec = Spec(small_disk.parent, tasks=["fault_tasks"], profile="ci", slots=1, cwd=HERE)
    filler = small_disk / "filler"
    with Group(spec) as group, hs.Cluster.connect(*group.places, timeout=60) as client:
        full = group["n1"]
        eventually(lambda: client.snapshot().quorum.startswith("3 of 3"), 60)
        known = [client.submit("fault_tasks.echo", str(n)) for n in range(20)]
        assert [f.result(60) for f in known] == [str(n) for n in range(20)]
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            except OSError:
                pass
        # Larger tasks, until its log would have to grow.
        done = 0
        while full.alive:
            assert done < 4_000, "its disk is full and it goes on"
            batch = [client.submit("fault_tasks.echo", "x" * 30_000) for _ in range(20)]
            assert all(len(f.result(60)) == 30_000 for f in batch)
            done += len(batch)
        assert full.wait() == 1
        assert "storage" in full.last_words()
        assert "No space left" in full.last_words()
        assert client.submit("fault_tasks.echo", "on").result(60) == "on"
        filler.unlink()
        first = full.id
        full.start()
        assert full.id == first
        eventually(lambda: client.snapshot().quorum.startswith("3 of 3"), 60)
        assert client.submit("fault_tasks.echo", "back").result(60) == "back"
        assert client.metrics()["succeeded"] == 20 + done + 2
