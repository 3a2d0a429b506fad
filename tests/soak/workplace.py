"""The files of a campaign of the soak: the prefix with the stand-in, campaign and site."""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.paths import CHECKOUT

USER = 20017
"""The ordinary user of the box."""

HERE = Path(__file__).parent
RECORDED = CHECKOUT / "tests" / "data" / "perf_analyzer"


def write_prefix(prefix: Path, native: Path, *, python: str, real: float) -> None:
    """The native prefix with the stand-in in the place of perf_analyzer.

    ``native`` is the path inside the box; a share of ``real`` points is measured by its
    perf_analyzer.
    """
    (prefix / "bin").mkdir(parents=True)
    for name in ("manifest.json", "backends", "python", "triton"):
        (prefix / name).symlink_to(native / name)
    (prefix / "bin" / "tritonserver").symlink_to(native / "bin" / "tritonserver")
    program = prefix / "bin" / "perf_analyzer"
    text = (HERE / "replay.py").read_text()
    settings = {
        "RECORDED": str(RECORDED),
        "REAL_PROGRAM": str(native / "bin" / "perf_analyzer"),
        "REAL_SHARE": real,
    }
    lines = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    program.write_text(f"#!{python} -IS\n" + text.replace("# SETTINGS\n", lines))
    program.chmod(0o755)


def write_files(folder: Path, site: dict[str, Any], campaign: dict[str, Any]) -> None:
    """The campaign and the site, for a folder that belongs to the box's user."""
    (folder / "site.yaml").write_text(yaml.safe_dump(site, sort_keys=False))
    (folder / "campaign.yaml").write_text(yaml.safe_dump(campaign, sort_keys=False))


def give_to_user(folder: Path) -> None:
    """The box's user owns all of a folder."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)


def make_empty(folder: Path) -> Path:
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
