"""`doctor`: what is installed, what answers, what is slow and why."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hippotune import logs
from hippotune.errors import HippoTuneError
from hippotune.flags import Json, with_settings
from hippotune.output import print_json
from hippotune.setting_types import Part
from hippotune.settings import Settings

MARKS = {"ok": "[green]ok[/green]   ", "note": "[yellow]note[/yellow] ", "wrong": "[red]wrong[/red]"}


class Unwell(HippoTuneError):
    """Something without which the service does not run."""


@with_settings(Part.COMMON, Part.CLIENT)
def doctor(
    settings: Settings,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on notes too.")] = False,
    as_json: Json = False,
) -> None:
    """Look at this machine and its settings: what is installed, what answers, what is slow and why."""
    from hippotune.doctor import examine

    logs.configure("warning")  # on stderr; left alone it is on stdout, beside the findings
    console, findings = Console(highlight=False, soft_wrap=True), []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            console.print(f"{MARKS[finding.verdict]} {finding.name:<11} {escape(finding.found)}")
            if finding.advice:
                console.print(f"{'':>17}  [dim]{escape(finding.advice)}[/dim]")
    if as_json:
        print_json(findings)
    if bad := [f.name for f in findings if f.verdict == "wrong" or (strict and f.verdict == "note")]:
        raise Unwell(f"not well: {', '.join(dict.fromkeys(bad))}")
