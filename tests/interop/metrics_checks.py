"""What the reference parser of Prometheus makes of /metrics, after the clients' checks: run.sh runs it.

TRUNKLINE_URL is the WebSocket endpoint of a server in development mode, which shows its metrics to everybody.
"""

import os
import sys
import urllib.parse
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

passed = failed = 0


def check(name, holds, found=None):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(f"{'ok' if holds else 'FAILED'}: {name}" + ("" if holds else f": {found!r}"))


def main():
    url = urllib.parse.urlsplit(os.environ["TRUNKLINE_URL"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{url.netloc}/metrics", timeout=10) as answer:
        check("the media type is that of the text format", answer.headers["content-type"] == MEDIA_TYPE)
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}

    kinds = {family.type for family in families.values()}
    check("there are counters, gauges and histograms", kinds == {"counter", "gauge", "histogram"}, kinds)
    check("each has words for people", all(family.documentation for family in families.values()))
    samples = [sample for family in families.values() for sample in family.samples]
    series = {(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples}
    check("no series stands twice", len(series) == len(samples))
    check("there are few series", len(series) < 250, len(series))

    def value(name, **labels):
        return next(sample.value for sample in samples if sample.name == name and sample.labels == labels)

    for family in families.values():
        if family.type == "histogram":
            buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
            check(f"{family.name}: its buckets rise", buckets == sorted(buckets), buckets)
            check(f"{family.name}: the last one is all", buckets[-1] == value(f"{family.name}_count"), buckets)
    check("runs have ended", value("trunkline_runs_ended_total", outcome="completed") > 0)
    check("events were delivered", value("trunkline_deliveries_total") > 0)
    check("closes have their codes", value("trunkline_closes_total", code="1000", reason="normal") > 0)
    print(f"metrics: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
