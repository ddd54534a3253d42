"""A plugin for pytest, there once hustings is installed: fixtures with real nodes, and imagined
ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..simulation import Simulation

MARKER = (
    "hustings(nodes=3, **options): what the fixture hustings_cluster is made of; the options are "
    "those of hustings.Cluster.local"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--hustings-seed``."""
    parser.getgroup("hustings").addoption(
        "--hustings-seed",
        type=int,
        metavar="N",
        help="seed of every hustings_sim (default: one for each test, always the same)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def hustings_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running cluster with a leader, for one test: three nodes in this process.

    It is the current cluster of the test, and ends with it. ``@pytest.mark.hustings(nodes=5,
    isolated=True)`` asks for another; timing is that for busy machines (``Config.ci()``).
    """
    import hustings

    options: dict[str, Any] = {"nodes": 3, "name": "pytest", "config": hustings.Config.ci()}
    marker = request.node.get_closest_marker("hustings")
    if marker is not None:
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.hustings{marker.args!r}: give keywords, as in hustings(nodes=5)"
            )
        options.update(marker.kwargs)
    with hustings.Cluster.local(options.pop("nodes"), **options) as cluster:
        cluster.wait_leader()
        yield cluster


@pytest.fixture
def hustings_sim(request: pytest.FixtureRequest) -> Callable[..., Simulation]:
    """Makes simulations: ``hustings_sim(nodes=5, script=[...]).run(seconds=10)``.

    The seed is the same at every run of the test, and shown if it fails; ``--hustings-seed N`` or
    ``seed=N`` gives another. Nothing here takes real time but computing.
    """
    import hustings

    given = request.config.getoption("--hustings-seed")
    own = zlib.crc32(request.node.nodeid.encode()) if given is None else given

    def make(nodes: int = 5, *, seed: int | None = None, **options: Any) -> Simulation:
        used = own if seed is None else seed
        request.node.add_report_section("call", "hustings", f"Simulation seed {used}")
        return hustings.Simulation(nodes, seed=used, **options)

    return make
