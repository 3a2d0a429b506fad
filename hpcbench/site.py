"""The site file: one HPC machine, its pools, and where Triton and perf_analyzer come from."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hpcbench import textfile
from hpcbench.campaign import Count, Name
from hpcbench.errors import BadInput
from hpcbench.runtime import Container, Frozen

CHECKOUT = Path(__file__).resolve().parent.parent


class Pool(Frozen):
    """One kind of node: what one worker gets, and how many workers there may be."""

    gpu: str | None = None
    gpus_per_job: Annotated[int, Field(strict=True, ge=0)] = 0
    cpus: Count | None = None
    max_jobs: Count = 1


class Site(Frozen):
    """One machine: ``local`` runs its workers as processes of this computer."""

    name: Name
    scheduler: Literal["local"] = "local"
    container: Container
    pools: Annotated[dict[Name, Pool], Field(min_length=1)]

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Site":
        """Reads a site file, or finds the one of that name in a folder ``site_configs``.

        The folder is looked for in the working folder, then beside the package.
        """
        given = str(name_or_path)
        if given.endswith((".yaml", ".yml")) or os.sep in given:
            return textfile.load(Path(given), cls)
        folders = [Path.cwd() / "site_configs", CHECKOUT / "site_configs"]
        for folder in folders:
            if (folder / f"{given}.yaml").is_file():
                return textfile.load(folder / f"{given}.yaml", cls)
        known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
        raise BadInput(
            f"site '{given}': there is no site_configs/{given}.yaml;"
            f"{textfile.nearest(given, known)} known sites: {', '.join(known) or 'none'}",
            "name one of these, or give the path of a site file",
        )
