"""The command line: help, exit codes, and JSON that other programs can read."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from hpcbench import Campaign, Site, __version__, plan
from hpcbench.cli.main import main
from hpcbench.cluster.run_state import write_yaml
from hpcbench.plan.initial_record import plan_rows
from hpcbench.records import store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results, lock_folder, write_atomically
from tests.helpers.builders import NOON, record, workplace, write_campaign, write_site
from tests.helpers.measurements import measured, server

COMMANDS = ["plan", "run", "status", "plot"]


def invoke(*words: object) -> Result:
    """One call of hpcbench in this process, without a traceback."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a campaign, a site and a model that can be planned."""
    workplace(tmp_path)
    return tmp_path


def planned_in(place: Path, **changes: Any) -> Result:
    write_campaign(place, **changes)
    return invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml", "--json")


# Help


def test_without_a_command_there_is_the_help_and_nothing_else() -> None:
    result = invoke()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == invoke("--help").stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_in_the_order_of_work(flag: str) -> None:
    result = invoke(flag)
    assert result.exit_code == 0
    assert set(main.commands) >= set(COMMANDS)
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    assert "0    every point was measured\n" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    for parameter in main.commands[command].params:
        named = parameter.opts[-1] if parameter.opts[-1].startswith("-") else parameter.name.upper()
        assert named in result.output
        if named.startswith("-"):
            assert parameter.help


def test_the_version_is_printed() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"hpcbench, version {__version__}\n")


def test_the_program_itself_can_be_started_as_a_module() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hpcbench", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert __version__ in ended.stdout


SLOW = ("dask", "distributed", "dask_jobqueue", "grpc", "matplotlib", "pandas", "scipy.special")
"""Imports that take longer than the commands below may take as a whole."""


def slow_imports(*words: object) -> set[str]:
    """Which of the slow packages a command has imported when it ends."""
    script = (
        "import atexit, sys; from hpcbench.cli.main import main; "
        f"atexit.register(lambda: print(*(set({SLOW}) & set(sys.modules)), file=sys.stderr)); "
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return set(ended.stderr.splitlines()[-1].split())


def test_help_imports_nothing_slow() -> None:
    assert slow_imports("--help") == set()


def test_a_plan_without_a_batch_system_imports_nothing_slow(place: Path) -> None:
    words = ["plan", place / "campaign.yaml", "--site", place / "site.yaml"]
    assert slow_imports(*words) == slow_imports(*words, "--json") == set()


def test_the_status_imports_nothing_slow(written: Written) -> None:
    folder = written((Status.OK, None), (Status.FAILED, "why"), server={"instance_count": [1, 2]})
    assert slow_imports("status", folder) == slow_imports("status", folder, "--json") == set()


def test_a_recommendation_imports_scipy_only_where_something_was_repeated(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.create()
    store.write_point(results, record(1))
    assert slow_imports("recommend", results.folder) == {"pandas"}
    store.write_point(results, record(1, repeat=1))
    assert slow_imports("recommend", results.folder) == {"pandas", "scipy.special"}


def test_the_short_help_of_every_command_fits_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in invoke("--help").stdout.split("Measure:")[1]


def test_ranges_read_as_words() -> None:
    for name in main.commands:
        assert not re.search(r"[<>]=?x|x[<>]", invoke(name, "--help").stdout)
    assert "[default: 1; 0 or more]" in " ".join(invoke("recommend", "--help").stdout.split())
    wrong = invoke("recommend", "results", "--rate", "-1").stderr
    assert "-1.0 is not in the range above 0." in wrong
    wrong = invoke("compare", "a", "b", "--tolerance", "2").stderr
    assert "2.0 is not in the range from 0 to below 1." in wrong


def test_the_template_of_a_site_is_no_site(place: Path) -> None:
    write_campaign(place)
    result = invoke("plan", place / "campaign.yaml", "--site", "template")
    assert result.exit_code == 2
    assert "known sites: " in result.stderr
    assert "template" not in result.stderr.split("known sites: ")[1]


def test_cancel_says_where_there_is_nothing_to_end(written: Written) -> None:
    folder = written((Status.OK, None))
    result = invoke("cancel", folder)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{folder}: no run is at work here, and no job of an earlier one is left\n"
    )


# Exit codes


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["plann"],
        ["plan"],
        ["plan", "a.yaml", "--nonsense"],
        ["run", "a.yaml"],
        ["status"],
        ["plot", "results"],
    ],
)
def test_a_wrong_command_line_ends_with_2(words: list[str]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert "Usage: " in result.output


def test_a_misspelt_option_is_answered_with_the_right_one(place: Path) -> None:
    result = invoke("run", place / "campaign.yaml", "--result", place / "r")
    assert result.exit_code == 2
    assert "Did you mean one of: '--results'" in result.output


def bad(place: Path, command: str, **changes: Any) -> Result:
    path = write_campaign(place, **changes)
    words = [command, path, "--site", place / "site.yaml"]
    return invoke(*words, *(["--results", place / "results"] if command == "run" else []))


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lod": {}}, ":5: lod: unknown key; did you mean 'load'? allowed here:"),
        ({"repeats": "three"}, ":5: repeats: must be a whole number (given: 'three')"),
        ({"load": {"batch_size": []}}, ":6: load.batch_size: this axis is empty"),
        ({"models": [{"name": "taggr"}]}, "models: there is no model 'taggr'"),
        ({"load": {"batch_size": [512]}}, "load.batch_size: 512 is over max_batch_size"),
        ({"models": [{"name": "a/b"}]}, ":4: models.0.name: allowed are letters, digits"),
        ({"name": "a b; rm"}, ":1: name: allowed are letters, digits"),
    ],
)
def test_bad_input_ends_with_2_and_one_message_before_anything_starts(
    place: Path, command: str, changes: dict[str, Any], words: str
) -> None:
    result = bad(place, command, **changes)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"hpcbench: {place}/campaign.yaml")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (place / "results").exists()


def test_a_length_that_is_missing_ends_with_2(place: Path) -> None:
    config = place / "models" / "tagger" / "config.pbtxt"
    config.write_text(config.read_text().replace("[16]", "[-1]"))
    result = bad(place, "run")
    assert result.exit_code == 2
    assert "shapes: input 'x' has dims [-1]; say how long it is" in result.stderr


def test_results_in_a_place_where_no_folder_can_be_made_end_with_2(place: Path) -> None:
    (place / "results").write_text("a file")
    result = bad(place, "run")
    assert result.exit_code == 2
    assert "--results" in result.stderr
    assert f"{place}/results" in result.stderr


def test_results_of_another_schema_version_end_with_2(place: Path) -> None:
    import pyarrow.parquet as pq

    results = Results(place / "results")
    results.create()
    path = store.write_point(results, record(1))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"hpcbench_schema": "99"}), path)
    content = path.read_bytes()
    result = bad(place, "run")
    assert result.exit_code == 2
    assert "has schema version 99; this hpcbench reads and writes version 3" in result.stderr
    assert path.read_bytes() == content


@pytest.mark.parametrize("option", [["--site", "nowhere"], ["--pool", "gpuu"]])
def test_a_site_or_pool_that_is_not_known_ends_with_2(place: Path, option: list[str]) -> None:
    words = ["plan", place / "campaign.yaml", "--site", place / "site.yaml", *option]
    result = invoke(*words)
    assert result.exit_code == 2
    assert option[1] in result.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_site_without_its_software_ends_with_3(place: Path, command: str) -> None:
    (place / ".native" / "manifest.json").unlink()
    result = bad(place, command)
    assert result.exit_code == 3
    assert "there is no complete Triton and perf_analyzer in" in result.stderr
    assert "  -> install them: " in result.stderr
    assert not (place / "results").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["status"], "there is no such folder"),
        (["plot", "--out", "figures"], "is neither a results folder nor a Parquet file"),
    ],
)
def test_a_folder_without_results_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*command, tmp_path / "none")
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_campaign_is_not_taken_for_damaged_results(place: Path) -> None:
    result = invoke("recommend", place / "campaign.yaml")
    assert result.exit_code == 2
    assert "campaign.yaml: is a campaign or a site file, and no results" in result.stderr
    assert "name the folder that hpcbench run was given as --results" in result.stderr


def test_a_campaign_in_the_place_of_results_names_the_folders_that_hold_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for name, campaign in (("first", "test"), ("results/second", "test"), ("other", "another")):
        folder = place / name
        (folder / "records").mkdir(parents=True)
        (folder / "campaign.yaml").write_text(f"name: {campaign}\nmodels: []\n")
    (place / "campaign.yaml").write_text("name: test # of today\n")
    result = invoke("recommend", "campaign.yaml")
    assert "results of this campaign are in first and results/second\n" in result.stderr


PIPED = """
import os, sys
from hpcbench.cli.main import main
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"], ["recommend"]])
def test_an_output_that_nobody_reads_never_looks_like_something_that_got_worse(
    written: Written, words: list[str]
) -> None:
    """As `hpcbench compare A B | head`: a shell gives 141 for any program that ends so."""
    folder = [str(written((Status.OK, None)))] if words != ["--help"] else []
    ended = subprocess.run(
        [sys.executable, "-c", PIPED, *words, *folder],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=240,
    )
    assert (ended.returncode, ended.stderr) == (141, "")


# Packages that are not installed


WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{0}":
            raise ModuleNotFoundError("No module named '{0}'", name="{0}")

sys.meta_path.insert(0, Without())
from hpcbench.cli.main import main
main(["plot", "results", "--out", "figures"])
"""


def plot_without(package: str) -> tuple[int, str]:
    """(exit code, stderr) of `hpcbench plot` where a package is not installed."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_an_optional_package_that_is_missing_is_named_with_the_command_that_installs_it() -> None:
    assert plot_without("matplotlib") == (
        2,
        (
            "hpcbench: the package matplotlib is not installed\n"
            "  -> pip install 'triton-hpcbench[analysis]'\n"
        ),
    )


def test_another_module_that_is_missing_is_not_taken_for_an_optional_package() -> None:
    """A broken installation, or a mistake in somebody's own module, needs the traceback."""
    code, stderr = plot_without("pyarrow")
    assert code == 1
    assert stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'pyarrow'"
    assert "pip install" not in stderr


def test_an_error_in_a_module_that_is_there_is_not_taken_for_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_cluster.py").write_text("from hpcbench import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)

    @click.command()
    def broken() -> None:
        importlib.import_module("their_cluster")

    monkeypatch.setitem(main.commands, "broken", broken)
    result = CliRunner().invoke(main, ["broken"])
    assert type(result.exception) is ImportError
    assert "pip install" not in result.output


# plan


SUFFIX = {"pools": {"gpu": {"account_suffix": "-gpu"}, "cpu": {}}, "scheduler": "slurm"}


@pytest.mark.parametrize("account", ["a\n#SBATCH --foo", "a b", 'x"y\nqueue 100'])
@pytest.mark.parametrize("scheduler", ["local", "slurm", "htcondor"])
def test_a_plan_refuses_the_accounts_that_a_run_refuses(
    place: Path, account: str, scheduler: str
) -> None:
    write_site(place, scheduler=scheduler)
    command = (place / "campaign.yaml", "--site", place / "site.yaml", "--account", account)
    write_campaign(place)
    result = invoke("plan", *command)
    if scheduler == "local":
        assert result.exit_code == 0, "nothing is charged"
    else:
        assert result.exit_code == 2
        assert "allowed are letters" in result.stderr
        assert "SBATCH" not in result.stdout


@pytest.mark.parametrize(
    ("option", "variable", "charged"),
    [("phy", None, "phy"), (None, "env", "env"), ("phy", "env", "phy"), ("", None, None)],
)
def test_a_plans_scripts_are_charged_to_whom_a_run_charges(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    variable: str | None,
    charged: str | None,
) -> None:
    """And it says where nobody is named although these nodes have an account of their own."""
    monkeypatch.delenv("HPCBENCH_ACCOUNT", raising=False)
    if variable is not None:
        monkeypatch.setenv("HPCBENCH_ACCOUNT", variable)
    write_site(place, **SUFFIX)
    write_campaign(place)
    given = () if option is None else ("--account", option)
    command = ("plan", place / "campaign.yaml", "--site", place / "site.yaml", *given)
    output = json.loads(invoke(*command, "--json").stdout)
    lines = [line for line in output["job_scripts"]["gpu"].splitlines() if " -A" in line]
    assert lines == ([f"#SBATCH -A {charged}-gpu"] if charged else [])
    said = [line for line in output["to_do"] if line.startswith("no account: the jobs of gpu are")]
    assert len(said) == (charged is None)


def test_a_plan_as_json_has_every_placement_and_every_measurement(place: Path) -> None:
    result = planned_in(
        place,
        load={"batch_size": [1, 2, 4], "concurrency": [4]},
        server={"instance_count": [1, 2], "preferred_batch_size": [None, [4, 8]]},
        repeats=2,
    )
    assert result.exit_code == 0
    output = json.loads(result.stdout)
    assert set(output) == {
        *("campaign", "site", "points", "repeats", "measurements", "merged", "not_applicable"),
        *("estimate_s", "gpu_s", "job_scripts", "placements", "measurement_rows", "excluded"),
        *("idle", "hints", "runtime", "server_image", "sdk_image", "not_checked", "completed"),
        *("gpu_hours", "to_do"),
    }
    assert (output["campaign"], output["site"]) == ("study", "here")
    assert (output["points"], output["repeats"], output["measurements"]) == (12, 2, 24)
    assert len(output["placements"]) == 8
    assert set(output["placements"][0]) == {
        *("id", "pool", "repeat", "served", "points", "estimate_s")
    }
    first = output["placements"][0]["served"]
    assert [variant["model"] for served in first for variant in served] == ["tagger"]
    assert first[0][0]["server"] == {"instance_count": 1, "preferred_batch_size": None}
    keys = {(r["point_id"], r["pool"], r["repeat"]) for r in output["measurement_rows"]}
    assert len(keys) == 24
    assert keys == {
        (point, placement["pool"], placement["repeat"])
        for placement in output["placements"]
        for point in placement["points"]
    }


def test_a_plan_for_people_says_how_much_and_how_long(place: Path) -> None:
    write_campaign(place, load={"batch_size": [1, 2, 4], "concurrency": [4]}, repeats=2)
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert result.exit_code == 0
    assert "3 points x 2 repeats x 1 pool = 6 measurements" in " ".join(result.output.split())
    for part in ("tagger", "base", "1 2 4", "estimated time"):
        assert part in result.output


@pytest.mark.parametrize(
    "gpus", [{"cpu": 0}, {"a100": 9000}, {"a100": 9000, "cpu": 0, "t4": 90_000}]
)
def test_a_plan_for_people_says_what_it_costs_in_gpu_hours(
    place: Path, gpus: dict[str, int]
) -> None:
    """Nobody has so many GPUs per job; but a placement here takes seconds."""
    content = yaml.safe_load((place / "site.yaml").read_text())
    content["container"]["cpus_only"] = True
    content["pools"] = {name: {"gpus_per_job": count} for name, count in gpus.items()}
    (place / "site.yaml").write_text(yaml.safe_dump(content))
    write_campaign(place)
    words = ("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    hours = json.loads(invoke(*words, "--json").stdout)["gpu_hours"]
    assert set(hours) == {name for name, count in gpus.items() if count}
    lines = [line for line in invoke(*words).output.splitlines() if "estimated cost" in line]
    assert len(lines) == bool(hours)
    for line in lines:
        total = f"estimated cost: {sum(hours.values()):,.0f} GPU hours"
        parts = ", ".join(f"{name} {each:,.0f}" for name, each in hours.items())
        assert line == (f"{total}: {parts}" if len(hours) > 1 else total)


@pytest.mark.parametrize("label", ["PN [fp16]", "PN [/x]"])
def test_a_plan_shows_a_label_as_it_is_written(place: Path, label: str) -> None:
    write_campaign(place, models=[{"name": "tagger", "label": label}])
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert label in result.output


def test_a_plan_says_what_is_measured_once_only(place: Path) -> None:
    write_campaign(
        place, server={"preferred_batch_size": [None, [4]], "max_queue_delay_us": [1, 2]}
    )
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert "1 combination equal to another one, measured once" in " ".join(result.output.split())


def test_a_plan_names_the_versions_of_a_model(place: Path) -> None:
    (place / "models" / "tagger" / "2").mkdir()
    (place / "models" / "tagger" / "2" / "model.onnx").write_bytes(b"another network")
    write_campaign(place, models=[{"name": "tagger", "version": [1, 2]}])
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert "tagger version 1" in result.output
    assert "tagger version 2" in result.output


def test_a_plan_of_more_servers_than_anybody_reads_counts_the_rest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcbench.cli.plan_text.MOST_SERVERS", 3)
    write_campaign(
        place,
        server={"instance_count": list(range(1, 11)), "accelerator": [None, {"name": "tensorrt"}]},
    )
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert "and 7 more servers; --json has all\n" in result.output
    assert result.output.count("tensorrt: the native runtime serves on CPUs") == 3
    assert "  and 7 more servers; --json has all\n" in result.output


def test_a_plan_says_which_rule_can_never_take_anything(place: Path) -> None:
    write_campaign(place, exclude=[{"batch_size": 63}])
    result = invoke("plan", place / "campaign.yaml", "--site", place / "site.yaml")
    assert "exclude: {batch_size: 63}: batch_size is never 63; its values: 1\n" in result.output


def test_a_plan_for_a_cluster_says_which_models_only_triton_completes(place: Path) -> None:
    (place / "models" / "tagger" / "config.pbtxt").unlink()
    write_site(place, scheduler="slurm")
    words = ["plan", place / "campaign.yaml", "--site", place / "site.yaml"]
    assert "tagger: no inputs in config.pbtxt" in " ".join(invoke(*words).output.split())
    output = json.loads(invoke(*words, "--json").stdout)
    assert any("no inputs in config.pbtxt" in line for line in output["not_checked"])
    assert output["completed"] == {}


def test_a_plan_of_one_pool_leaves_the_others_out(place: Path) -> None:
    write_site(place, pools={"cpu": {}, "gpu": {"gpus_per_job": 1}})
    words = ["plan", place / "campaign.yaml", "--site", place / "site.yaml", "--json"]
    assert json.loads(invoke(*words).stdout)["measurements"] == 2
    output = json.loads(invoke(*words, "--pool", "gpu").stdout)
    assert {placement["pool"] for placement in output["placements"]} == {"gpu"}


# status

Written = Callable[..., Path]


@pytest.fixture
def written(place: Path) -> Written:
    """A results folder of the campaign with these statuses for its first points."""

    def write(*ended: tuple[Status, str | None], **changes: Any) -> Path:
        changes = {"load": {"batch_size": [1, 2, 4, 8]}, **changes}
        study = Campaign.load(write_campaign(place, **changes))
        todo = plan(study, Site.load(place / "site.yaml"))
        results = Results(place / "results")
        results.create()
        store.write_plan(results, plan_rows(todo))
        write_yaml(results.campaign, study)
        for point, (status, reason) in zip(todo.grid.points, ended, strict=False):
            entry = record(1, point_id=point.id, status=status, reason=reason, ended_at=NOON)
            store.write_point(results, entry)
        return results.folder

    return write


def test_the_status_counts_what_is_done_and_names_what_is_missing(written: Written) -> None:
    folder = written((Status.OK, None), (Status.UNSTABLE, "did not settle: by 20%"))
    result = invoke("status", folder)
    assert result.exit_code == 0
    assert f"{folder}: 4 measurements, no run is active\n" in result.output
    for line in ("1 ok", "1 unstable", "2 missing"):
        assert line in result.output
    assert (
        "1 measurement unstable: did not settle\n    tagger, batch 2, concurrency 1\n"
        in result.output
    )
    assert "to measure the missing points, repeat the same hpcbench run command" in result.output


def test_the_status_says_equal_reasons_once(written: Written) -> None:
    folder = written(*[(Status.FAILED, "the model did not load: no: file")] * 3)
    output = invoke("status", folder).output
    assert output.count("the model did not load: no: file") == 1
    for batch in (1, 2, 4):
        assert f"\n    tagger, batch {batch}, concurrency 1\n" in output


def test_the_status_as_json_has_one_row_for_each_measurement(written: Written) -> None:
    folder = written((Status.OK, None), (Status.FAILED, "why"), (Status.TIMEOUT, "late"))
    result = invoke("status", folder, "--json")
    assert result.exit_code == 0
    output = json.loads(result.stdout)
    assert output["results"] == str(folder)
    assert output["active"] is False
    assert output["counts"] == {"ok": 1, "failed": 1, "timeout": 1, "missing": 1}
    rows = [(r["batch_size"], r["status"], r["reason"]) for r in output["measurements"]]
    assert rows == [
        (1, "ok", None),
        (2, "failed", "why"),
        (4, "timeout", "late"),
        (8, "missing", None),
    ]
    assert {"point_id", "pool", "repeat", "model_label", "variant", "concurrency"} <= set(
        output["measurements"][0]
    )


def test_the_status_names_the_variants_that_are_one_server(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.create()
    records = [measured(variant=server(instance_count=n), instance_count=2) for n in ("base", 2)]
    store.write_records(results.records / "all.parquet", records)
    names = store.PLAN_SCHEMA.names
    store.write_plan(results, [{name: getattr(each, name) for name in names} for each in records])
    same = "2 instances (the same as default instances)"
    assert f"\none configuration: {same}\n" in invoke("status", results.folder).output
    output = json.loads(invoke("status", results.folder, "--json").stdout)
    assert output["same_servers"] == [same]


def test_the_status_of_a_run_at_work_says_what_is_running(written: Written) -> None:
    results = Results(written((Status.OK, None)))
    rows = store.read_plan(results)
    running = [(row["point_id"], row["pool"], row["repeat"]) for row in rows[:2]]
    with lock_folder(results):
        write_atomically(results.state, json.dumps({"running": running}).encode())
        output = json.loads(invoke("status", results.folder, "--json").stdout)
        text = invoke("status", results.folder).output
    assert output["active"] is True
    assert output["counts"] == {"ok": 1, "running": 1, "missing": 2}
    assert "a run is active" in text
    assert "missing points" not in text


def test_what_a_killed_run_had_begun_is_missing_and_not_running(written: Written) -> None:
    results = Results(written((Status.OK, None)))
    rows = store.read_plan(results)
    running = [(row["point_id"], row["pool"], row["repeat"]) for row in rows]
    write_atomically(results.state, json.dumps({"running": running}).encode())
    output = json.loads(invoke("status", results.folder, "--json").stdout)
    assert output["counts"] == {"ok": 1, "missing": 3}


def test_rows_of_another_campaign_in_the_folder_are_not_counted(written: Written) -> None:
    folder = written((Status.OK, None))
    store.write_point(Results(folder), record(99))
    output = json.loads(invoke("status", folder, "--json").stdout)
    assert output["counts"] == {"ok": 1, "missing": 3}


# plot


def test_figures_that_do_not_apply_are_a_line_with_a_count_unless_somebody_asks_why(
    tmp_path: Path,
) -> None:
    results = Results(tmp_path / "results")
    results.create()
    store.write_point(results, record(1))
    words = ["plot", results.folder, "--out", tmp_path / "figures"]
    brief = invoke(*words).stderr.splitlines()
    assert len(brief) == 1
    assert brief[0].endswith(
        "kinds of figures not drawn, which need other axes; --verbose says why"
    )
    for more in (["--verbose"], ["--figure", "gpu_scaling"]):
        reasons = invoke(*words, *more).stderr.splitlines()
        assert reasons
        assert all(line.startswith("not drawn: ") for line in reasons)
