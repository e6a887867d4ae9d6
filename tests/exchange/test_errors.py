"""What of an error is for clients of the service."""

import pytest

from exchange.errors import ExchangeUnavailable, TaskNotFound, told_of


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/srv/a store/000001.json"),
            "No such file or directory",
        ),
        (
            FileNotFoundError("No such file or directory: /srv/a store/000001.json"),
            "No such file or directory: 000001.json",
        ),
        (
            RuntimeError('I/O error (os error 2) at path "/srv/it/.tmp5l"'),
            'I/O error (os error 2) at path ".tmp5l"',
        ),
        (
            RuntimeError("Load /srv/x.onnx failed:Load /srv/x.onnx failed"),
            "Load x.onnx failed:Load x.onnx failed",
        ),
        (ValueError("6/7 of cat/dog"), "6/7 of cat/dog"),
        (MemoryError(), "MemoryError"),
        (TaskNotFound("no task '/srv/x'"), "no task '/srv/x'"),
        (
            ExchangeUnavailable("Redis cannot be reached: 10.0.0.1", "Redis cannot be reached"),
            "Redis cannot be reached",
        ),
    ],
)
def test_clients_are_told_what_went_wrong_and_not_where(error, expected):
    assert told_of(error) == expected
