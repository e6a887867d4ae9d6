"""`hippotune labels`: what is known is listed, renamed, merged and forgotten."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest

from hippotune import Client, TaskFailed
from hippotune.demo.data import DemoTask
from tests.hippotune.conftest import Up, hippotune, trainer_of


def told(server: Up, *arguments: str) -> Any:
    """What a command prints as JSON."""
    result = hippotune(*arguments, "--json", "--url", server.address)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def animals(server: Up, tasks: list[DemoTask]) -> str:
    """Id of the newest of two tasks that taught three labels to the shared server."""
    with Client(server.address) as client:
        images = [example.image for example in tasks[3].train]
        client.wait(client.submit([(images[0], "cat"), (images[1], "lynx")], "felines"))
        return client.wait(client.submit([(images[2], "cat"), (images[3], "carp")], "animals")).id


def test_the_command_line_lists_labels(server: Up, animals: str) -> None:
    [cat] = told(server, "labels", "--contains", "CAT")
    assert (cat["label"], cat["images"], cat["tasks"][-1], len(cat["tasks"])) == ("cat", 2, animals, 2)
    url = ("--url", server.address)
    table = hippotune("labels", "--contains", "ca", *url).stdout
    assert table.startswith("2 labels\n")
    assert re.search(rf"^ *cat +2 +{animals} and 1 more *$", table, re.MULTILINE)
    assert re.search(rf"^ *carp +1 +{animals} *$", table, re.MULTILINE)
    assert [one["label"] for one in told(server, "labels", "list", "--contains", "ca", "--limit", "1")] == [
        "carp"
    ]
    first = hippotune("labels", "--contains", "ca", "--limit", "1", *url).stdout
    assert first.startswith("1 label and more; --limit lists them\n")
    assert hippotune("labels", "--limit", "0", *url).returncode == 2


@pytest.mark.usefixtures("animals")
def test_the_command_line_renames_merges_and_forgets(server: Up, client: Client) -> None:
    url = ("--url", server.address)
    order = told(server, "labels", "rename", "lynx", "a/big cat", "--wait")
    assert (order["state"], order["change"]) == ("consolidated", {"label": "lynx", "becomes": "a/big cat"})
    assert [one.images for one in client.labels("a/big cat")] == [1]
    merged = hippotune("labels", "rename", "a/big cat", "cat", "--wait", *url)
    assert merged.returncode == 0, merged.stderr
    assert re.search("^name +rename: a/big cat -> cat$", merged.stdout, re.MULTILINE)
    assert not re.search("^(images|labels)", merged.stdout, re.MULTILINE), "an order has none"
    assert "rename: a/big cat -> cat" in hippotune("tasks", *url).stdout
    assert [one.images for one in client.labels("cat")] == [3]
    order = told(server, "labels", "forget", "cat", "--wait-s", "60")
    assert (order["state"], order["change"]) == ("consolidated", {"label": "cat", "becomes": None})
    assert list(client.labels("cat")) == []


def test_an_order_that_cannot_be_is_told(server: Up) -> None:
    url = ("--url", server.address)
    unknown = hippotune("labels", "forget", "unicorn", *url)
    assert unknown.returncode == 4
    assert "label is 'unicorn'; it must be one that GET /labels lists" in unknown.stderr
    for words in (("forget", ""), ("rename", "", "cat"), ("rename", "cat", "")):
        nothing = hippotune("labels", *words, *url)
        assert nothing.returncode == 2
        assert "'' is no label; `hippotune labels` lists them" in " ".join(
            nothing.stderr.replace("│", "").split()
        )


def test_an_order_that_comes_too_late_fails(server: Up, client: Client, tasks: list[DemoTask]) -> None:
    """The first is under way while the second is given, and takes the class with it."""
    client.wait(client.submit([(tasks[4].train[0].image, "mayfly")], "mayfly"))
    trainer = trainer_of(server.process, server.store)
    assert trainer, "0 would be this process and all beside it"
    os.kill(trainer, signal.SIGSTOP)
    try:
        client.forget_label("mayfly")
        late = client.rename_label("mayfly", "gnat")
    finally:
        os.kill(trainer, signal.SIGCONT)
    with pytest.raises(TaskFailed, match="no class is called 'mayfly' any more"):
        client.wait(late)
    again = hippotune("tasks", "retry", late.id, "--url", server.address)
    assert again.returncode == 4
    assert "give it anew" in again.stderr
