"""Kubernetes manifests: against Kubernetes' own schemas, and the rules that a schema cannot say."""

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

VERSIONS = ["1.30", "1.37"]
PODS = {"StatefulSet", "Deployment", "Job"}


@pytest.fixture(scope="module")
def manifests(deploy) -> list[dict[str, Any]]:
    return [
        document
        for path in sorted((deploy / "kubernetes").glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def named(manifests, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests:
        if manifest["kind"] in kinds:
            yield manifest["metadata"]["name"], manifest


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(manifests, version):
    assert len(manifests) > 15
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kustomization_names_every_file(deploy):
    folder = deploy / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in folder.glob("*.yaml")}


def test_pods_may_do_nothing(manifests):
    pods = {name: each["spec"]["template"]["spec"] for name, each in named(manifests, *PODS)}
    assert set(pods) == {"migrate", "proxy", "api", "jobs", "valkey"}
    for name, pod in pods.items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            assert "cpu" in container["resources"]["requests"], name
            if name != "migrate":
                assert "livenessProbe" in container, name


def test_each_process_gets_its_own_secret_only(manifests):
    for name, manifest in named(manifests, *PODS):
        [container] = manifest["spec"]["template"]["spec"]["containers"]
        secrets = [
            source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source
        ]
        assert secrets == [f"metrion-{'admin' if name == 'migrate' else name}"]


def test_there_is_time_to_drain(manifests):
    [(_, proxy)] = list(named(manifests, "StatefulSet"))
    pod = proxy["spec"]["template"]["spec"]
    [container] = pod["containers"]
    drain = int(container["args"][container["args"].index("--drain-seconds") + 1])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= drain + pause + 15
    budgets = dict(named(manifests, "PodDisruptionBudget"))
    assert {name: budget["spec"]["maxUnavailable"] for name, budget in budgets.items()} == {
        "proxy": 1,
        "api": 1,
    }


def test_nobody_speaks_with_anybody_unless_it_is_said(manifests):
    policies = dict(named(manifests, "NetworkPolicy"))
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [world] = policies["to-the-world"]["spec"]["egress"]
    excepted = [net for to in world["to"] for net in to["ipBlock"]["except"]]
    assert "169.254.0.0/16" in excepted  # the cloud's metadata
    assert "10.0.0.0/8" in excepted


def test_selectors_meet_their_pods(manifests):
    labels = [
        manifest["spec"]["template"]["metadata"]["labels"]
        for _, manifest in named(manifests, *PODS)
    ]
    for name, manifest in named(manifests, "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= one.items() for one in labels), name
