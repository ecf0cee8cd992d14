"""The alerting rules and the dashboard use metrics, labels and values that exist, and are documented."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final, get_args

import grpc
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase
from promql_parser import AggregateExpr, Matcher, MatchOp, VectorSelector

from headwater.base.metrics import DeliveryEnd, ResponseClass, RunEnd, RunKind
from headwater.server.metrics import BackendMetrics, CourierMetrics, SchedulerMetrics, WorkerMetrics

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
DASHBOARD: Final = json.loads((ROOT / "deploy" / "grafana" / "headwater.json").read_text())
PAGE: Final = (ROOT / "docs" / "operating.md").read_text()
PROCESS_LABELS: Final = {"process", "instance"}
"""Labels of all samples: of the metrics port, and of Prometheus."""
VALUES: Final[dict[str, set[str]]] = {
    "status": {code.name for code in grpc.StatusCode} | {"Queued", "Running"},
    "outcome": {*get_args(DeliveryEnd), *get_args(RunEnd)},
    "status_class": {*get_args(ResponseClass)},
    "kind": {*get_args(RunKind)},
    "consumer": {"warehouse"},
    "process": {"backend", "worker", "courier", "scheduler"},
}


def labels_by_sample() -> dict[str, set[str]]:
    """Return the labels of each sample that the processes have."""
    found: dict[str, set[str]] = {"headwater_up": set()}
    for metrics in (BackendMetrics(), WorkerMetrics(), CourierMetrics(), SchedulerMetrics()):
        registry: CollectorRegistry = metrics.registry
        for name, collector in registry._names_to_collectors.items():
            if isinstance(collector, MetricWrapperBase):
                is_bucket = isinstance(collector, Histogram) and name.endswith("_bucket")
                found[name] = {*collector._labelnames} | ({"le"} if is_bucket else set())
        for family in registry.collect():
            found.update({sample.name: set() for sample in family.samples if sample.name.startswith("process_")})
    return found


LABELS: Final = labels_by_sample()


def rules() -> Iterator[dict[str, Any]]:
    for group in ALERTS["groups"]:
        yield from group["rules"]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


def queries() -> Iterator[str]:
    """Yield the queries of the rules, and of the panels with values for the variables of Grafana."""
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield re.sub(r"\$__(rate_)?interval", "5m", target["expr"]).replace("$instance", ".*")


def selectors(query: str) -> list[VectorSelector]:
    found: list[VectorSelector] = []

    def visit(part: object) -> None:
        if isinstance(part, VectorSelector):
            found.append(part)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def check_value(matcher: Matcher) -> None:
    """Check that a label has the value, or values that the expression matches."""
    values = VALUES.get(matcher.name)
    if values is None:
        assert matcher.name in {"instance", "error", "method"}, matcher.name
        return
    for value in matcher.value.removesuffix(".*").split("|") if matcher.op == MatchOp.Re else [matcher.value]:
        assert value.removesuffix(".*") in values, (matcher.name, value)


@pytest.mark.parametrize("query", sorted({*queries()}))
def test_queries_have_existing_metrics_and_labels(query: str) -> None:
    found = selectors(query)
    assert found
    labels = set(PROCESS_LABELS)
    for selector in found:
        assert selector.name is not None and selector.name in LABELS, selector.name
        own = LABELS[selector.name] | PROCESS_LABELS
        labels |= own
        for matcher in selector.matchers.matchers:
            assert matcher.name in own, (selector.name, matcher.name)
            check_value(matcher)

    def visit(part: object) -> None:
        if isinstance(part, AggregateExpr) and part.modifier is not None:
            assert {*part.modifier.labels} <= labels, part.modifier.labels

    promql_parser.walk(promql_parser.parse(query), visit)


@pytest.mark.parametrize("query", ["sum(rate(headwater_up[5m])", "headwater_up{process=}", "rate(headwater_up)"])
def test_a_wrong_query_is_found(query: str) -> None:
    with pytest.raises(ValueError):
        promql_parser.parse(query)


def test_rules_are_complete_and_documented() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len({*names}) == len(names)
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        known = PROCESS_LABELS.union(*(LABELS[each.name or ""] for each in selectors(rule["expr"])))
        assert {*re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])} <= known
    assert re.findall(r"^\| `(Headwater\w+)` \|", PAGE, flags=re.MULTILINE) == names


def test_the_dashboard_can_be_imported_anywhere() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len({*ids}) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    text = json.dumps(DASHBOARD)
    assert {*re.findall(r"\$\{?(\w+)", text)} <= variables | {"__rate_interval", "__interval", "__all"}
    sources = re.findall(r'"datasource": \{"type": "prometheus", "uid": "([^"]*)"\}', text)
    assert text.count('"datasource": {') == len(sources)
    assert {*sources} == {"${datasource}"}


def test_panels_do_not_overlap_and_have_legends_with_existing_labels() -> None:
    for first, second in combinations([panel["gridPos"] for panel in panels()], 2):
        is_apart = any(
            one[start] + one[size] <= other[start]
            for one, other in ((first, second), (second, first))
            for start, size in (("x", "w"), ("y", "h"))
        )
        assert is_apart, (first, second)
    for panel in panels():
        for target in panel.get("targets", ()):
            query = re.sub(r"\$__(rate_)?interval", "5m", target["expr"])
            known = PROCESS_LABELS.union(*(LABELS[each.name or ""] for each in selectors(query)))
            assert {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])} <= known, target
