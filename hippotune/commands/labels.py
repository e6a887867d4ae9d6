"""`labels`, `labels rename`, `labels forget`: the classes that are known, and orders about one of them."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from hippotune import checks, completion
from hippotune.commands.learning import WaitS, print_outcomes, watch
from hippotune.flags import Json, with_settings
from hippotune.listings import print_labels
from hippotune.output import print_json
from hippotune.setting_types import Part
from hippotune.settings import Settings

LISTED = 1000


def _named(label: str) -> str:
    """A label as it was typed. Raises typer.BadParameter for none, as of a variable of a script that is empty."""
    try:
        return checks.label(label)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; `hippotune labels` lists them") from None


Wait = Annotated[bool, typer.Option("--wait", help="Return once it is carried out; 1 if it cannot be.")]
Known = Annotated[
    str,
    typer.Argument(autocompletion=completion.labels, callback=_named, help="What the class is called."),
]


@with_settings(Part.CLIENT)
def labels(
    settings: Settings,
    contains: Annotated[
        str, typer.Option(help="Only labels with this in them, in upper or lower case.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most labels listed.")] = LISTED,
    as_json: Json = False,
) -> None:
    """List labels, sorted, each with how many images taught it and the newest task that did."""
    with settings.client() as client:
        found = list(islice(client.labels(contains), limit + 1))
    if as_json:
        print_json(found[:limit])
    else:
        print_labels(found[:limit], more=len(found) > limit)


@with_settings(Part.CLIENT)
def rename(
    settings: Settings,
    old: Known,
    new: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.labels,
            callback=_named,
            help="What it is to be called; a known label makes one class of the two.",
        ),
    ],
    wait: Wait = False,
    wait_s: WaitS = None,
    as_json: Json = False,
) -> None:
    """Rename a class, or merge it with another; nothing is trained."""
    with settings.client() as client:
        order, late = watch([client.rename_label(old, new)], client, wait, wait_s)
    print_outcomes(order, as_json, late)


@with_settings(Part.CLIENT)
def forget(
    settings: Settings,
    label: Known,
    wait: Wait = False,
    wait_s: WaitS = None,
    as_json: Json = False,
) -> None:
    """Forget a class; all others stay as they are."""
    with settings.client() as client:
        order, late = watch([client.forget_label(label)], client, wait, wait_s)
    print_outcomes(order, as_json, late)
