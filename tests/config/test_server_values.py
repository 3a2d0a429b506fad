"""Options of tritonserver in a campaign: one each, and none of those that hpcbench needs itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench import Campaign
from hpcbench.config.server_values import flag_name
from tests.helpers.builders import refusal, write_campaign


def test_options_as_deployments_have_them_are_taken(tmp_path: Path) -> None:
    flags = [
        "--backend-config=onnxruntime,enable-global-threadpool=1",
        "--pinned-memory-pool-byte-size=268435456",
        "--cache-config=local,size=1048576",
        "--metrics-interval-ms=500",
        "--grpc-keepalive-time=10000",
    ]
    found = Campaign.load(write_campaign(tmp_path, server_flags=flags)).server_flags
    assert list(found) == flags
    assert [flag_name(flag) for flag in found] == [flag.split("=")[0] for flag in flags]


@pytest.mark.parametrize(
    "flag",
    [
        *("--model-repository=/x", "--model-control-mode=explicit", "--load-model=a", "--id=x"),
        *("--http-port=1", "--grpc-address=0.0.0.0", "--metrics-port=1", "--allow-grpc=false"),
        *("--log-verbose=1", "--exit-timeout-secs=1", "--backend-directory=/x", "--trace-config=x"),
    ],
)
def test_what_hpcbench_gives_itself_is_refused(tmp_path: Path, flag: str) -> None:
    message = refusal(Campaign.load, write_campaign(tmp_path, server_flags=[flag]))
    assert "server_flags.0: " in message
    assert f"{flag_name(flag)} is hpcbench's own" in message


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--model-repo=/x", "--model-repository"),
        ("--http-po=1", "--http-port"),
        ("--log-v=1", None),
        ("--metrics", "--metrics-port"),
        ("--exit", "--exit-on-error"),
    ],
)
def test_the_beginning_of_one_of_them_is_refused_because_triton_takes_it_for_it(
    tmp_path: Path, flag: str, meant: str | None
) -> None:
    message = refusal(Campaign.load, write_campaign(tmp_path, server_flags=[flag]))
    assert "is hpcbench's own" in message
    if meant:
        assert f"{flag_name(flag)}: tritonserver may read it as {meant}, which" in message
        assert "write the option in full" in message


@pytest.mark.parametrize("flag", ["backend-config=a", "-x", "--a b", "--a=1\n--b=2", "--", 5])
def test_an_option_is_one_word_with_its_value(tmp_path: Path, flag: object) -> None:
    assert "server_flags.0: " in refusal(
        Campaign.load, write_campaign(tmp_path, server_flags=[flag])
    )
