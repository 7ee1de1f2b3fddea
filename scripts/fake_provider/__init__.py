"""A stand-in for the five providers on real sockets, for the demo, the tests and the benchmark.

    with FakeProvider() as provider:
        ...  # point METRION_ORIGINS at provider.origin
        assert provider.requests[0].header("authorization") == "Bearer sk-real"

As a process: `python -m scripts.fake_provider --port 0`. It answers on the providers' own paths,
all on one port, in shapes that the official SDKs read; `x-fake-*` request headers (see
`scripts.fake_provider.knobs.Knobs`) make the answer to one request late, broken, big or odd. Any
key that looks like one is good, except one of Metrion's own.
"""

from scripts.fake_provider.knobs import Knobs
from scripts.fake_provider.records import RecordedRequest, Violation
from scripts.fake_provider.server import FakeProvider

__all__ = ["FakeProvider", "Knobs", "RecordedRequest", "Violation"]
