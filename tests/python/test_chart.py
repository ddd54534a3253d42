"""The chart for Kubernetes, rendered by Go's templates and held against Kubernetes' own schemas;
and what it has nodes do, done here."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hustings import cli

CHART = Path(__file__).parents[2] / "examples" / "deploy" / "helm" / "hustings"
KUBERNETES = ("1.25", "1.31")

pytest.importorskip("go_template", reason="its wheel is for Linux on x86-64")
yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

# Go's runtime minds signals: it gets a process of its own.
RENDER = "import sys, go_template; go_template.render_template(*sys.argv[1:])"


def render(folder: Path, **values: Any) -> list[dict[str, Any]]:
    """Every object of the chart with these values, as release ``tasks`` in namespace ``work``."""
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    for name, value in values.items():
        given["nodes"].update({name: {**given["nodes"][name], **value}})
    scope = {"Values": given, "Release": {"Name": "tasks", "Namespace": "work"}}
    (folder / "values.yaml").write_text(yaml.safe_dump(scope))
    names = (CHART / "templates" / "_names.tpl").read_text()
    found = []
    for template in sorted((CHART / "templates").glob("*.yaml")):
        source, out = folder / template.name, folder / f"rendered-{template.name}"
        source.write_text(names + template.read_text())
        paths = [str(source), str(folder / "values.yaml"), str(out)]
        done = subprocess.run([sys.executable, "-c", RENDER, *paths], capture_output=True)
        assert done.returncode == 0, done.stderr
        found += [made for made in yaml.safe_load_all(out.read_text()) if made]
    return found


def sets(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sets of nodes by kind."""
    return {
        made["metadata"]["labels"]["app.kubernetes.io/component"]: made
        for made in objects
        if made["kind"] == "StatefulSet"
    }


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_what_kubernetes_takes(tmp_path: Path, version: str) -> None:
    objects = render(tmp_path, worker={"certificates": ["w0", "w1"]})
    assert sorted(made["kind"] for made in objects) == [
        "PodDisruptionBudget",
        "Service",
        "StatefulSet",
        "StatefulSet",
    ]
    for made in objects:
        kubernetes_validate.validate(made, version, strict=True)
    objects[-1]["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(objects[-1], version, strict=True)


def test_the_sets_select_their_own_pods_and_the_service_all(tmp_path: Path) -> None:
    objects = render(tmp_path, worker={"certificates": ["w0"]})
    service = next(made for made in objects if made["kind"] == "Service")
    budget = next(made for made in objects if made["kind"] == "PodDisruptionBudget")
    for kind, made in sets(objects).items():
        labels = made["spec"]["template"]["metadata"]["labels"].items()
        assert made["spec"]["selector"]["matchLabels"].items() <= labels
        assert service["spec"]["selector"].items() <= labels
        assert (budget["spec"]["selector"]["matchLabels"].items() <= labels) == (kind == "voter")
        assert made["spec"]["serviceName"] == service["metadata"]["name"]


def test_nodes_are_started_as_the_command_line_takes_it(tmp_path: Path) -> None:
    objects = render(tmp_path, worker={"certificates": ["w0"]})
    domain = "tasks.work.svc.cluster.local:7400"
    voters = ",".join(f"tasks-voter-{i}.{domain}" for i in range(3))
    for kind, made in sets(objects).items():
        (container,) = made["spec"]["template"]["spec"]["containers"]
        argv = [word.replace("$(POD_NAME)", f"tasks-{kind}-0") for word in container["args"]]
        arguments = cli._parser().parse_args(argv)
        assert arguments.advertise == f"tasks-{kind}-0.{domain}"
        assert arguments.join == voters
        assert arguments.voters == (3 if kind == "voter" else None)
        assert arguments.grace < made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_a_pod_finds_its_own_certificate_where_the_node_looks(tmp_path: Path) -> None:
    """The init container's own script, on folders as Kubernetes would mount them."""
    made = sets(render(tmp_path))["voter"]["spec"]["template"]["spec"]
    (script,) = [c["command"][2] for c in made["initContainers"]]
    projected = next(v["projected"] for v in made["volumes"] if v["name"] == "all")
    everything, own = tmp_path / "all", tmp_path / "tls"
    own.mkdir()
    for source in projected["sources"]:
        for item in source["secret"]["items"]:
            file = everything / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{source['secret']['name']} {item['key']}")
    script = script.replace("/all/", f"{shlex.quote(str(everything))}/")
    script = script.replace("/tls/", f"{shlex.quote(str(own))}/")
    subprocess.run(["sh", "-ec", script], check=True, env={"POD_NAME": "tasks-voter-1"})
    assert (own / "node" / "key.pem").read_text() == "hustings-voter-1 key.pem"
    assert sorted(file.name for file in (own / "node").iterdir()) == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]
    assert (own / "node" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (own / "node").stat().st_mode & 0o777 == 0o700
