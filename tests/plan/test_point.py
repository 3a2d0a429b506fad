"""What the ids of points are made of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hpcbench.plan.point import ServerVariant, server_identity
from tests.helpers.builders import triton_model, variant


@pytest.mark.parametrize(
    "server",
    [
        variant(),
        variant(instance_count=1, warmup=True, preferred_batch_size=(4, 8), accelerator=None),
        # For a mapping, true and 1 are one key.
        variant(instance_count=True, warmup=1),
        variant(config='{"a": "b"}', max_batch_size=8, version=2),
        replace(variant(triton_model("Täger"), response_cache=False), flags=("--a", "--b=1")),
    ],
)
def test_the_identity_of_a_server_is_the_canonical_json_of_what_is_no_default(
    server: ServerVariant,
) -> None:
    whole = {
        "model": server.model.name,
        "digest": "d1",
        "version": server.version,
        "changes": dict(server.changes),
        "flags": list(server.flags),
        "image": "sha",
    }
    said = {name: value for name, value in whole.items() if value not in (None, {}, [])}
    expected = json.dumps(said, sort_keys=True, separators=(",", ":"))
    assert server_identity(server, "sha") == expected
