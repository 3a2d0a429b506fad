"""What looks like a secret does not leave the site file."""

from __future__ import annotations

import pytest

from hpcbench.plan.secrets import left_out, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "export NGC_API_KEY=s3cr3t",
        "export HF_TOKEN='s3cr3t s3cr3t'",
        'MYSQL_PASSWORD="s3cr3t s3cr3t" module load db',
        "--wandb-token=s3cr3t",
        "fetch --password s3cr3t --all",
        "aws_secret_access_key = s3cr3t",
        "curl -H 'Authorization: Bearer s3cr3t' https://x.example",
        "curl https://me:s3cr3t@x.example/file",
    ],
)
def test_a_secret_is_left_out_and_the_rest_stays(text: str) -> None:
    found = without_secrets({"pools": {"gpu": {"prologue": [text]}}})
    assert "s3cr3t" not in str(found)
    assert list(left_out(found)) == ["a secret in pools.gpu.prologue"]
    assert without_secrets(found) == found
    shown = found["pools"]["gpu"]["prologue"][0]
    assert shown[:3] == text[:3]


@pytest.mark.parametrize(
    "text",
    [
        "module load apptainer",
        "export PATH=/opt/key/bin:$PATH",
        "export NGC_API_KEY=$(cat ~/.ngc)",
        'export HF_TOKEN="$HF_TOKEN"',
        "export TOKEN_FILE=~/.token",
        "TARGET.HasToken == true",
        "https://x.example/file@v1",
        "--constraint=gpu&hbm80g",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert without_secrets([text]) == [text]
    assert list(left_out([text])) == []


def test_a_key_of_an_htcondor_job_that_is_a_secret_is_left_out() -> None:
    site = {"directives": {"MY.ApiToken": "s3cr3t", "request_gpus": "1"}}
    assert without_secrets(site)["directives"] == {
        "MY.ApiToken": "__left_out__",
        "request_gpus": "1",
    }
