"""Write what the program itself knows into the documentation: `python -m docs.reference`.

docs/api.md from the OpenAPI document, docs/settings.md and hippotune/defaults.py from the settings, the tables of
metrics and alerts in docs/operating.md, those of the Python client in docs/client.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures.regions import filled
from docs import client, settings
from docs.tables import body, table
from service.app import create_app
from service.config import ServiceConfig
from service.http.api_keys import Role, create
from service.http.problems import DESCRIPTIONS
from service.metrics import Metrics

ROOT = Path(__file__).parent.parent
Schema = dict[str, Any]
LINE = 96
"""Characters that an example may be wide."""
METHODS = ("get", "post", "put", "patch", "delete")
INTRODUCTION = """# HTTP reference

Made from the server's own OpenAPI document, which it serves at `/openapi.json` and shows at `/docs`.

## Errors

Every error is a [problem document](#problemdocument) (RFC 9457): `detail` is for people, `errors` for programs, with
the field, its value and what is allowed. Under `/v2` it is `{"error": "..."}`, as that protocol has it.
What is no sound HTTP has no path yet, and gets a problem document whatever it was meant for.

Every answer carries `X-Request-ID`, by which [the server's log](operating.md#the-log) names the request: the id that
the request brought in that header, if it is printable and has at most 128 characters, else a new one. Where the server
is at fault (5xx), the problem document repeats it as `request_id`.

A client that closes its side of the connection before it has the answer counts as gone, even where it reads on: its
images are not computed, and it is sent nothing. A task that had come whole by then is learned all the same.
"""

PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "tmax is 99; it must lie in 1..4",
    "errors": [{"field": "tmax", "value": 99, "allowed": "lie in 1..4"}],
}


def main(check: bool) -> int:
    """Write the files; with `check` only say which are stale. Answers the exit code."""
    stale = [(path, text) for path, text in pages() if not path.exists() or path.read_text() != text]
    for path, text in stale:
        print(f"{path.relative_to(ROOT)} {'is stale: run python -m docs.reference' if check else 'written'}")
        if not check:
            path.write_text(text)
    return int(check and bool(stale))


def pages() -> Iterator[tuple[Path, str]]:
    """Every file this writes, with what belongs in it."""
    config = ServiceConfig("redis://nowhere", Path("nowhere"), api_keys=create("any", [Role.ADMIN])[1].line())
    document = create_app(config).openapi()
    yield ROOT / "docs/api.md", api(document)
    yield ROOT / "docs/settings.md", settings.page()
    yield ROOT / "hippotune/defaults.py", settings.module()
    bodies = {
        "metrics": metrics(),
        "alerts": alerts(),
        "methods": body(("call", "answers", "meaning"), client.methods()),
        "answers": body(("record", "what it is", "fields"), client.answers()),
        "raised": body(("error", "raised when"), client.raised()),
    }
    for page in (ROOT / "docs/operating.md", ROOT / "docs/client.md"):
        yield page, filled(page.read_text(), "reference", bodies)


def api(document: Schema) -> str:
    """The OpenAPI document as Markdown: calls by their tag, then what they answer with."""
    lines, tag = [INTRODUCTION, *example(PROBLEM), *errors()], ""
    for path, item in document["paths"].items():
        for method in (method for method in METHODS if method in item):
            operation = item[method]
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                lines.append(f"## {tag.capitalize()}\n")
            lines += call(method, path, operation)
    lines.append("## Records\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += record(name, schema)
    return "\n".join(lines)


def call(method: str, path: str, operation: Schema) -> list[str]:
    summary = operation["summary"]
    lines = [f"### `{method.upper()} {path}`\n", summary + ("" if summary[-1] in ".?" else ".") + "\n"]
    if operation.get("description"):
        lines.append(operation["description"] + "\n")
    parameters = [
        [
            f"`{one['name']}`",
            one["in"],
            kind(one["schema"]),
            one.get("description", "") + usual(one["schema"]),
        ]
        for one in operation.get("parameters", ())
    ]
    lines += table(("parameter", "in", "kind", "meaning"), parameters)
    if body := operation.get("requestBody"):
        if body.get("description"):
            lines.append(body["description"] + "\n")
        contents = [[f"`{media}`", fields(one.get("schema", {}))] for media, one in body["content"].items()]
        lines += table(("body", "content"), contents)
    answers = sorted(operation["responses"].items())
    good = [(status, one) for status, one in answers if int(status) < 400]
    lines += table(
        ("answer", "meaning", "content"), [[status, one["description"], answer(one)] for status, one in good]
    )
    for _, one in good:
        for content in one.get("content", {}).values():
            lines += example(content["example"]) if "example" in content else []
    bad = [status for status, _ in answers if int(status) >= 400]
    return [*lines, f"[Errors](#errors): {', '.join(bad)}.\n"] if bad else lines


def usual(schema: Schema) -> str:
    """What a parameter is when it is left out, if that is a number."""
    default = schema.get("default")
    return f" {default} unless given." if isinstance(default, int | float) and default is not False else ""


def answer(response: Schema) -> str:
    """What a response holds: a record where there is one, else the media type."""
    return "; ".join(
        kind(content["schema"]) if "$ref" in str(content.get("schema")) else f"`{media}`"
        for media, content in response.get("content", {}).items()
    )


def example(shown: Any) -> list[str]:
    """A block of JSON, or of text as it is."""
    if isinstance(shown, str):
        return [f"```text\n{shown.rstrip()}\n```\n"]
    return [f"```json\n{laid_out(shown)}\n```\n"]


def laid_out(value: Any, indent: str = "") -> str:
    """JSON with every list and object on one line that fits into a line."""
    flat, inner = json.dumps(value), indent + "  "
    if len(inner + flat) <= LINE or not isinstance(value, dict | list):
        return flat
    if isinstance(value, list):
        begin, parts, end = "[", [laid_out(each, inner) for each in value], "]"
    else:
        parts = [f"{json.dumps(name)}: {laid_out(each, inner)}" for name, each in value.items()]
        begin, end = "{", "}"
    return f"{begin}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{end}"


def errors() -> list[str]:
    """What each status means: those that a call names, and those that any may meet with."""
    return table(
        ("status", "meaning"), [[str(status), meaning] for status, meaning in sorted(DESCRIPTIONS.items())]
    )


def fields(schema: Schema) -> str:
    """A body in a cell: its fields if it names any."""
    named = schema.get("properties")
    return ", ".join(f"`{name}`: {kind(one)}" for name, one in named.items()) if named else kind(schema)


def record(name: str, schema: Schema) -> list[str]:
    lines = [f"### {name}\n"]
    if schema.get("description"):
        lines.append(schema["description"] + "\n")
    if "properties" not in schema:
        return [*lines, kind(schema) + "\n"]
    rows = [
        [f"`{field}`", kind(one), one.get("description", "")] for field, one in schema["properties"].items()
    ]
    return [*lines, *table(("field", "kind", "meaning"), rows)]


def kind(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if "items" in schema else "list"
    low, high = schema.get("minimum", ""), schema.get("maximum", "")
    limits = f" {low}..{high}" if (low, high) != ("", "") else ""
    return f"{schema.get('format') or schema.get('type', 'anything')}{limits}"


def metrics() -> str:
    """What /metrics exposes."""
    rows = []
    for metric in Metrics().registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        rows.append([f"`{name}`", metric.type, metric.documentation])
    return body(("metric", "kind", "meaning"), rows)


def alerts() -> str:
    """The rules of alerts.yml."""
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    rows = [
        [f"`{rule['alert']}`", rule["labels"]["severity"], rule["annotations"]["summary"]] for rule in rules
    ]
    return body(("alert", "severity", "meaning"), rows)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
