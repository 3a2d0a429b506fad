"""The campaign file: what it may say, and the message where it says something else."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from hpcbench.cluster import run_state
from hpcbench.config.campaign import Campaign, Load, Server
from hpcbench.config.server_values import Accelerator
from hpcbench.errors import BadInput
from tests.helpers.builders import campaign, expanded, refusal, triton_model, write_campaign

BASE = "name: study\nmodel_repository: models\nmodels:\n  - name: tagger\n"
"""Four lines of a right file; what a test adds begins in line 5."""


def load(folder: Path, added: str) -> Campaign:
    path = folder / "campaign.yaml"
    path.write_text(BASE + added)
    return Campaign.load(path)


CONTRACT = """
name: particlenet-batch-scan
model_repository: ../../models            # relative to this file
models:
  - name: particlenet_AK4
    label: PN-AK4 ONNX
    shapes: {pf_points: [2, 50], sv_mask: [1, 4]}
server:                                   # axes that need another Triton configuration
  instance_count: [1, 2]
  preferred_batch_size: [null, [4, 8]]
  max_queue_delay_us: [100]
  accelerator: [null, {name: tensorrt, precision_mode: FP16}]
load:                                     # axes that perf_analyzer sweeps against one server
  batch_size: [1, 4, 8, 16, 32, 64, 128]
  concurrency: [4]
measurement:
  protocol: grpc
  async: true
  percentile: 95
  measurement_interval_ms: 9000
  input_data: random                      # random | zero | a JSON file
repeats: 3
"""


def test_the_campaign_of_the_contract_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "campaign.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CONTRACT)
    study = Campaign.load(path)
    assert study.model_repository == tmp_path / "models"
    assert study.models[0].shapes == {"pf_points": (2, 50), "sv_mask": (1, 4)}
    assert study.server_axes.preferred_batch_size == (None, (4, 8))
    assert study.server_axes.accelerator == (
        None,
        Accelerator(name="tensorrt", precision_mode="FP16"),
    )
    assert study.load_axes.batch_size == (1, 4, 8, 16, 32, 64, 128)
    assert study.measurement.asynchronous == (True,)
    assert study.measurement.percentile == (95,)
    assert study.repeats == 3
    assert study.source == str(path)


def test_a_campaign_needs_no_more_than_a_name_a_repository_and_a_model(tmp_path: Path) -> None:
    study = load(tmp_path, "")
    assert study.server_axes == Server()
    assert study.load_axes == Load()
    assert study.repeats == 1
    assert study.measurement.protocol == ("grpc",)


def test_the_same_campaign_may_be_written_in_python(tmp_path: Path) -> None:
    read = load(tmp_path, "load: {batch_size: [1, 2]}\nserver: {instance_count: [2]}\n")
    written = Campaign(
        name="study",
        model_repository=tmp_path / "models",
        models=[{"name": "tagger"}],
        load=Load(batch_size=(1, 2)),
        server=Server(instance_count=(2,)),
    )
    assert written.model_dump() == read.model_dump()


def test_one_value_is_an_axis_of_one(tmp_path: Path) -> None:
    study = load(tmp_path, "load: {batch_size: 8, concurrency: 4}\nserver: {instance_count: 2}\n")
    assert study.load_axes == Load(batch_size=(8,), concurrency=(4,))
    assert study.server_axes.instance_count == (2,)


def test_every_server_axis_can_keep_what_the_model_says(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "server: {instance_count: [base, 2], preferred_batch_size: [base, null, [], [4]],"
        " max_queue_delay_us: [base, 0], accelerator: [base, null, {name: openvino}]}\n",
    )
    assert study.server_axes == Server(
        instance_count=("base", 2),
        preferred_batch_size=("base", None, (), (4,)),
        max_queue_delay_us=("base", 0),
        accelerator=("base", None, Accelerator(name="openvino")),
    )


def test_no_campaign_can_be_changed_once_it_is_there() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        campaign().repeats = 3


def test_relative_paths_are_relative_to_the_file_and_not_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    path = write_campaign(
        tmp_path / "study",
        model_repository="../repository",
        measurement={"input_data": "data/jets.json"},
    )
    monkeypatch.chdir(tmp_path)
    for given in (path, Path("study/campaign.yaml")):
        study = Campaign.load(given)
        assert study.model_repository == tmp_path / "repository"
        assert study.measurement.input_data == (str(tmp_path / "study" / "data" / "jets.json"),)


def test_home_and_absolute_paths_stay_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    study = Campaign.load(
        write_campaign(
            tmp_path, model_repository="~/models", measurement={"input_data": "/data/x.json"}
        )
    )
    assert study.model_repository == Path("/home/somebody/models")
    assert study.measurement.input_data == ("/data/x.json",)


@pytest.mark.parametrize("word", ["random", "zero"])
def test_random_and_zero_are_words_and_not_files(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, f"measurement: {{input_data: {word}}}\n").measurement.input_data == (
        word,
    )


@pytest.mark.parametrize(
    ("added", "line", "key", "words"),
    [
        ("lod: {}\n", 5, "lod", "did you mean 'load'? allowed here: name, model_repository"),
        ("load:\n  batchsize: [1]\n", 6, "load.batchsize", "did you mean 'batch_size'?"),
        ("load: {concurency: 1}\n", 5, "load.concurency", "did you mean 'concurrency'?"),
        ("server: {instances: 1}\n", 5, "server.instances", "instance_count"),
        ("measurement: {asynch: true}\n", 5, "measurement.asynch", "did you mean 'async'?"),
        ("    shape: {x: [1]}\n", 5, "models.0.shape", "did you mean 'shapes'?"),
        ("load: {batch_size: []}\n", 5, "load.batch_size", "this axis is empty"),
        ("server: {accelerator: []}\n", 5, "server.accelerator", "this axis is empty"),
        ("server: {preferred_batch_size: []}\n", 5, "server.preferred_batch_size", "is empty"),
        ("load: {batch_size: [1, 0]}\n", 5, "load.batch_size.1", "greater than or equal to 1"),
        ("load: {batch_size: [1, 1.5]}\n", 5, "load.batch_size.1", "whole number (given: 1.5)"),
        ("load: {batch_size: ['1']}\n", 5, "load.batch_size.0", "whole number (given: '1')"),
        ("load: {batch_size: true}\n", 5, "load.batch_size", "whole number (given: True)"),
        ("load: {batch_size: null}\n", 5, "load.batch_size", "whole number (given: None)"),
        ("load: {batch_size: {a: 1}}\n", 5, "load.batch_size", "whole number"),
        ("load: {batch_size: [4, 8, 4]}\n", 5, "load.batch_size", "4 appears twice"),
        ("load: [1, 2]\n", 5, "load", "must be a mapping"),
        ("load:\n", 5, "load", "must be a mapping"),
        (
            "server: {instance_count: [0]}\n",
            5,
            "server.instance_count.0",
            "from 1 to 10000, or base",
        ),
        ("server: {instance_count: yes}\n", 5, "server.instance_count", "(given: True)"),
        ("server: {max_queue_delay_us: -1}\n", 5, "server.max_queue_delay_us", "from 0, or base"),
        ("server: {preferred_batch_size: [[0]]}\n", 5, "server.preferred_batch_size.0", "null"),
        ("server: {accelerator: tensorrt}\n", 5, "server.accelerator", "{name: tensorrt}"),
        (
            "server: {accelerator: [{name: tensorr}]}\n",
            5,
            "server.accelerator.0.name",
            "allowed: tensorrt, openvino; did you mean 'tensorrt'?",
        ),
        ("server: {accelerator: [{mode: x}]}\n", 5, "server.accelerator.0.name", "is missing"),
        (
            "server: {accelerator: [{name: tensorrt, precision_mode: [FP16, FP32]}]}\n",
            5,
            "server.accelerator.0",
            "write one mapping for each of its values",
        ),
        ("server: {instance_kind: CPU}\n", 5, "server.instance_kind", "KIND_GPU, KIND_CPU"),
        ("server: {gpus: [0, 1]}\n", 5, "server.gpus", "[[0], [1]] for one each"),
        ("server: {gpus: [[0, 0]]}\n", 5, "server.gpus.0", "a list of GPUs, counted from 0"),
        ("server: {cuda_graphs: 1}\n", 5, "server.cuda_graphs", "true, false, or base"),
        ("server: {graph_level: 9}\n", 5, "server.graph_level", "from -1 to 2, or base"),
        ("server: {max_batch_size: 0}\n", 5, "server.max_batch_size", "from 1, or base"),
        (
            "server: {accelerator: [{name: openvino, precision_mode: FP16}]}\n",
            5,
            "server.accelerator.0",
            "precision_mode: openvino has no such key",
        ),
        (
            "server: {accelerator: [{name: tensorrt, precision_mode: FP8}]}\n",
            5,
            "server.accelerator.0.precision_mode",
            "allowed: FP32, FP16, BF16, INT8",
        ),
        (
            "server: {default_queue_policy: {max_queue: 1}}\n",
            5,
            "server.default_queue_policy",
            "did you mean 'max_queue_size'?",
        ),
        (
            "server: {rate_limiter: {resources: [{name: R}]}}\n",
            5,
            "server.rate_limiter.resources.0.count",
            "is missing",
        ),
        (
            "server: {config: {optimisation: {}}}\n",
            5,
            "server.config",
            'has no field named "optimisation"',
        ),
        ("server: {config: 'max_batch: 1'}\n", 5, "server.config", "is no part of a config.pbtxt"),
        ("server: {config: 'max_batch_size: 0'}\n", 5, "server.config", "write a mapping"),
        ("server: {config: {name: x}}\n", 5, "server.config", "that of its folder"),
        ("server: {config: {}}\n", 5, "server.config", "a part of Triton's ModelConfig"),
        (
            "server: {config: {instance_group: [{count: 2}]}, instance_count: 1}\n",
            5,
            "server",
            "config: instance_group and the axis instance_count would write the same field",
        ),
        (
            "server: {dynamic_batching: [true], preferred_batch_size: [null]}\n",
            5,
            "server",
            "contradicts preferred_batch_size",
        ),
        (
            "measurement: {protocol: gprc}\n",
            5,
            "measurement.protocol",
            "allowed: grpc, http; did you mean 'grpc'?",
        ),
        ("measurement: {protocol: [grpc, ftp]}\n", 5, "measurement.protocol.1", "grpc, http"),
        ("measurement: {shared_memory: gpu}\n", 5, "measurement.shared_memory", "none, system"),
        ("load: {request_rate: 0}\n", 5, "load.request_rate", "greater than 0"),
        ("load: {request_distribution: even}\n", 5, "load.request_distribution", "poisson"),
        ("zip: [[batch_size, concurency]]\n", 5, "zip", "did you mean 'concurrency'?"),
        ("zip: [[batch_size]]\n", 5, "zip", "two axes or more"),
        ("zip: [[async, async]]\n", 5, "zip", "'async' appears in it twice"),
        ("exclude: [{}]\n", 5, "exclude", "names no axis"),
        ("exclude: [{batchsize: 1}]\n", 5, "exclude.0.batchsize", "did you mean 'batch_size'?"),
        ("exclude: [{batch_size: 0}]\n", 5, "exclude.0.batch_size", "equal to 1"),
        ("variants: {a: {load: 1}}\n", 5, "variants.a.load", "unknown key"),
        ("variants: {a: {instance_count: 0}}\n", 5, "variants.a.instance_count", "from 1"),
        ("measurement: {async: 'yes'}\n", 5, "measurement.async", "must be true or false"),
        ("measurement: {percentile: 0}\n", 5, "measurement.percentile", "equal to 1"),
        ("measurement: {percentile: 100}\n", 5, "measurement.percentile", "equal to 99"),
        ("measurement: {max_trials: 2}\n", 5, "measurement.max_trials", "equal to 3"),
        ("measurement: {measurement_interval_ms: 0}\n", 5, "measurement.meas", "equal to 1"),
        ("measurement: {stability_percentage: 0}\n", 5, "measurement.stab", "greater than 0"),
        ("measurement: {stability_percentage: a}\n", 5, "measurement.stab", "must be a number"),
        ("measurement: {timeout_s: -1}\n", 5, "measurement.timeout_s", "greater than 0"),
        ("measurement: {input_data: 5}\n", 5, "measurement.input_data", "must be a string"),
        ("repeats: 0\n", 5, "repeats", "greater than or equal to 1"),
        ("repeats: 1.5\n", 5, "repeats", "whole number"),
        ("    version: 0\n", 5, "models.0.version", "equal to 1"),
        ("    shapes: {x: [0]}\n", 5, "models.0.shapes.x.0", "equal to 1"),
        ("    shapes: {20: {x: 16}}\n", 5, "models.0.shapes.20", "x: must be a list of whole"),
        ("    shapes: {20: {x: [4]}, y: [3]}\n", 4, "models.0", "mixes inputs with their"),
        ("    version: [1, 1]\n", 5, "models.0.version", "1 appears twice"),
        ("    shapes: {x: 16}\n", 5, "models.0.shapes.x", "must be a list"),
        ("    shapes: [16]\n", 5, "models.0.shapes", "must be a mapping"),
        ("    load: {batch_size: []}\n", 5, "models.0.load.batch_size", "is empty"),
        ("    server: {instance_count: []}\n", 5, "models.0.server.instance_count", "is empty"),
        ("  - tagger\n", 5, "models.1", "must be a mapping of keys to values (given: 'tagger')"),
        ("  - {}\n", 5, "models.1.name", "is missing"),
    ],
)
def test_each_mistake_is_one_line_with_place_key_and_what_is_allowed(
    tmp_path: Path, added: str, line: int, key: str, words: str
) -> None:
    message = refusal(load, tmp_path, added)
    assert message.startswith(f"{tmp_path}/campaign.yaml:{line}: {key}")
    assert words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["a/b", "../up", "a b", "a;rm -rf", "$(id)", "a'b", "-a", ".a", "", "a\nb", "ä", "a*"]
)
def test_a_name_that_could_be_a_path_or_a_command_is_refused(tmp_path: Path, name: str) -> None:
    for changes, key in (({"name": name}, "name"), ({"models": [{"name": name}]}, "models.0.name")):
        message = refusal(Campaign.load, write_campaign(tmp_path, **changes))
        assert f": {key}: allowed are letters, digits and . _ + -" in message
        assert f"(given: {name!r})" in message


@pytest.mark.parametrize("name", ["a", "A-1_b+c.d", "particlenet_AK4", "2024"])
def test_usual_names_are_taken(name: str) -> None:
    assert campaign(name=name, models=[{"name": name}]).name == name


def test_for_sizes_without_their_inner_list_the_message_has_both_ways_to_write_them(
    tmp_path: Path,
) -> None:
    message = refusal(load, tmp_path, "server: {preferred_batch_size: [4, 8]}\n")
    assert "[[4, 8]] for one configuration with all of them" in message
    assert "[[4], [8]] for one each" in message


@pytest.mark.parametrize(
    ("added", "line", "words"),
    [
        ("load: {batch_size: [1, 010]}\n", 5, "load.batch_size: 010 is the octal number 8 in YAML"),
        ("load:\n  concurrency: 1:30\n", 6, "concurrency: 1:30 is a number of base 60 in YAML: 90"),
        ("repeats: 0_10\n", 5, "repeats: 0_10 is the octal number 8"),
        ("    shapes: {010: {x: [4]}}\n", 5, "models.0.shapes: 010 is the octal number 8"),
        ("1:30: 1\n", 5, "a key: 1:30 is a number of base 60"),
    ],
)
def test_numbers_that_yaml_reads_otherwise_than_people_are_refused(
    tmp_path: Path, added: str, line: int, words: str
) -> None:
    message = refusal(load, tmp_path, added)
    assert message.startswith(f"{tmp_path}/campaign.yaml:{line}: {words}")
    assert "put a string in quotes" in message


@pytest.mark.parametrize(("key", "meant"), [("on", "true"), ("No", "false"), ("yes", "true")])
def test_a_key_that_yaml_takes_for_true_or_false_is_refused(
    tmp_path: Path, key: str, meant: str
) -> None:
    message = refusal(load, tmp_path, f"    shapes: {{{key}: {{x: [4]}}}}\n")
    assert message.startswith(f"{tmp_path}/campaign.yaml:5: the key {key} is {meant} in YAML")
    assert "put it in quotes" in message
    assert set(load(tmp_path, f'    shapes: {{"{key}": {{x: [4]}}}}\n').models[0].shape_sets) == {
        key
    }


def test_a_number_in_quotes_is_a_string(tmp_path: Path) -> None:
    assert load(tmp_path, '    label: "010"\n').models[0].label == "010"


def test_a_nest_of_aliases_is_refused(tmp_path: Path) -> None:
    nest = ["a0: &a0 [1, 2]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)
    ]
    message = refusal(load, tmp_path, "\n".join(nest))
    assert "its aliases (*) stand for " in message


def test_an_alias_may_be_used_and_must_not_hold_itself(tmp_path: Path) -> None:
    study = load(tmp_path, "load: {batch_size: &sizes [1, 2], concurrency: *sizes}\n")
    assert study.load_axes.concurrency == (1, 2)
    message = refusal(load, tmp_path, "load: &x {batch_size: *x}\n")
    assert ":5: an alias (*) stands for a value that it is itself a part of" in message


def test_paths_may_hold_a_variable_and_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("$HOME/models", "~/models", "${HOME}/models", "models"):
        path = tmp_path / "campaign.yaml"
        path.write_text(BASE.replace("repository: models", f"repository: {text}"))
        assert Campaign.load(path).model_repository == tmp_path / "models"


def test_several_repositories_are_refused_in_the_words_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(BASE.replace("repository: models", "repository: [a, b]"))
    assert "campaign.yaml:2: model_repository: must be one path" in refusal(Campaign.load, path)


@pytest.mark.parametrize("shapes", [{"x": [4]}, {"long": {"x": [4, 2]}, "short": {"x": [2, 2]}}])
def test_shapes_are_written_as_they_were_read(shapes: dict[str, Any]) -> None:
    """Without a warning, which these tests take as an error."""
    study = campaign(models=[{"name": "tagger", "shapes": shapes}])
    written = study.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written["models"][0]["shapes"] == shapes
    assert Campaign(**written) == study


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (
            "exclude: [{batch_size: 1}, {model: tager}]\n",
            "exclude[1]: there is no model 'tager'; did you mean 'tagger'? the models: tagger",
        ),
        (
            "    label: DeepMET\nexclude: [{model: deepmet}]\n",
            "exclude[0]: there is no model 'deepmet'; did you mean 'DeepMET'? the models: DeepMET",
        ),
        ("exclude: [{shapes: lang}]\n", "exclude[0]: no shapes are called 'lang'; none has a name"),
        (
            "    shapes: {long: {x: [4]}, short: {x: [2]}}\nexclude: [{shapes: lang}]\n",
            "exclude[0]: no shapes are called 'lang'; did you mean 'long'? the names: long, short",
        ),
        (
            "  - {name: b, shapes: {long: {x: [4]}}}\nexclude: [{model: tagger, shapes: long}]\n",
            "exclude[0]: no shapes of tagger are called 'long'; none has a name",
        ),
    ],
)
def test_a_rule_about_a_model_or_shapes_that_are_not_there_is_reported_with_those_that_are(
    tmp_path: Path, added: str, words: str
) -> None:
    assert refusal(load, tmp_path, added) == f"{tmp_path}/campaign.yaml: {words}"


def test_a_campaign_without_models_is_refused(tmp_path: Path) -> None:
    message = refusal(Campaign.load, write_campaign(tmp_path, models=[]))
    assert message.startswith(f"{tmp_path}/campaign.yaml")
    assert "models: is empty; name at least one" in message


def test_two_models_must_have_unlike_labels_in_figures(tmp_path: Path) -> None:
    for models in (
        [{"name": "a"}, {"name": "a"}],
        [{"name": "a", "label": "X"}, {"name": "b", "label": "X"}],
        [{"name": "a", "label": "b"}, {"name": "b"}],
    ):
        message = refusal(Campaign.load, write_campaign(tmp_path, models=models))
        assert "give each a label of its own" in message


def test_one_model_may_stand_twice_under_two_labels(tmp_path: Path) -> None:
    models = [{"name": "a", "label": "short", "shapes": {"x": [5]}}, {"name": "a"}]
    study = Campaign.load(write_campaign(tmp_path, models=models))
    assert [model.label or model.name for model in study.models] == ["short", "a"]


def test_a_home_of_nobody_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    for changes, key in (
        ({"model_repository": "~no-such-user/models"}, "model_repository"),
        ({"measurement": {"input_data": "~no-such-user/x.json"}}, "measurement"),
    ):
        message = refusal(Campaign.load, write_campaign(tmp_path, **changes))
        assert f": {key}" in message


def test_all_mistakes_of_a_campaign_are_reported_at_once(tmp_path: Path) -> None:
    message = refusal(
        load,
        tmp_path,
        "    version: x\nlaod: {}\nload: {batch_size: [0, a], concurrency: []}\n"
        "server: {instance_count: [-1]}\nmeasurement: {protocol: tcp, percentil: 95}\nrepeats: x\n",
    )
    keys = [line.split(": ")[1] for line in message.splitlines()]
    assert sorted(keys) == [
        "laod",
        "load.batch_size.0",
        "load.batch_size.1",
        "load.concurrency",
        "measurement.percentil",
        "measurement.protocol",
        "models.0.version",
        "repeats",
        "server.instance_count.0",
    ]


def test_an_accelerators_parameters_are_texts_as_triton_takes_them() -> None:
    chosen = Accelerator(name="tensorrt", precision_mode="FP16", max_cached_engines=4, fast=True)
    assert json.loads(chosen.text) == {
        "name": "tensorrt",
        "precision_mode": "FP16",
        "max_cached_engines": "4",
        "fast": "true",
    }


def test_tensorrt_is_exact_unless_a_precision_is_asked_for() -> None:
    assert (
        Accelerator(name="tensorrt").text
        == Accelerator(name="tensorrt", precision_mode="FP32").text
    )
    assert Accelerator(name="openvino").text == '{"name": "openvino"}'


EVERY_AXIS: dict[str, Any] = {
    "instance_count": [1, 2, "base"],
    "preferred_batch_size": [None, [4, 8], [], "base"],
    "max_queue_delay_us": [0, 100, "base"],
    "accelerator": [
        *(None, {"name": "tensorrt", "precision_mode": "FP16", "fast": True}, "base"),
        {"name": "tensorrt", "max_workspace_size_bytes": 1024, "engine_cache": False},
        {"name": "openvino"},
    ],
    "instance_kind": ["KIND_CPU", "KIND_GPU", "KIND_AUTO", "KIND_MODEL", "base"],
    "gpus": [[0], [0, 1], "base"],
    "max_batch_size": [8, "base"],
    "dynamic_batching": [False, "base"],
    "preserve_ordering": [True, False, "base"],
    "priority_levels": [0, 2, "base"],
    "default_priority_level": [1, 2, "base"],
    "default_queue_policy": [{"max_queue_size": 4, "timeout_action": "DELAY"}, None, "base"],
    "graph_level": [-1, 0, 1, 2, "base"],
    "cuda_graphs": [True, False, "base"],
    "response_cache": [True, False, "base"],
    "rate_limiter": [{"resources": [{"name": "R", "count": 1, "global": True}]}, None, "base"],
    "warmup": [True, False, "base"],
    "config": [{"optimization": {"eager_batching": True}}, "base"],
}
"""The values of every server axis, each in every way in which it may be written."""


def test_every_axis_is_tried() -> None:
    assert set(EVERY_AXIS) == set(Server.model_fields)


@pytest.mark.parametrize("axis", EVERY_AXIS)
def test_a_run_can_be_repeated_from_the_campaign_that_it_wrote(tmp_path: Path, axis: str) -> None:
    """Written into the results folder, it means the same points, from anywhere."""
    study = campaign(
        models=[{"name": "tagger", "version": 1, "shapes": {"x": [16]}, "label": "Tagger Ω"}],
        server={"instance_count": [1, 2], axis: EVERY_AXIS[axis]},
        load={"batch_size": [1, 2]},
        measurement={"async": False, "percentile": 95, "input_data": "zero"},
        repeats=3,
    )
    path = tmp_path / "elsewhere" / "campaign.yaml"
    path.parent.mkdir()
    run_state.write_yaml(path, study)
    again = Campaign.load(path)
    assert again.model_dump() == study.model_dump()
    assert expanded(again).points == expanded(study).points


@pytest.mark.parametrize("axis", EVERY_AXIS)
def test_writing_a_campaign_down_warns_of_nothing(tmp_path: Path, axis: str) -> None:
    study = campaign(server={axis: EVERY_AXIS[axis]})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        run_state.write_yaml(tmp_path / "campaign.yaml", study)
    assert [str(warning.message) for warning in heard] == []
    data = yaml.safe_load((tmp_path / "campaign.yaml").read_text())
    assert data["server"] == {axis: EVERY_AXIS[axis]}


def test_models_may_narrow_the_axes_of_the_campaign() -> None:
    study = campaign(
        models=[
            {"name": "a", "load": {"batch_size": [1]}, "server": {"instance_count": [4]}},
            {"name": "b"},
        ],
        server={"instance_count": [1, 2], "max_queue_delay_us": [7]},
        load={"batch_size": [1, 2], "concurrency": [3]},
    )
    points = expanded(study, {"a": triton_model("a"), "b": triton_model("b")}).points
    found = {
        (
            p.variant.model.name,
            p.variant.axes["instance_count"],
            p.variant.axes["max_queue_delay_us"],
            p.load.batch_size,
            p.load.concurrency,
        )
        for p in points
    }
    assert found == {
        ("a", 4, 7, 1, 3),
        *(("b", count, 7, batch, 3) for count in (1, 2) for batch in (1, 2)),
    }


def test_a_mistake_in_a_campaign_made_in_python_is_reported_as_one_in_a_file() -> None:
    with pytest.raises(BadInput) as caught:
        Campaign(name="a b", model_repository="m", models=[{"name": "t"}], load={"batch_sise": 1})
    name, key = str(caught.value).splitlines()
    assert name.startswith("Campaign: name: allowed are letters, digits")
    assert key.startswith("Campaign: load.batch_sise: unknown key; did you mean 'batch_size'?")
    with pytest.raises(BadInput, match=r"Load: concurrency\.0: must be greater"):
        Load(concurrency=0)


@pytest.mark.parametrize(
    ("together", "message"),
    [
        ([{"tagger": {}}], r"together\[0\]: name at least two models"),
        ([{"tagger": {}, "Deep": {}}], "no model is called 'Deep'; did you mean 'Deeper'?"),
        ([{"tagger": {}, "Again": {}}], "a server holds a model once, and two of these are tagger"),
        ([{"tagger": {}, "Old": {}}], "a server runs in one image"),
        ([{"tagger": {"measurement": {}}, "Deeper": {}}], "measurement"),
    ],
)
def test_a_group_that_cannot_share_a_server_is_refused(
    together: list[dict[str, Any]], message: str
) -> None:
    models = [
        {"name": "tagger"},
        {"name": "tagger", "label": "Again", "version": 2},
        {"name": "deep", "label": "Deeper"},
        {"name": "old", "label": "Old", "server_image": "old"},
    ]
    with pytest.raises(BadInput, match=message.replace("?", r"\?")):
        campaign(models=models, together=together)


def test_only_images_of_the_models_in_a_group_must_agree() -> None:
    models = [
        {"name": "tagger", "label": "new"},
        {"name": "tagger", "label": "old", "server_image": "old", "version": 2},
        {"name": "deep", "server_image": "old"},
    ]
    study = campaign(models=models, together=[{"old": {}, "deep": {}}])
    assert [*study.together[0]] == ["old", "deep"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{expect: {latency_p99_us: [0, null, 0.1]}}", "latency_p99_us: the value must be above 0"),
        ("{expect: {latency_p99_us: [9, null, null]}}", "latency_p99_us: give a lower or an upper"),
        ("{expect: {latency_p99_us: [9, 0.1, null]}}", "the lower tolerance must be from -1 to 0"),
        ("{expect: {latency_p99_us: [9, null, -0.1]}}", "the upper tolerance must be 0 or more"),
        ("{expect: {}}", "is empty; name a metric"),
        ("{points: {timeout_s: 9}, expect: {latency_p99_us: [9, 0, 0]}}", "no result says it"),
        ("{gpus: T4, expect: {latency_p99_us: [9, 0, 0]}}", "references.0.gpus: unknown key"),
    ],
)
def test_a_reference_that_says_nothing_is_refused(
    tmp_path: Path, reference: str, words: str
) -> None:
    message = refusal(load, tmp_path, f"references:\n  - {reference}\n")
    assert message.startswith(f"{tmp_path}/campaign.yaml:6: references.0")
    assert words in message


def test_references_are_written_as_they_were_read(tmp_path: Path) -> None:
    study = load(tmp_path, "references: [{gpu: T4, expect: {latency_p99_us: [9, null, 0.1]}}]\n")
    run_state.write_yaml(tmp_path / "again.yaml", study)
    assert Campaign.load(tmp_path / "again.yaml").references == study.references


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([{"name": "bls", "needs": ["add", "bls"]}], "'bls' needs itself"),
        (
            [{"name": "bls", "needs": ["add"]}, {"name": "bls", "label": "again"}],
            "'bls' is named twice and needs other models each time",
        ),
        ([{"name": "bls", "needs": "add"}], "models.0.needs: must be a list (given: 'add')"),
    ],
)
def test_what_a_model_needs_is_said_once_and_of_others(models: list[Any], said: str) -> None:
    assert said in refusal(campaign, models=models)
