"""examples/: rules and dashboards name metrics that exist, in expressions that Prometheus accepts."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from netscanctl.services.report import Report
from netscand.protocol import Device, Event, EventKind
from tests.ctl.notify_receivers import find_program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RULES = EXAMPLES / "prometheus/netscand.rules.yml"
DASHBOARD = json.loads((EXAMPLES / "grafana/netscand.json").read_text())
HISTOGRAM = ("_bucket", "_count", "_sum")


def documented() -> set[str]:
    """Return those of docs/metrics.md, which tests/serve/test_metrics.py compares with the code, and of a service."""
    service = Report("x", "d", lambda text: None, {}).metrics.decode()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    names = {name for name, _ in rows} | set(re.findall(r"^(netscand_service_\w+)\{", service, re.MULTILINE))
    return names | {name + end for name, kind in rows if kind == "histogram" for end in HISTOGRAM}


def of_the_dashboard() -> list[str]:
    """Return its expressions, with its variables filled in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in found]


def of_the_rules() -> list[str]:
    found = re.findall(r"expr: (.*?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)
    assert len(found) == RULES.read_text().count("- alert:")
    return found


def test_the_alert_rules_do_what_they_say() -> None:
    """Promtool runs them on series of numbers; each alert has a case in which it fires."""
    promtool, tests = find_program("promtool", "prometheus"), RULES.with_suffix(".test.yml")
    subprocess.run([promtool, "check", "rules", RULES], check=True, capture_output=True)
    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts", tests.read_text()))
    assert fired == set(re.findall(r"- alert: (\w+)", RULES.read_text()))


@pytest.mark.parametrize("expression", [*of_the_dashboard(), *of_the_rules()])
def test_every_metric_exists(expression: str) -> None:
    """In the daemon or in the services."""
    names = set(re.findall(r"\b(?:netscand|process)_\w+", expression))
    assert names or expression.startswith("up{")
    assert names <= documented()


def test_prometheus_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules, so that promtool reads them."""
    rules = [{"record": f"x:y:z{number}", "expr": one} for number, one in enumerate(of_the_dashboard())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))  # JSON is YAML
    argv = [find_program("promtool", "prometheus"), "check", "rules", str(tmp_path / "rules.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_whole() -> None:
    """Each panel has an id and cells of its own, within 24 columns, and the data source that the user chooses."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, wide, high = (panel["gridPos"][key] for key in "xywh")
        cells = {(column, row) for column in range(x, x + wide) for row in range(y, y + high)}
        assert not cells & taken, panel["title"]
        assert x + wide <= 24
        taken |= cells
        assert {one["datasource"]["uid"] for one in [panel, *panel["targets"]]} == {"${datasource}"}
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= variables | {"__rate_interval", "__all"}


def test_the_flow_of_node_red_is_whole() -> None:
    """Every wire leads to a node, and every kind is one of the protocol."""
    nodes: list[dict[str, Any]] = json.loads((EXAMPLES / "node-red/netscand.json").read_text())
    ids = {node["id"] for node in nodes}
    assert len(ids) == len(nodes)
    for node in nodes:
        assert {target for wires in node.get("wires", []) for target in wires} <= ids
        assert {node.get("z", node["id"]), node.get("client", node["id"])} <= ids
    (kinds,) = (node["rules"] for node in nodes if node.get("property") == "payload.kind")
    assert {rule["v"] for rule in kinds} <= set(get_args(EventKind))


def test_telegraf_reads_fields_of_an_event() -> None:
    """Those of nested objects are joined with _."""
    (event,) = tomllib.loads((EXAMPLES / "telegraf/netscand.conf").read_text())["inputs"]["execd"]
    known = {*Event.__struct_fields__, *(f"device_{field}" for field in Device.__struct_fields__)}
    assert {*event["tag_keys"], *event["json_string_fields"], event["json_time_key"]} <= known
