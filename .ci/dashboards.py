#!/usr/bin/env python3
"""Asks a running Prometheus every query of the Grafana dashboard, and fails where there is no answer.

A panel whose metric was renamed draws nothing and says nothing; here it has a name. Start a node, put some load on it, let Prometheus
scrape it every second, then:

    .ci/dashboards.py --prometheus http://127.0.0.1:9090 --wait 60

It tries again until every query is answered or the time is up, since rates need two scrapes.
"""

import argparse
import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = pathlib.Path(__file__).parent.parent / "dashboards" / "bigdatariver.json"

# What Grafana would put in: windows that hold several scrapes a second apart.
VARIABLES = {"__rate_interval": "10s", "__interval": "5s", "__range": "10s"}


def queries(panels):
    """Yields (panel's title, query) for all panels, those within rows too."""
    for panel in panels:
        yield from queries(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield panel["title"], target.get("expr", "")


def substitute(query):
    """Puts values in place of Grafana's variables, `$name` or `${name}`; an unknown one stays and fails as a query."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: VARIABLES.get(match[1], match[0]), query)


def problem(prometheus, query):
    """Says what is wrong with the answer to a query, or nothing."""
    url = f"{prometheus.rstrip('/')}/api/v1/query?" + urllib.parse.urlencode({"query": substitute(query)})
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        return f"error {error.code}: {error.read().decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return f"no answer from {prometheus}: {error}"
    return None if answer["data"]["result"] else "no series"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", required=True, metavar="URL", help="such as http://127.0.0.1:9090")
    parser.add_argument("--dashboard", default=DASHBOARD, type=pathlib.Path, metavar="FILE")
    parser.add_argument("--wait", default=0.0, type=float, metavar="SECONDS", help="how long to try again (default: once)")
    arguments = parser.parse_args()

    asked = list(queries(json.loads(arguments.dashboard.read_text(encoding="utf-8"))["panels"]))
    if not asked:
        sys.exit(f"{arguments.dashboard} has no queries")
    deadline = time.monotonic() + arguments.wait
    while True:
        problems = [(title, query, why) for title, query in asked if (why := problem(arguments.prometheus, query))]
        if not problems or time.monotonic() >= deadline:
            break
        time.sleep(1)

    for title, query, why in problems:
        print(f"panel {title!r}: {why}\n    {query}", file=sys.stderr)
    print(f"{len(asked) - len(problems)} of {len(asked)} dashboard queries are answered")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
