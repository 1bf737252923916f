"""The dashboard of examples/telemetry asks for metrics and labels that there are, under the names that Prometheus knows them by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.telemetry.recorded import Recorded
from tests.telemetry.test_metrics import make_everything

DASHBOARD = Path(__file__).parents[2] / "examples/telemetry/dashboard.json"
METRIC = re.compile(r"\bcloche_[a-z_]+(?=[{\[),]|$)")
VALUES = re.compile(r"label_values\((\w+), (\w+)\)")
LABELS = re.compile(r"by \(([^)]*)\)|\{([^}]*)\}")


def queries() -> list[str]:
    """Every query of the dashboard, that of its variable included."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return asked + [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]


def wanted(query: str) -> tuple[set[str], set[str]]:
    """Metrics and labels that a query names."""
    if values := VALUES.fullmatch(query):
        return {values[1]}, {values[2]}
    labels = {
        part.partition("=")[0].rstrip("!").strip()
        for by, braces in LABELS.findall(query)
        for part in (by or braces).split(",")
    }
    return set(METRIC.findall(re.sub(r"by \([^)]*\)", "", query))), labels - {"le", ""}


@pytest.fixture(scope="module")
def series(sdk: None) -> dict[str, set[str]]:
    """Metric -> the labels of its series, as OpenTelemetry's exporter gives them to Prometheus."""
    exporter = pytest.importorskip(
        "opentelemetry.exporter.prometheus", reason="opentelemetry-exporter-prometheus is not installed"
    )
    from prometheus_client import REGISTRY

    found: dict[str, set[str]] = {}

    def look() -> None:
        for family in REGISTRY.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)

    recorded = Recorded(exporter.PrometheusMetricReader())
    make_everything(recorded, look)
    recorded.metrics.shutdown()
    return found


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_there_is(series: dict[str, set[str]], query: str) -> None:
    metrics, labels = wanted(query)
    assert metrics
    for metric in metrics:
        assert labels <= series.get(metric, set()), metric


def test_every_metric_is_on_the_dashboard(series: dict[str, set[str]]) -> None:
    asked = {metric for query in queries() for metric in wanted(query)[0]}
    plain = {re.sub(r"_(bucket|count|sum|total)$", "", metric) for metric in asked}
    known = {
        re.sub(r"_(bucket|count|sum|total|created)$", "", metric) for metric in series if metric.startswith("cloche_")
    }
    assert plain == known


def test_a_query_for_what_there_is_not_would_be_found(series: dict[str, set[str]]) -> None:
    """The tests above would be worth nothing if they could not fail."""
    assert wanted('sum by (le, no) (rate(cloche_none_total{other=~"x"}[5m]))') == (
        {"cloche_none_total"},
        {"no", "other"},
    )
    assert "cloche_none_total" not in series
