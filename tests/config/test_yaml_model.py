"""Messages for the person who wrote the file: never a traceback, always the place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from hpcbench.config import yaml_model
from hpcbench.errors import BadInput, did_you_mean
from tests.helpers.builders import refusal


class Wheel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    spokes: int = Field(default=32, ge=1, strict=True)


class Bicycle(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    shed: dict[str, Wheel] = {}
    color: str = Field(default="red", alias="colour")


def load(path: Path, text: str) -> Bicycle:
    path.write_text(text)
    return yaml_model.load_yaml(path, Bicycle)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bicycle.yaml"


def test_a_right_file_is_read(path: Path) -> None:
    bicycle = load(path, "name: b\nwheels: [{spokes: 8}, {}]\ncolour: blue\n")
    assert bicycle == Bicycle(name="b", wheels=(Wheel(spokes=8), Wheel()), colour="blue")


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("name: b\nwheles: []\n", 2, "wheles", "unknown key; did you mean 'wheels'?"),
        ("name: b\nzzz: 1\n", 2, "zzz", "allowed here: name, wheels, spare, shed, colour"),
        ("name: b\ncolor: red\n", 2, "color", "did you mean 'colour'?"),
        (
            "name: b\nwheels:\n  - {}\n  - spoke: 3\n",
            4,
            "wheels.1.spoke",
            "did you mean 'spokes'? allowed here: spokes",
        ),
        ("name: b\nspare: {spoks: 3}\n", 2, "spare.spoks", "did you mean 'spokes'?"),
        ("name: b\nshed:\n  a:\n    spoks: 3\n", 4, "shed.a.spoks", "did you mean 'spokes'?"),
        ("name: b\nwheels:\n- spokes: x\n", 3, "wheels.0.spokes", "whole number (given: 'x')"),
        ("name: b\nwheels:\n- spokes: 0\n", 3, "wheels.0.spokes", "equal to 1 (given: 0)"),
        ("name: b\nwheels: 3\n", 2, "wheels", "must be a list (given: 3)"),
        ("name: 3\n", 1, "name", "must be a string (given: 3)"),
        ("name: b\nspare: x\n", 2, "spare", "must be a mapping of keys to values"),
    ],
)
def test_a_mistake_is_reported_with_line_key_and_what_is_allowed(
    path: Path, text: str, line: int, key: str, words: str
) -> None:
    message = refusal(load, path, text)
    assert message.startswith(f"{path}:{line}: {key}: ")
    assert words in message
    assert len(message.splitlines()) == 1


def test_a_missing_key_is_named_with_its_whole_path(path: Path) -> None:
    assert refusal(load, path, "colour: red\n") == f"{path}: name: is missing"


def test_all_mistakes_are_reported_at_once(path: Path) -> None:
    message = refusal(load, path, "nam: b\nwheels: [{spokes: 0}, {spoke: 1}]\ncolour: [1]\n")
    assert len(message.splitlines()) == 5
    for part in ("nam:", "name: is missing", "wheels.0.spokes", "wheels.1.spoke", "colour"):
        assert part in message


def test_a_mistake_is_reported_once(path: Path) -> None:
    lines = refusal(load, path, "name: b\nspare: [1]\nwheels: [1, 1]\n").splitlines()
    assert len(lines) == len(set(lines)) == 3


@pytest.mark.parametrize("name", ["spokes", "spare", "wheels"])
def test_a_key_of_the_users_own_may_be_called_like_a_key_of_ours(path: Path, name: str) -> None:
    """What is allowed below it is said all the same."""
    message = refusal(load, path, f"name: b\nshed:\n  {name}:\n    spoks: 3\n")
    assert "did you mean 'spokes'? allowed here: spokes" in message


@pytest.mark.parametrize("text", ["", "# only a comment\n", "[1, 2]", "just words", "null", "3"])
def test_a_file_that_holds_no_mapping_is_reported(path: Path, text: str) -> None:
    assert refusal(load, path, text) == f"{path}: is empty or not a mapping of keys to values"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: b\n\tcolour: red\n", 2),
        ("name: b\ncolour: [red\n", 3),
        ("name: b\ncolour: *nowhere\n", 2),
        ("name: b\n---\nname: c\n", 2),
        ("name: b\ncolour: !!python/object:os.system {}\n", 2),
        ("name: b\ncolour: 'red\n", 3),
        ("name: b\n{{ colour }}: red\n", 2),
        ("name: b\ncolour: {{ colour }}\n", 2),
        ("name: b\n? [a, b]\n: c\n", 2),
    ],
)
def test_what_is_not_yaml_is_reported_with_its_line(path: Path, text: str, line: int) -> None:
    message = refusal(load, path, text)
    assert message.startswith(f"{path}:{line}: ")
    assert "Traceback" not in message


def test_a_date_that_does_not_exist_is_reported(path: Path) -> None:
    """YAML takes every text of that form for a date."""
    assert refusal(load, path, "name: 2026-02-30\n").startswith(str(path))


def test_a_list_that_holds_itself_is_refused(path: Path) -> None:
    assert str(path) in refusal(load, path, "name: b\nwheels: &w [*w]\n")


def test_an_anchor_may_stand_in_several_places(path: Path) -> None:
    bicycle = load(path, "name: b\nspare: &w {spokes: 3}\nwheels: [*w, *w]\n")
    assert bicycle.wheels == (bicycle.spare, bicycle.spare)


def test_a_key_that_stands_twice_is_a_mistake_and_not_a_choice(path: Path) -> None:
    message = refusal(load, path, "name: b\ncolour: red\nspare: {}\ncolour: blue\n")
    assert message == f"{path}:4: colour: appears twice; the first is in line 2"


def test_a_key_that_stands_twice_further_down_is_found_too(path: Path) -> None:
    message = refusal(load, path, "name: b\nwheels:\n- spokes: 1\n  spokes: 2\n")
    assert message == f"{path}:4: wheels.0.spokes: appears twice; the first is in line 3"


@pytest.mark.parametrize("text", ["name: b\n1: 2\n", "name: b\ntrue: 2\n", "name: b\nno: 2\n"])
def test_a_key_that_is_no_text_is_a_mistake_in_one_line(path: Path, text: str) -> None:
    message = refusal(load, path, text)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    message = refusal(yaml_model.load_yaml, path, Bicycle)
    assert message == f"{path}: cannot be read: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(yaml_model.load_yaml, tmp_path, Bicycle)


def test_a_file_that_is_no_text_is_reported(path: Path) -> None:
    path.write_bytes(b"name: \xff\xfe\n")
    assert refusal(yaml_model.load_yaml, path, Bicycle).startswith(f"{path}: cannot be read: ")


def test_a_file_that_may_not_be_read_is_reported(path: Path) -> None:
    path.write_text("name: b\n")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything: be somebody else for a moment
        os.seteuid(65534)
    try:
        message = refusal(yaml_model.load_yaml, path, Bicycle)
    finally:
        os.seteuid(os.getuid())
    assert message == f"{path}: cannot be read: Permission denied"


def test_a_mapping_from_elsewhere_is_validated_without_lines(tmp_path: Path) -> None:
    message = refusal(
        yaml_model.validate, {"name": "b", "spar": {}}, Bicycle, source="here", folder=tmp_path
    )
    assert message.startswith("here: spar: unknown key; did you mean 'spare'?")


def test_only_a_close_word_is_offered() -> None:
    assert did_you_mean("concurency", ["batch_size", "concurrency"]) == (
        " did you mean 'concurrency'?"
    )
    assert did_you_mean("xyz", ["batch_size", "concurrency"]) == ""


@settings(max_examples=150)
@given(text=st.text(alphabet="ab:{}[],-?&*!|>'\"#%@ \n\t0129.", max_size=40))
def test_no_text_at_all_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    message = None
    try:
        yaml_model.load_yaml(path, Bicycle)
    except BadInput as error:
        message = str(error)
    assert message is None or message.startswith(str(path))
