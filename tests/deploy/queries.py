"""Every PromQL expression of the dashboard and of the alerts, taken apart by a real parser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.deploy.conftest import ROOT

DASHBOARD = ROOT / "deploy/grafana/dashboards/hippotune.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"


@dataclass(frozen=True)
class Matcher:
    """What a metric's label must be."""

    name: str
    op: promql_parser.MatchOp
    value: str

    def fits(self, value: str) -> bool:
        operators = promql_parser.MatchOp
        if self.op in (operators.Re, operators.NotRe):
            return (re.fullmatch(self.value, value) is not None) == (self.op == operators.Re)
        return (self.value == value) == (self.op == operators.Equal)


@dataclass(frozen=True)
class Selector:
    """A metric as an expression asks for it.

    labels: names it is matched, grouped or joined by.
    matchers: which of its series are asked for.
    """

    name: str
    labels: frozenset[str]
    matchers: tuple[Matcher, ...]

    @property
    def equal(self) -> dict[str, str]:
        """Values that labels must have."""
        return {m.name: m.value for m in self.matchers if m.op == promql_parser.MatchOp.Equal}

    def takes(self, **labels: str) -> bool:
        """Whether a series of these labels is among those asked for."""
        return all(matcher.fits(labels.get(matcher.name, "")) for matcher in self.matchers)


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Each with where it stands."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield f"annotation {annotation['name']!r}", annotation["expr"]
    for rule in alerts():
        yield f"alert {rule['alert']}", rule["expr"]


def selectors(text: str) -> list[Selector]:
    """The metrics of one expression. Raises ValueError when it is no PromQL or drops labels that it needs."""
    return list(walk(promql_parser.parse(text.replace("$__rate_interval", "5m")), frozenset()))


def walk(node: Any, labels: frozenset[str]) -> Iterator[Selector]:
    """labels: what the expressions around this one group and join by."""
    if isinstance(node, promql_parser.VectorSelector):
        matchers = tuple(Matcher(found.name, found.op, found.value) for found in node.matchers.matchers)
        names = {matcher.name for matcher in matchers}
        yield Selector(node.name, labels | names, matchers)
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from walk(node.vector_selector, labels)
    elif isinstance(node, promql_parser.AggregateExpr):
        kept = frozenset(node.modifier.labels if node.modifier else ())
        if node.modifier and node.modifier.type != promql_parser.AggModifierType.By:
            raise ValueError(f"{node.prettify()} groups by something else than `by`")
        if not labels <= kept:
            raise ValueError(f"{node.prettify()} drops {set(labels - kept)}, which is needed around it")
        yield from walk(node.expr, kept)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from walk(argument, labels | ({"le"} if node.func.name == "histogram_quantile" else set()))
    elif isinstance(node, promql_parser.BinaryExpr):
        joined = labels | set(
            node.modifier.matching.labels if node.modifier and node.modifier.matching else ()
        )
        yield from walk(node.lhs, joined)
        yield from walk(node.rhs, joined)
    elif isinstance(node, promql_parser.ParenExpr | promql_parser.SubqueryExpr | promql_parser.UnaryExpr):
        yield from walk(node.expr, labels)
    else:
        assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), type(node)
