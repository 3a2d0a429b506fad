"""Kinds of models that public repositories hold, and what is refused of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hpcbench import Campaign, Site
from hpcbench.plan.plan import plan
from tests.helpers import model_kinds
from tests.helpers.builders import refusal, write_prefix, write_site


def refused(folder: Path, entry: dict[str, Any]) -> str:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(model_kinds.campaign(folder / "models", [entry])))
    return refusal(plan, Campaign.load(path), Site.load(folder / "site.yaml"))


def test_what_no_campaign_may_ask_for_is_refused_in_the_plan(tmp_path: Path) -> None:
    model_kinds.build(tmp_path / "models")
    write_prefix(tmp_path)
    write_site(tmp_path)
    for entry, words in model_kinds.REFUSED:
        assert words in refused(tmp_path, entry)
