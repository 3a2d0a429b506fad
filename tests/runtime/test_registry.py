"""References to images in registries. A real registry is asked in test_apptainer.py."""

from __future__ import annotations

import socket

import pytest

from hpcbench.errors import SiteError
from hpcbench.runtime import registry
from hpcbench.runtime.registry import ImageReference

DIGEST = f"sha256:{'5' * 64}"


@pytest.mark.parametrize(
    ("text", "host", "name", "wanted"),
    [
        ("nvcr.io/nvidia/tritonserver:22.07-py3", "nvcr.io", "nvidia/tritonserver", "22.07-py3"),
        ("nvcr.io/nvidia/tritonserver", "nvcr.io", "nvidia/tritonserver", "latest"),
        (f"nvcr.io/a/b:1@{DIGEST}", "nvcr.io", "a/b", DIGEST),
        ("localhost/a:1", "localhost", "a", "1"),
        ("localhost:5000/a/b/c:1", "localhost:5000", "a/b/c", "1"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "latest"),
        ("debian", registry._HUB, "library/debian", "latest"),
        ("debian:13", registry._HUB, "library/debian", "13"),
        ("fastml/triton:22.07", registry._HUB, "fastml/triton", "22.07"),
        ("docker.io/fastml/triton:1", registry._HUB, "fastml/triton", "1"),
    ],
)
def test_what_may_be_left_out_of_a_reference_is_as_with_docker(
    text: str, host: str, name: str, wanted: str
) -> None:
    assert registry.parse_reference(f"docker://{text}") == ImageReference(host, name, wanted)


def test_a_resolved_reference_does_not_move_with_its_tag() -> None:
    reference = registry.parse_reference("docker://nvcr.io/nvidia/tritonserver:26.07-py3")
    assert reference.at(DIGEST) == f"docker://nvcr.io/nvidia/tritonserver@{DIGEST}"
    assert registry.resolve_digest(reference.at(DIGEST)) == DIGEST, "no registry is asked for this"


def test_a_registry_that_does_not_answer_is_named_with_what_to_do() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(SiteError) as caught:
            registry.resolve_digest(f"docker://{host}/triton:1")
    assert f"the registry {host} does not answer: " in str(caught.value)
    assert "docker://name@sha256:..." in caught.value.hint


@pytest.mark.parametrize(
    ("host", "realm", "sent"),
    [
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("nvcr.io", "https://nvcr.io/proxy_auth", True),
        ("registry.example:5000", "https://registry.example/token", True),
        ("nvcr.io", "https://nvcr.io.evil.example/token", False),
        ("nvcr.io", "https://evil.example/nvcr.io", False),
        ("nvcr.io", "https://nvcr.io@evil.example/token", False),
    ],
)
def test_a_password_goes_to_the_registrys_own_domain_only(
    monkeypatch: pytest.MonkeyPatch, host: str, realm: str, sent: bool
) -> None:
    """The registry says who gives tokens; a site file says which registry."""
    asked: list[dict[str, str]] = []

    def ask(_: str, headers: dict[str, str], __: str) -> registry._Answer:
        asked.append(headers)
        return registry._Answer({}, b'{"token": "t"}')

    monkeypatch.setattr(registry, "_ask", ask)
    monkeypatch.setattr(registry, "_login", lambda _: "c2VjcmV0")
    answer = registry._authorization(f'Bearer realm="{realm}",service="s"', host)
    assert answer == "Bearer t"
    assert ("Authorization" in asked[0]) is sent
