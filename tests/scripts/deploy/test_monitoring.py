"""Alert rules and dashboard: checked by promtool, and about metrics that there are."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from addons.service import Service
from api.telemetry import Metrics

OF_OTHERS = {"up", "metrion_worker_up"}  # Prometheus' own; of the one that speaks for all workers
# All that a metric may be told apart by: each has a closed set of values.
BOUNDED = {"provider", "outcome", "code", "result", "method", "route", "status"}
OF_PYTHON = ("process_", "python_")


@pytest.fixture(scope="module")
def folder(deploy) -> Path:
    return deploy / "monitoring"


@pytest.fixture(scope="module")
def queries(folder) -> list[str]:
    """Every expression of the dashboard."""
    panels = json.loads((folder / "grafana.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.fixture(scope="module")
def rules(folder) -> list[dict[str, str]]:
    return yaml.safe_load((folder / "alerts.yaml").read_text())["groups"][0]["rules"]


def promtool(tool, *arguments: str | Path) -> str:
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_say_what_is_expected_of_them(folder, tool):
    promtool(tool, "check", "config", folder / "prometheus.yaml")
    assert "SUCCESS" in promtool(tool, "test", "rules", folder / "alerts_test.yaml")


def test_every_rule_says_what_to_do(rules):
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "do"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_the_dashboards_queries_are_queries(queries, tool, tmp_path):
    assert len(queries) > 20
    plain = [
        re.sub(r"\$__(rate_interval|range)", "5m", query)
        .replace("$proxy", "a")
        .replace("$api", "b")
        for query in queries
    ]
    document = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(plain)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": document}]}))
    promtool(tool, "check", "rules", path)


def test_panels_do_not_lie_over_each_other(folder):
    panels = json.loads((folder / "grafana.json").read_text())["panels"]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.fixture
def registries(database) -> list[CollectorRegistry]:
    """What a proxy and an API process show at /metrics."""
    url = SecretStr("redis://127.0.0.1:1")
    service = Service(database.settings.model_copy(update={"valkey_url": url}))
    return [service.gateway._probes._registry, Metrics().registry]


def test_everything_that_is_asked_for_is_there(registries, queries, rules):
    there = {
        sample
        for registry in registries
        for metric in registry.collect()
        for sample in (
            metric.name,
            *(f"{metric.name}_{suffix}" for suffix in ("total", "bucket", "count", "sum")),
        )
    }
    asked = {
        name
        for query in (*queries, *(rule["expr"] for rule in rules))
        for name in re.findall(r"\b(?:metrion|process)_[a-z_]+|\bup\b", query)
    }
    assert asked - there - OF_OTHERS == set()
    own = {
        metric.name
        for registry in registries
        for metric in registry.collect()
        if not metric.name.startswith(OF_PYTHON)
    }
    shown = {name for name in own if any(name in one for one in asked)}
    assert own == shown, "neither on the dashboard nor in a rule"


def test_metrics_have_names_texts_and_few_series(registries):
    for registry in registries:
        for collector in list(registry._collector_to_names):
            labels = set(getattr(collector, "_labelnames", ()))
            assert labels <= BOUNDED, collector
        for metric in registry.collect():
            if metric.name.startswith(OF_PYTHON):
                continue
            assert metric.name.startswith("metrion_")
            assert metric.documentation[0].isupper()
            assert not metric.documentation.endswith(".")
