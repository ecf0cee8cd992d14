"""The files for Docker, Compose, systemd and Kubernetes: valid, and in agreement with the server."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from headwater.server.settings import read, unknown_variables

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "headwater"
UNIT: Final = ROOT / "deploy" / "headwater.service"
HELM: Final = Path(sys.executable).with_name("helm")
KUBERNETES: Final = "1.34"

SHARED: Final = {"existingSecret": "keys", "shared": True, "replicas": 3}
EVERYTHING: Final[dict[str, Any]] = {
    **SHARED,
    "tlsSecret": "certificate",
    "settings": {"HEADWATER_TRUSTED_PROXIES": "1"},
    "ingress": {
        "enabled": True,
        "host": "cdp.example.com",
        "className": "nginx",
        "tlsSecret": "certificate",
        "annotations": {"example.com/timeout": "60"},
    },
    "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
    "persistence": {"size": "5Gi", "storageClass": "fast"},
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"example.com/team": "data"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def render(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), "template", "shop", str(CHART), "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=60)


def objects(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rendered = render(values)
    assert rendered.returncode == 0, rendered.stderr
    yield from (found for found in yaml.safe_load_all(rendered.stdout) if found)


def variables(stateful_set: dict[str, Any]) -> dict[str, str]:
    [container] = stateful_set["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


@pytest.mark.parametrize("values", [{}, SHARED, EVERYTHING, {"metrics": {"enabled": False}}])
def test_the_chart_renders_valid_objects(values: dict[str, Any]) -> None:
    found = list(objects(values))
    for each in found:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    [stateful_set] = [each for each in found if each["kind"] == "StatefulSet"]
    assert unknown_variables(variables(stateful_set)) == {}
    selector = stateful_set["spec"]["selector"]["matchLabels"].items()
    assert selector <= stateful_set["spec"]["template"]["metadata"]["labels"].items()
    for service in (each for each in found if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() == selector


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"replicas": 2}, "replicas above 1 need PostgreSQL and NATS"),
        ({"shared": True}, "shared=true needs existingSecret"),
        ({"ingress": {"enabled": True}}, "ingress.host is needed"),
    ],
)
def test_values_that_cannot_work_are_rejected(values: dict[str, Any], reason: str) -> None:
    rendered = render(values)
    assert rendered.returncode != 0
    assert reason in rendered.stderr


def test_the_chart_has_no_lint() -> None:
    linted = subprocess.run([HELM, "lint", "--strict", CHART], capture_output=True, text=True, timeout=60)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project


def test_pods_are_confined() -> None:
    [stateful_set] = [each for each in objects({}) if each["kind"] == "StatefulSet"]
    pod = stateful_set["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_services_of_compose_fit_together() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    headwater = services["headwater"]
    assert headwater["read_only"] is True and headwater["cap_drop"] == ["ALL"]
    assert set(headwater["depends_on"]) == {"postgres", "nats"}
    assert all("healthcheck" in services[name] for name in headwater["depends_on"])
    given = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", "0123456789abcdef" * 4, value)
        for name, value in headwater["environment"].items()
    }
    assert unknown_variables(given) == {}
    settings = read(given)
    assert settings.nats_url == "nats://nats:4222"
    assert settings.database_url is not None and settings.database_url.endswith("@postgres/headwater")
    named = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert named == set(compose["volumes"])


def test_the_image_copies_what_the_package_needs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE))
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)
    assert "\nUSER 10001:10001\n" in dockerfile


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="install systemd to check the unit")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/headwater/bin/headwater", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stderr) == (0, "")
