"""The whole command, as short as it goes: everything is started, measured and stopped."""

import json
import subprocess
import sys

from scripts.benchmarks.requests import SCENARIOS


def test_it_measures_everything_and_writes_json(tmp_path):
    result = tmp_path / "result.json"
    command = [sys.executable, "-P", "-m", "scripts.benchmarks"]
    command += ["--seconds", "1", "--warm-up", "16", "--rounds", "1", "--rows", "500"]
    command += ["--soak", "100"]
    done = subprocess.run(
        [*command, "--json", str(result)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert list(found["requests"]) == [scenario.name for scenario in SCENARIOS]
    for scenario in SCENARIOS:
        contestants = found["requests"][scenario.name]
        # only Metrion stores answers; peers may be installed
        usual = ["metrion"] if scenario.cached else ["direct", "mitmdump", "metrion"]
        assert list(contestants)[:3] == usual
        assert all(each["cpu_us"] > 0 and each["requests"] for each in contestants.values())
        assert contestants["metrion"]["postgres_us"] > 0
    connecting = found["connecting"]
    assert list(connecting)[:3] == ["direct", "mitmdump", "metrion"]
    assert all(each["cpu_us"] > 0 for each in connecting.values())
    assert connecting["direct"]["connections_per_100"] == 100
    assert connecting["metrion"]["connections_per_100"] < 50  # of few requests
    assert found["rows"]["rows"] == 500
    assert len(found["memory"]) == 3
    assert "of mitmdump" in done.stdout
    assert "memory at the end, MB" in done.stdout
