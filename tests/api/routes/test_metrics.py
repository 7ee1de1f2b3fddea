import httpx


def test_requests_are_counted_by_route_and_nothing_finer(api_alone: httpx.Client):
    for path in ("/api/v1/meta", "/api/v1/meta?secret=1", "/somewhere/else", "/static/app.css"):
        api_alone.get(path)
    api_alone.request("BREW", "/api/v1/meta")
    answer = api_alone.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    counted = [line for line in lines if line.startswith("metrion_api_requests_total{")]

    def count(method: str, route: str, status: int) -> float:
        labels = f'{{method="{method}",route="{route}",status="{status}"}} '
        return sum(float(line.rpartition(" ")[2]) for line in counted if labels in line)

    assert count("GET", "/api/v1/meta", 200) >= 2
    assert count("GET", "unknown", 404) >= 1
    assert count("GET", "/static", 200) >= 1
    assert count("other", "/api/v1/meta", 405) >= 1
    assert "secret" not in answer.text
    assert "somewhere" not in answer.text
    assert 'metrion_api_request_seconds_count{route="/api/v1/meta"}' in answer.text
    assert "process_cpu_seconds_total" in answer.text


def test_the_newer_format_on_request(api_alone: httpx.Client):
    answer = api_alone.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
