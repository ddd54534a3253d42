"""The live page in a headless Chromium: what it shows of elections, steals and tasks, and that it
keeps to its own rules."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fault_tasks
import hustings as hs
from conftest import eventually
from hustings import watch

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("HUSTINGS_CHROMIUM") or next(
    (found for name in NAMES if (found := shutil.which(name))), None
)
if CHROMIUM is None:
    pytest.skip(
        f"no {' or '.join(NAMES)} in PATH; apt-get install chromium, or set HUSTINGS_CHROMIUM",
        allow_module_level=True,
    )
MARKUP = "<img src=x onerror=alert(1)>"
PATIENCE_MS = 40_000
POSITIONS = [(0, 0), (4, 1), (2, 3)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # A container's root has no user namespaces for the browser's own sandbox.
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def cluster() -> Iterator[hs.Cluster]:
    config = hs.Config.ci(steal=hs.StealPolicy(cpu_floor=0.0), placement="random")
    made = hs.Cluster.local(
        3, name="page", isolated=True, slots=1, positions=POSITIONS, config=config
    )
    made.wait_leader()
    yield made
    made.close()


@pytest.fixture
def address(cluster: hs.Cluster) -> Iterator[str]:
    """The page of a node that outlives all that happens to the others."""
    join = [str(node.address) for node in cluster.nodes]
    node = hs.Node(
        "viewer",
        join=join,
        slots=1,
        position=(5, 2),
        config=hs.Config.ci(),
        allow_pickle=True,
        http="127.0.0.1:0",
    )
    node.start()
    yield f"http://{node.http_address}/"
    node.stop(5)


class Tab:
    """A tab, and whatever its console had to complain about."""

    def __init__(self, browser: Any, address: str, width: int, scheme: str) -> None:
        self.complaints: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(address)
        self.page.wait_for_selector("[data-ready=yes]")
        # What passes on the map is gone in two seconds: it is noted as it comes.
        self.page.evaluate(
            """() => {
              window.seen = new Set();
              new MutationObserver((changes) => changes.forEach((change) =>
                change.addedNodes.forEach((node) => window.seen.add(node.getAttribute("class")))
              )).observe(document.querySelector(".hst-arrows"), { childList: true });
            }"""
        )

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def wait_text(self, selector: str, text: str) -> None:
        self.page.wait_for_selector(f"{selector} >> text={text}")

    def wait_seen(self, kind: str) -> None:
        self.wait_true(f"[...window.seen].some((name) => name.includes('hst-a-{kind}'))")

    def wait_true(self, expression: str) -> None:
        """Asked again and again from outside: the page's rules let nobody evaluate text inside."""
        eventually(lambda: self.page.evaluate(expression), PATIENCE_MS / 1000)

    def overflow(self) -> int:
        """By how much the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.timeout(300)
def test_an_election_is_seen_as_it_happens(browser: Any, cluster: hs.Cluster, address: str) -> None:
    tabs = [
        Tab(browser, address, width, scheme)
        for width, scheme in ((375, "light"), (768, "dark"), (1280, "light"), (1920, "dark"))
    ]
    old = cluster.wait_leader().name
    for tab in tabs:
        tab.wait_text(".hst-leader", f"{old} leads")
        tab.wait_true("document.querySelectorAll('.hst-node').length === 4")
        assert tab.overflow() <= 0
    cluster.kill(old)
    new = cluster.wait_leader().name
    assert new != old
    for tab in tabs:
        tab.wait_text(".hst-leader", f"{new} leads")
        tab.wait_seen("vote")
        tab.page.click("button:text-is('elections')")
        tab.wait_text(".hst-happened", f"{new} leads in term")
        tab.page.wait_for_selector(".hst-gap", state="attached")
        tab.wait_text(".hst-nodes tr[data-state=leads]", new)
        assert tab.overflow() <= 0
        assert tab.complaints == []


@pytest.mark.timeout(300)
def test_tasks_steals_and_reasons_are_shown_and_names_are_text(
    browser: Any, cluster: hs.Cluster, address: str, gate: Any
) -> None:
    tab = Tab(browser, address, 1280, "dark")
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            tasks = [
                cluster.submit(fault_tasks.breathe, 0.2 if n % 20 == 0 else 0.005)
                for n in range(120)
            ]
            hs.wait(tasks, timeout=60)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        tab.wait_seen("steal")
        tab.wait_text(".hst-happened", "took")
    finally:
        ended.set()
        worker.join(60)
    cluster.wait_idle()
    odd = hs.task(name=MARKUP)(fault_tasks.wait_here.__wrapped__)
    held = [cluster.submit(odd, gate.path) for _ in range(12)]
    tab.page.click("summary")
    tab.page.wait_for_selector(f".hst-tasks td:text-is({MARKUP!r})")
    tab.page.click(".hst-id >> nth=0")
    # Whether it runs or is queued is a matter of chance; both are told in a sentence.
    tab.page.wait_for_selector(".hst-because b")
    told = tab.page.inner_text(".hst-because")
    assert len(told.split()) > 3, told
    assert tab.page.query_selector("img") is None
    gate.open()
    assert all(task.result(60) > 0 for task in held)
    tab.page.select_option(".hst-tasks select", "succeeded")
    tab.page.wait_for_selector(".hst-tasks tbody >> text=breathe")
    tab.page.fill(".hst-ask input", str(held[0].task_id))
    tab.page.click(".hst-ask button")
    tab.wait_text(".hst-why", "succeeded")
    assert tab.complaints == []


@pytest.mark.timeout(300)
def test_a_page_whose_node_ends_says_so_and_finds_it_again(browser: Any) -> None:
    first = hs.Node("n1", slots=1, config=hs.Config.ci(), http="127.0.0.1:0")
    with pytest.warns(hs.HustingsWarning):
        first.start()
    tab = Tab(browser, f"http://{first.http_address}/", 1280, "light")
    tab.wait_text(".hst-link", "live")
    place = first.http_address
    first.stop(5)
    tab.wait_text(".hst-link", "reconnecting")
    second = hs.Node("n2", slots=1, config=hs.Config.ci(), http=place)
    with pytest.warns(hs.HustingsWarning):
        eventually(lambda: second.start() is not None)
    try:
        tab.wait_text(".hst-link", "live")
        tab.wait_text(".hst-leader", "n2 leads")
        tab.wait_true("document.querySelectorAll('.hst-node').length === 1")
    finally:
        second.stop(5)


@pytest.mark.timeout(300)
def test_the_same_module_is_the_widget_of_notebooks(
    browser: Any, cluster: hs.Cluster, address: str
) -> None:
    told: list[dict[str, Any]] = []
    feeder = watch.Feeder(cluster, told.append, 0.1)
    feeder.on_message({"type": "start"})
    news = eventually(lambda: next((m for m in told if m["news"]["rows"]), None))
    feeder.stop()
    tab = Tab(browser, address, 1000, "light")
    tab.page.evaluate(
        """async () => {
          const { default: widget } = await import("/view.js");
          const el = document.createElement("div");
          el.id = "cell";
          document.body.append(el);
          window.said = [];
          window.kernel = {
            on(_, hear) { this.hear = hear; }, off() {}, send(m) { said.push(m); },
          };
          widget.render({ model: window.kernel, el });
        }"""
    )
    assert tab.page.evaluate("window.said") == [{"type": "start"}]
    tab.page.evaluate("(news) => window.kernel.hear(news)", news)
    tab.wait_text("#cell .hst-leader", f"{cluster.wait_leader().name} leads")
    tab.wait_true("document.querySelectorAll('#cell .hst-node').length >= 3")
    tab.page.evaluate("window.kernel.hear({ type: 'ended' })")
    tab.wait_text("#cell .hst-link", "ended")
    assert tab.complaints == []
