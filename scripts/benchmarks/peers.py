"""Other gateways, measured beside Metrion where they are installed; nothing of them is needed.

They do less: nginx passes bytes on, Portkey reads and writes them anew, LiteLLM translates and
keeps no rows without a database. A key is checked by those that do not start without one.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_NGINX: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    upstream provider {{ server {host}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


# What callers are sent with where nobody has given them something else.
CALLERS_KEY: Final = "sk-bench-not-a-real-key"


@dataclass(frozen=True, slots=True)
class Peer:
    """How a program is started as a gateway to one provider.

    Attributes:
        name: in the table.
        command: with `{port}` where the port goes.
        environment: what it needs beside the usual.
        configuration: file name → content; `{port}` is put in as well.
        headers: lines that its requests have beside the usual.
        streams: it passes streams on.
        package: what stands in its program's path, if others may have a program of that name.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    configuration: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: tuple[str, ...] = ()
    streams: bool = True
    package: str = ""

    @property
    def is_installed(self) -> bool:
        """Its program is in `PATH`."""
        program = shutil.which(self.command[0])
        return program is not None and self.package in str(Path(program).resolve())


def peers(folder: Path, provider: str) -> list[Peer]:
    """Those that are installed.

    Args:
        folder: for their files.
        provider: the stand-in's origin.
    """
    return [peer for peer in _known(folder, provider) if peer.is_installed]


def absent_peers() -> list[str]:
    """The names of those that are not."""
    return [peer.name for peer in _known(Path(), "") if not peer.is_installed]


def _known(folder: Path, provider: str) -> tuple[Peer, ...]:
    host = provider.removeprefix("http://")
    model = {
        "model_name": "gpt-4o-mini",
        "litellm_params": {
            "model": "openai/gpt-4o-mini",
            "api_base": f"{provider}/v1",
            "api_key": CALLERS_KEY,
        },
    }
    # the provider gets `x-…` headers, by which streams are told how to be
    general = {"forward_client_headers_to_llm_api": True}
    nginx = _NGINX.format(folder=folder, host=host, port="{port}")
    return (
        Peer(
            "nginx",
            ("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")),
            configuration={"nginx.conf": nginx},
        ),
        Peer(
            "portkey",
            ("gateway", "--port={port}", "--headless"),  # as npm installs it; without its pages
            headers=("x-portkey-provider: openai", f"x-portkey-custom-host: {provider}/v1"),
            # 1.15.2, on Node.js 20 and 24, answers 500 to the stand-in's: "TypeError: immutable"
            streams=False,
            package="@portkey-ai",
        ),
        Peer(
            "litellm",
            ("litellm", "--config", str(folder / "litellm.yaml"), "--port", "{port}"),
            # it would fetch its prices from the network
            {
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
                "LITELLM_MASTER_KEY": CALLERS_KEY,
            },
            # JSON is YAML
            {"litellm.yaml": json.dumps({"model_list": [model], "general_settings": general})},
        ),
    )
