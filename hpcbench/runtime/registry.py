"""Ask a container registry which image a docker:// reference stands for today.

The protocol is that of the OCI distribution specification, as far as a pull needs it:
https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

import base64
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcbench.config.container import DOCKER
from hpcbench.errors import SiteError

_TIMEOUT_S = 30
_ACCEPTED = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_HUB = "registry-1.docker.io"
_LOGINS = (
    "~/.apptainer/docker-config.json",
    "~/.singularity/docker-config.json",
    "~/.docker/config.json",
)
"""Where ``apptainer registry login`` and ``docker login`` store passwords."""


@dataclass(frozen=True)
class ImageReference:
    """A docker:// reference, taken apart.

    Attributes
    ----------
    host
        The registry.
    name
        The repository in it.
    tag_or_digest
        A tag, or a digest sha256:...
    """

    host: str
    name: str
    tag_or_digest: str

    def at(self, digest: str) -> str:
        """Return the reference of an image that the tag can no longer change.

        Parameters
        ----------
        digest
            sha256:...

        Returns
        -------
        str
            docker://host/name@digest.
        """
        return f"{DOCKER}{self.host}/{self.name}@{digest}"


def parse_reference(text: str) -> ImageReference:
    """Take a docker:// reference apart by Docker's rules for what may be left out.

    Parameters
    ----------
    text
        The reference.

    Returns
    -------
    ImageReference
        With the host, ``library/`` and ``latest`` filled in.
    """
    rest, _, digest = text.removeprefix(DOCKER).partition("@")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = _HUB if first == "docker.io" else first
    else:
        host, path = _HUB, rest
    name, _, tag = path.partition(":")
    if host == _HUB and "/" not in name:
        name = f"library/{name}"
    return ImageReference(host, name, digest or tag or "latest")


def resolve_digest(text: str) -> str:
    """Return the digest of the image that a docker:// reference stands for.

    Parameters
    ----------
    text
        The reference. One with a digest is not looked up.

    Returns
    -------
    str
        sha256:...

    Raises
    ------
    SiteError
        Where the registry cannot be reached, or has no such image.
    """
    reference = parse_reference(text)
    if reference.tag_or_digest.startswith("sha256:"):
        return reference.tag_or_digest
    url = f"https://{reference.host}/v2/{reference.name}/manifests/{reference.tag_or_digest}"
    try:
        return _digest(url, reference.host)
    except urllib.error.HTTPError as error:
        raise SiteError(f"{text}: {_refusal(error.code, reference)}", _HINT) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise SiteError(
            f"{text}: the registry {reference.host} does not answer: {reason}", _HINT
        ) from error


_HINT = (
    "check the name; if this machine cannot reach the internet, pull the image elsewhere "
    "(apptainer pull image.sif docker://...) and name the SIF file, or give the digest: "
    "docker://name@sha256:..."
)


def _refusal(code: int, reference: ImageReference) -> str:
    if code in (401, 403):
        return (
            f"the registry {reference.host} says that you may not read it, or that it does not "
            f"exist; log in: apptainer registry login docker://{reference.host}"
        )
    if code == 404:
        return (
            f"the registry {reference.host} has no {reference.name} with {reference.tag_or_digest}"
        )
    return f"the registry {reference.host} answers with error {code}"


def _digest(url: str, host: str) -> str:
    headers = {"Accept": _ACCEPTED}
    try:
        answer = _ask(url, headers, "HEAD")
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        headers["Authorization"] = _authorization(error.headers.get("WWW-Authenticate", ""), host)
        answer = _ask(url, headers, "HEAD")
    # Of an index for several architectures this is the index's own digest, as pulls ask for it.
    digest = answer.headers.get("Docker-Content-Digest")
    if digest and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return digest
    # The specification only recommends the header. The digest is that of the manifest's bytes.
    return f"sha256:{hashlib.sha256(_ask(url, headers, 'GET').body).hexdigest()}"


@dataclass(frozen=True)
class _Answer:
    headers: Mapping[str, str]
    body: bytes


def _ask(url: str, headers: Mapping[str, str], method: str) -> _Answer:
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        return _Answer(response.headers, response.read())


def _authorization(challenge: str, host: str) -> str:
    """The header that a registry asks for: also public images need a token, which anyone gets."""
    login = _login(host)
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() != "bearer":
        return f"Basic {login}"
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = fields.pop("realm")
    if not realm.startswith("https://"):
        raise ValueError(f"it asks for a login at {realm}, which is not encrypted")
    query = urllib.parse.urlencode({k: v for k, v in fields.items() if k in ("service", "scope")})
    # The registry names who is to get the password: not somebody of another domain.
    known = login and _domain(urllib.parse.urlsplit(realm).hostname) == _domain(host)
    answer = _ask(f"{realm}?{query}", {"Authorization": f"Basic {login}"} if known else {}, "GET")
    token = json.loads(answer.body)
    return f"Bearer {token.get('token') or token['access_token']}"


def _domain(host: str | None) -> tuple[str, ...]:
    """The last two labels of a host's name, as in ("docker", "io"), without its port."""
    return tuple((host or "").partition(":")[0].lower().split(".")[-2:])


def _login(host: str) -> str:
    """User and password for a registry as Apptainer would find them, in base64; "" if none."""
    user, password = (os.environ.get(f"APPTAINER_DOCKER_{n}") for n in ("USERNAME", "PASSWORD"))
    if user and password:
        return base64.b64encode(f"{user}:{password}".encode()).decode()
    for file in _LOGINS:
        try:
            known = json.loads(Path(file).expanduser().read_text()).get("auths", {})
            found = known.get(host, known.get(f"https://{host}", {})).get("auth")
        except (OSError, RuntimeError, ValueError, AttributeError):
            continue
        if found:
            return str(found)
    return ""
