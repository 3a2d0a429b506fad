"""The overlay repository: the model's own files, and a configuration that differs in one axis."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbench.config.container import Container
from hpcbench.measure.model_repository import paths_to_mount, remove_overlay, write_overlay
from hpcbench.plan.model import read_model
from hpcbench.plan.model_config import configure
from tests.helpers import models
from tests.helpers.builders import parsed, variant, write_model
from tests.helpers.real import measured, quick_run


def test_an_overlay_links_the_models_files_and_leaves_them_alone(tmp_path: Path) -> None:
    source = write_model(tmp_path / "models")
    (source / "labels.txt").write_text("b\nc\n")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    chosen = variant(read_model(tmp_path / "models", "tagger"), instance_count=2)
    write_overlay(chosen, configure(chosen), tmp_path / "overlay")
    overlay = tmp_path / "overlay" / "tagger"
    assert sorted(path.name for path in overlay.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
    assert (overlay / "1").is_symlink()
    assert (overlay / "1" / "model.onnx").read_bytes() == b"not a real network"
    assert not (overlay / "config.pbtxt").is_symlink()
    assert parsed((overlay / "config.pbtxt").read_text()).instance_group[0].count == 2
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_folders_with_python_sources_are_made_anew_where_no_cache_can_be_written(
    tmp_path: Path,
) -> None:
    source = write_model(tmp_path / "models")
    for path in ("1/model.py", "1/parts/layers/dense.py", "1/__pycache__/model.pyc", "data/x.bin"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text("pass")
    (source / "1" / "parts" / "again").symlink_to(source / "1")
    chosen = variant(read_model(tmp_path / "models", "tagger"))
    write_overlay(chosen, configure(chosen), tmp_path / "overlay")
    overlay = tmp_path / "overlay" / "tagger"
    links = {str(path.relative_to(overlay)) for path in overlay.rglob("*") if path.is_symlink()}
    assert links == {"1/parts/again"}
    # A module that asks for its own place finds the overlay.
    again = overlay / "1" / "parts" / "again" / "model.py"
    assert again.resolve() == overlay / "1" / "model.py"
    for folder in (overlay / "1", overlay / "1" / "parts" / "layers"):
        assert (folder / "__pycache__").is_file()
    assert [path.name for path in (overlay / "data").iterdir()] == ["x.bin"]


@pytest.mark.parametrize("first", ["1", "2"])
def test_no_second_path_leads_python_to_the_users_folder(tmp_path: Path, first: str) -> None:
    """Two versions share a folder of modules, and one of them is another name for the first."""
    source = write_model(tmp_path / "models")
    (tmp_path / "models" / "common").mkdir()
    (tmp_path / "models" / "common" / "helper.py").write_text("pass")
    (source / "1" / "model.py").write_text("pass")
    (source / "1" / "alias.py").symlink_to("model.py")
    (tmp_path / "models" / "far.py").write_text("pass")
    (source / "1" / "outside.py").symlink_to("../../far.py")
    (source / "3").mkdir()
    (source / "3" / "huge.py").write_bytes(b"#" * (2**20 + 1))
    for version in ("1", "3"):
        (source / version / "lib").symlink_to(tmp_path / "models" / "common")
    if first == "2":
        (source / "1").rename(source / "2")
        (source / "1").symlink_to("2")
    else:
        (source / "2").symlink_to("1")
    chosen = variant(read_model(tmp_path / "models", "tagger"))
    write_overlay(chosen, configure(chosen), tmp_path / "overlay")
    overlay = tmp_path / "overlay" / "tagger"
    for version in ("1", "2", "3"):
        for folder in (overlay / version, overlay / version / "lib"):
            assert overlay in (folder.resolve() / "x").parents
            assert (folder / "__pycache__").is_file()
        helper = overlay / version / "lib" / "helper.py"
        assert helper.is_file()
        assert overlay in helper.resolve().parents
    assert overlay in (overlay / "2" / "alias.py").resolve().parents
    # What leads out of the model, and what is large, is where it was.
    assert (overlay / "2" / "outside.py").resolve() == tmp_path / "models" / "far.py"
    assert (overlay / "3" / "huge.py").resolve() == source / "3" / "huge.py"


@pytest.mark.parametrize(
    "source",
    [
        'os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "common")',
        'os.path.realpath(__file__) + "/../../common"',
        'Path(__file__).resolve().parents[2] / "common"',
        'Path(__file__).resolve().parent.parent.parent / "common"',
        "dirname(dirname(dirname(realpath(__file__)))); from common.layers import dense",
    ],
)
@pytest.mark.parametrize("needed", [False, True])
def test_a_model_that_looks_two_folders_up_finds_what_it_names_there(
    tmp_path: Path, source: str, needed: bool
) -> None:
    models_folder = tmp_path / "models"
    version = write_model(models_folder) / "1"
    (version / "model.py").write_text(f"common = {source}\n")
    (models_folder / "common").mkdir()
    (models_folder / "common" / "helper.py").write_text("pass")
    (models_folder / "common" / "large.bin").write_bytes(b"x" * (2**20 + 1))
    (models_folder / "other").mkdir()
    write_model(models_folder, "caller")
    tagger = variant(read_model(models_folder, "tagger"))
    caller = variant(read_model(models_folder, "caller", needs=["tagger"]))
    repository = tmp_path / "overlay"
    for _ in range(2):
        # The second time, the model comes back after another variant of it.
        for chosen in (caller,) if needed else (tagger,):
            write_overlay(chosen, configure(chosen), repository)
        names = {"caller", "tagger"} if needed else {"tagger"}
        # What lies in the repository would be loaded as a model.
        assert {path.name for path in repository.iterdir()} == names
        above = (repository / "tagger" / "1" / "model.py").resolve().parents[2]
        assert {path.name for path in above.iterdir()} == {"tagger", "common"}
        assert tmp_path / "models" not in above.parents
        assert not (above / "common").is_symlink()
        assert (above / "common" / "helper.py").resolve() == above / "common" / "helper.py"
        assert (above / "common" / "large.bin").is_symlink()
        for chosen in (caller,) if needed else (tagger,):
            remove_overlay(chosen, repository)
        if needed:
            break  # a model that needs others stays on its server
    assert str(models_folder / "common") in shown(models_folder)


def shown(repository: Path) -> dict[str, str]:
    """What must be seen to read the model, by the path at which it must be."""
    everywhere = Container(prefix=Path("/native"), binds=("/:/outside",))
    found = paths_to_mount(variant(read_model(repository, "tagger")), everywhere)
    return {str(named): str(real) for real, named in found}


def test_a_model_without_links_is_all_in_its_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    assert shown(tmp_path / "models") == {str(folder): str(folder)}


def test_links_in_a_model_are_seen_where_they_point_to(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    store = tmp_path / "store"
    (store / "v1").mkdir(parents=True)
    (folder / "1" / "model.onnx").rename(store / "weights.onnx")
    (folder / "1").rmdir()
    (folder / "1").symlink_to(store / "v1")
    (store / "v1" / "model.onnx").symlink_to("../weights.onnx")
    (folder / "dead").symlink_to("nowhere")
    (folder / "inner").symlink_to("config.pbtxt")
    assert shown(tmp_path / "models") == {
        str(folder): str(folder),
        str(store / "v1"): str(store / "v1"),
        str(store / "weights.onnx"): str(store / "weights.onnx"),
    }


def test_a_relative_link_in_a_linked_folder_is_seen_beside_the_name_of_the_folder(
    tmp_path: Path,
) -> None:
    """Inside a container, the link's folder is not a link any more."""
    real = tmp_path / "real"
    write_model(real)
    (real / "tagger" / "1" / "model.onnx").rename(real / "weights.onnx")
    (real / "tagger" / "1" / "model.onnx").symlink_to("../../weights.onnx")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tagger").symlink_to(real / "tagger")
    models = tmp_path / "models"
    assert shown(models) == {
        str(models / "tagger"): str(real / "tagger"),
        str(models / "weights.onnx"): str(real / "weights.onnx"),
    }


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    (folder / "self").symlink_to(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path / "other")
    assert set(shown(tmp_path / "models")) == {str(folder), str(tmp_path / "other")}


@pytest.mark.parametrize("names", [("chain", "tagger"), ("tagger", "chain")])
def test_an_ensemble_and_a_model_that_it_calls_share_a_server(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    write_model(tmp_path / "models")
    folder = tmp_path / "models" / "chain" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(
        'platform: "ensemble" max_batch_size: 8 '
        'input { name: "x" data_type: TYPE_FP32 dims: 16 } '
        'output { name: "y" data_type: TYPE_FP32 dims: 8 } '
        'ensemble_scheduling { step { model_name: "tagger" model_version: -1 '
        'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }'
    )
    for name in names:
        axes = {"instance_count": 2} if name == "tagger" else {}
        chosen = variant(read_model(tmp_path / "models", name), **axes)
        write_overlay(chosen, configure(chosen), tmp_path / "overlay")
    written = (tmp_path / "overlay" / "tagger" / "config.pbtxt").read_text()
    assert parsed(written).instance_group[0].count == 2
    assert (tmp_path / "overlay" / "chain" / "config.pbtxt").exists()


def test_a_model_that_another_one_needs_is_served_as_it_stands(tmp_path: Path) -> None:
    for name in ("bls", "add"):
        write_model(tmp_path / "models", name)
    bls = variant(read_model(tmp_path / "models", "bls", needs=["add"]), instance_count=2)
    write_overlay(bls, configure(bls), tmp_path / "overlay")
    assert sorted(path.name for path in (tmp_path / "overlay").iterdir()) == ["add", "bls"]
    assert (tmp_path / "overlay" / "add").resolve() == tmp_path / "models" / "add"
    assert dict(paths_to_mount(bls, Container(runtime="native", prefix="/p"))).keys() == {
        tmp_path / "models" / "bls",
        tmp_path / "models" / "add",
    }


def tree(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Mode, time of the last change and content of everything below a folder."""
    return {
        path: (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.native
def test_a_python_model_leaves_its_repository_as_it_is(
    tmp_path: Path, native_prefix: Path, leaves_nothing: None
) -> None:
    models.of_strings(tmp_path / "models", tmp_path / "seen")
    version = tmp_path / "models" / "words" / "1"
    (version / "parts").mkdir()
    (version / "parts" / "__init__.py").touch()
    (version / "helper.py").touch()
    (tmp_path / "models" / "words" / "common").mkdir()
    (tmp_path / "models" / "words" / "common" / "shared.py").touch()
    (version / "again").symlink_to("../common")
    (tmp_path / "models" / "library").mkdir()
    (tmp_path / "models" / "library" / "far.py").touch()
    (version / "assets").mkdir()
    (version / "log.txt").touch()
    here = "import os, sys\nhere = os.path.dirname(os.path.realpath(__file__))\n"
    ways = "sys.path[:0] = [here, here + '/again', here + '/../../library']\n"
    ways += "import parts, helper, shared, far\n"
    # Some models keep a cache, or a log, beside themselves.
    ways += "for name in ('log.txt', 'assets/cache.txt'):\n"
    ways += "    with open(here + '/' + name, 'a') as stream:\n        stream.write('mine')\n"
    (version / "model.py").write_text(here + ways + (version / "model.py").read_text())
    before = tree(tmp_path / "models")
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "words", "shapes": {"text": [2]}}],
        load={"batch_size": 2},
    )
    (record,) = measured(campaign, site, tmp_path / "logs")
    assert record.status == "ok", record.reason
    assert tree(tmp_path / "models") == before
