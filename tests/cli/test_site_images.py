"""`hpcbench images --site`: what a run will need is pulled before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hpcbench.cli.main import main
from hpcbench.runtime import apptainer
from tests.helpers.builders import write_campaign, write_site
from tests.helpers.sif import write_sif

DIGESTS = {name: f"sha256:{number * 64}" for name, number in (("new", "1"), ("old", "2"))}
REFERENCES = {name: f"docker://registry.example/triton@{d}" for name, d in DIGESTS.items()}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    container = {
        "runtime": "apptainer",
        "server_image": REFERENCES["new"],
        "sdk_image": str(write_sif(tmp_path / "sdk.sif")),
        "server_images": {"old": REFERENCES["old"]},
        "cache": "cache",
    }
    return write_site(tmp_path, container=container)


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The references that were pulled; a file stands for each image."""
    found: list[str] = []

    def write(reference: str, target: Path) -> None:
        found.append(reference)
        write_sif(target)

    monkeypatch.setattr(apptainer.RUNTIME, "pull", write)
    return found


def images(*words: Any) -> Result:
    return CliRunner().invoke(main, ["images", *map(str, words)])


def test_the_images_of_a_site_are_pulled_once(
    site: Path, pulled: list[str], tmp_path: Path
) -> None:
    ended = images("--site", site)
    assert ended.exit_code == 0, ended.output
    assert pulled == [REFERENCES["new"]]
    assert f"pulling {REFERENCES['new']} into {tmp_path / 'cache'}\n" in ended.stderr
    where = tmp_path / "cache" / f"{DIGESTS['new'].replace(':', '-')}.sif"
    assert where.is_file()
    assert f"{REFERENCES['new']}: {where}\n" in ended.stdout
    assert images("--site", site).exit_code == 0
    assert len(pulled) == 1


def test_a_campaigns_further_images_are_pulled_with_it(
    site: Path, pulled: list[str], tmp_path: Path
) -> None:
    models = [{"name": "tagger", "server_image": "old"}]
    ended = images("--site", site, "--campaign", write_campaign(tmp_path, models=models))
    assert ended.exit_code == 0, ended.output
    assert set(pulled) == set(REFERENCES.values())
    models = [{"name": "tagger", "server_image": "odl"}]
    ended = images("--site", site, "--campaign", write_campaign(tmp_path, models=models))
    assert ended.exit_code == 2
    assert "names no image 'odl'; it names: old" in ended.output


def test_what_can_not_be_pulled_is_said(site: Path, tmp_path: Path, pulled: list[str]) -> None:
    for words, code, message in (
        ((), 2, "give a FOLDER to build images in, or --site to pull"),
        ((tmp_path, "--site", site), 2, "either pulled for a site or built in a FOLDER"),
        ((tmp_path, "--server-image", "x"), 2, "need --site"),
        (("--site", "local"), 2, "runtime: native has no images"),
    ):
        ended = images(*words)
        assert ended.exit_code == code, ended.output
        assert message in " ".join(ended.output.split())
    assert pulled == []
