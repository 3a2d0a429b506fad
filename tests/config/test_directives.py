"""What a site file may put into a job script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbench.config.site import SYSTEMS, Site
from tests.helpers.builders import batch_site, refusal, write_site


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"partition": "a\nb"}, "partition: must be one word"),
        ({"qos": "a b"}, "qos: must be one word"),
        ({"constraint": "a\x85b"}, "constraint: must be one word"),
        ({"partition": 5}, "partition: must be a string"),
        ({"prologue": ["a\nb"]}, "prologue.0: must be one line of printable characters"),
        ({"prologue": ["a \\"]}, "prologue.0: must not end with a backslash"),
        ({"directives": ["--a\nb"]}, "'--a\\nb': must be one line of printable characters"),
        ({"directives": ["exclusive"]}, "'exclusive' must be an option of sbatch"),
        ({"directives": [5]}, "directives: 5: must be a string, such as --exclusive"),
        ({"directives": "--exclusive"}, "must be a list of options for Slurm, a mapping for"),
        ({"directives": {"a": 1}}, "pools.gpu.directives: slurm wants a list"),
        ({"account_suffix": "a;b"}, "allowed: letters, digits and _ . @ -"),
    ],
)
def test_what_would_not_be_one_line_is_refused_with_its_key(
    pool: dict[str, Any], words: str
) -> None:
    message = refusal(batch_site, pool=pool)
    assert words in message
    assert "pools.gpu." in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "directive",
    ["--job-name=x", "-J x", "-Jx", "--output=x", "-e x", "--array=1-9", "--exclusive --wait"],
)
def test_an_option_that_hpcbench_gives_itself_is_refused(directive: str) -> None:
    message = refusal(batch_site, pool={"directives": [directive]})
    assert "pools.gpu.directives: " in message
    assert "is hpcbench's own: " in message


@pytest.mark.parametrize("key", ["queue", "include", "a b", "a=b", "x:", "", "if", "Use", "5"])
def test_a_directive_that_is_no_attribute_of_a_job_is_refused(key: str) -> None:
    message = refusal(batch_site, "htcondor", {"directives": {key: "1"}})
    assert "must be a command or an attribute of an HTCondor job" in message


@pytest.mark.parametrize("key", [5, True, None])
def test_a_directive_whose_name_is_no_string_is_refused(key: Any) -> None:
    message = refusal(batch_site, "htcondor", {"directives": {key: "1"}})
    assert f"pools.gpu.directives: {key!r}: must be a string, such as request_gpus" in message


def test_a_mistake_in_directives_is_reported_with_its_line(tmp_path: Path) -> None:
    pools = {"gpu": {"max_jobs": 2, "directives": ["--job-name=x"]}}
    path = write_site(tmp_path, scheduler="slurm", pools=pools)
    line = next(
        n for n, text in enumerate(path.read_text().splitlines(), 1) if "directives" in text
    )
    assert f"{path}:{line}: pools.gpu.directives: --job-name" in refusal(Site.load, path)


@pytest.mark.parametrize("key", ["Error", "LOG", "arguments", "+HpcbenchRun", "MY.hpcbenchrun"])
def test_an_attribute_that_hpcbench_gives_itself_is_refused(key: str) -> None:
    message = refusal(batch_site, "htcondor", {"directives": {key: "1"}})
    assert f"{key} is hpcbench's own: " in message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x\\", "must not end with a backslash"),
        ("x\ny", "one line"),
        ("", "one line"),
        ([1], "must be a string, a number, true or false"),
        (None, "must be a string, a number, true or false"),
    ],
)
def test_a_value_that_is_not_one_line_is_refused(value: Any, words: str) -> None:
    message = refusal(batch_site, "htcondor", {"directives": {"MY.Flavour": value}})
    assert "pools.gpu.directives: MY.Flavour: " in message
    assert words in message


@pytest.mark.parametrize(
    ("option", "asked"),
    [
        ("--gres=gpu:a100:2", {"--gres=gpu:a100:2": 2}),
        ("--gres gpu", {"--gres=gpu": 1}),
        ("--gres=lustre:4,gpu:a100:1,gpu:t4:2", {"--gres=lustre:4,gpu:a100:1,gpu:t4:2": 3}),
        ("--gpus=h100:1", {"--gpus=h100:1": 1}),
        ("--gpus-per-node=4", {"--gpus-per-node=4": 4}),
        ("--tres-per-node=gres/gpu:2", {"--tres-per-node=gres/gpu:2": 2}),
        ("-G 1", {"-G 1": 1}),
        ("-G3", {"-G 3": 3}),
        ("--exclusive --gpus=0", {"--gpus=0": 0}),
        ("--gpus-per-task=2", {"--gpus-per-task=2": None}),
        ("--exclude=gpu17", {}),
        ("--comment=gpu", {}),
        ("--comment=--gpus=4", {}),
        ("--gres=lustre:1", {}),
        ("--gres=none", {}),
    ],
)
def test_an_option_of_sbatch_asks_for_so_many_gpus_or_only_names_them(
    option: str, asked: dict[str, int | None]
) -> None:
    assert SYSTEMS["slurm"].asked_gpus((option,)) == asked


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [("request_gpus", "2", 2), ("Request_GPUs", "0", 0), ("MY.RequestGPUs", "TARGET.x", None)],
)
def test_an_htcondor_job_asks_for_gpus_by_either_name_of_the_attribute(
    key: str, value: str, number: int | None
) -> None:
    asked = SYSTEMS["htcondor"].asked_gpus({key: value, "MY.WantGPULab": "true"})
    assert asked == {f"{key}: {value}": number}
