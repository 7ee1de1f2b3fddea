import subprocess
import sys
from pathlib import Path

import pytest

from addons import providers
from addons.meter import READERS
from addons.providers import load_providers
from addons.providers.base import RouteTable

SIXTH = '''
"""Sixth: https://sixth.example/docs."""

from addons.providers.base import BEARER, CLIENT_PREFIX, Endpoint, Provider, versioned

PROVIDER = Provider(
    name="sixth",
    title="Sixth",
    origin="https://api.sixth.example",
    prefixes=(f"{CLIENT_PREFIX}/sixth",),
    key_place=BEARER,
    key_pattern=r"six-[a-z]{16,}",
    key_page="https://sixth.example/keys",
    error_shape="openai",
    default_headers={},
    endpoints=(
        Endpoint(
            name="chat/completions",
            client_paths=versioned("chat/completions"),
            path="/v7/chat/completions",
            flavour="openai.chat",
            required=("model", "messages"),
        ),
    ),
)
'''


def test_there_are_five() -> None:
    names = [provider.name for provider in load_providers()]
    assert names == ["anthropic", "gemini", "grok", "mistral", "openai"]


def test_a_sixth_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sixth.py").write_text(SIXTH)
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    found = load_providers()
    assert [provider.name for provider in found][-1] == "sixth"
    table = RouteTable(found, {"sixth": "http://127.0.0.1:1"})
    for path in ("/api/proxy/sixth/v1/chat/completions", "/api/proxy/sixth/chat/completions"):
        route = table.match("POST", path)
        assert (route.provider.name, route.path) == ("sixth", "/v7/chat/completions")
    assert table.origins["sixth"].port == 1
    provider = table.provider_of("/api/proxy/sixth/nothing")
    assert provider is found[-1]
    sys.modules.pop("addons.providers.sixth")


@pytest.mark.parametrize("provider", load_providers(), ids=lambda p: p.name)
class TestEveryFile:
    def test_is_named_as_its_provider(self, provider: providers.Provider) -> None:
        folder = Path(providers.__file__).parent
        assert (folder / f"{provider.name}.py").is_file()
        assert f"/api/proxy/{provider.name}" in provider.prefixes

    def test_stays_inside_its_own_prefixes(self, provider: providers.Provider) -> None:
        others = {f"/api/proxy/{other.name}" for other in load_providers() if other != provider}
        assert not others & set(provider.prefixes)
        for endpoint in provider.endpoints:
            assert all(path.startswith("/") for path in endpoint.client_paths)
            assert endpoint.path.startswith("/v1")

    def test_uses_flavours_that_the_meter_knows(self, provider: providers.Provider) -> None:
        assert {endpoint.flavour for endpoint in provider.endpoints} <= set(READERS)

    def test_asks_a_get_for_nothing(self, provider: providers.Provider) -> None:
        for endpoint in provider.endpoints:
            assert endpoint.method == "POST" or endpoint.required == ()

    def test_says_where_from(self, provider: providers.Provider) -> None:
        module = sys.modules[f"addons.providers.{provider.name}"]
        assert "https://" in (module.__doc__ or "")
        assert provider.key_page.startswith("https://")
        assert provider.origin.startswith("https://")

    def test_sends_keys_in_headers_only(self, provider: providers.Provider) -> None:
        for endpoint in provider.endpoints:
            assert "key" not in endpoint.path
        assert provider.key_place.header == provider.key_place.header.lower()


def test_is_pure_data() -> None:
    # the API service reads it too; mitmproxy would cost it a second and 50 MB
    code = (
        "import sys; from addons.providers import load_providers; load_providers(); "
        "print({'mitmproxy', 'sqlalchemy', 'psycopg', 'storage', 'api'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
