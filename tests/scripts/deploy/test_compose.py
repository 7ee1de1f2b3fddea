"""The compose file: parsed and checked by compose-spec, and no container may more than it needs."""

import json
import re
from typing import Any

import compose_spec
import pytest
import yaml

from storage.settings import Settings

OURS = {"migrate", "proxy-1", "proxy-2", "api", "jobs", "admin"}


@pytest.fixture(scope="module")
def compose(deploy) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text())


def test_it_is_a_compose_file(compose):
    parsed = compose_spec.PyCompose.from_json(json.dumps(compose))  # its anchors are merged
    parsed.validate()
    assert set(parsed.service_names()) == {*OURS, "postgres", "valkey", "balancer"}
    wrong = compose | {"services": {"api": {"image": "a", "imagination": 1}}}
    with pytest.raises(ValueError, match="imagination"):
        compose_spec.PyCompose.from_json(json.dumps(wrong))


def test_who_speaks_with_whom(compose):
    networks = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert networks["postgres"] == networks["valkey"] == {"back"}
    assert "back" not in networks["balancer"]
    assert compose["networks"]["back"]["internal"]
    ports = {name for name, service in compose["services"].items() if "ports" in service}
    assert ports == {"balancer"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_ours_may_do_nothing(compose, name):
    service = compose["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["ulimits"]["core"] == 0
    [env_file] = service["env_file"]
    process = "admin" if name in {"migrate", "admin"} else name.partition("-")[0]
    assert env_file == f"secrets.d/{process}.env"


def test_every_service_tells_how_it_is_and_is_bounded(compose):
    for name, service in compose["services"].items():
        if name in {"migrate", "admin", "balancer"}:  # two end; the other is asked from outside
            continue
        assert "healthcheck" in service, name
        assert "limits" in service["deploy"]["resources"], name


def test_each_proxy_keeps_its_own_journal(compose):
    volumes = [compose["services"][f"proxy-{number}"]["volumes"] for number in (1, 2)]
    assert volumes == [["journal-1:/data"], ["journal-2:/data"]]


def test_settings_are_settings(compose, deploy):
    known = {f"METRION_{name.upper()}" for name in Settings.model_fields}
    texts = [(deploy / "compose.yaml").read_text()]
    texts += [path.read_text() for path in (deploy / "kubernetes").glob("*.yaml")]
    texts += [path.read_text() for path in (deploy / "systemd").iterdir()]
    named = {name for text in texts for name in re.findall(r"METRION_[A-Z_]+", text)}
    assert named <= known
