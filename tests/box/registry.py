"""A container registry on the box's loopback, and an image put into it by the registry's own API.

The image's layer is a root folder as a tar; the protocol is the OCI distribution specification's.
"""

import gzip
import hashlib
import http.client
import ipaddress
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PORT = 5443
HOST = f"127.0.0.1:{PORT}"
CONFIG = {
    "version": 0.1,
    "log": {"level": "info"},
    "storage": {"filesystem": {"rootdirectory": "data"}},
    "http": {
        "addr": HOST,
        "tls": {"certificate": "cert.pem", "key": "key.pem"},
    },
}


def certificate(folder: Path) -> None:
    """A key and a certificate for the loopback, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def prepare(folder: Path) -> None:
    """What `docker-registry serve config.yml` needs, in a folder of the box."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate(folder)
    (folder / "config.yml").write_text(json.dumps(CONFIG))


class _Client:
    def __init__(self, folder: Path) -> None:
        self._context = ssl.create_default_context(cafile=str(folder / "cert.pem"))

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> dict[str, str]:
        connection = http.client.HTTPSConnection(HOST, context=self._context, timeout=60)
        kind = kind or "application/octet-stream"
        connection.request(method, path, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, (method, path, answer.status, text)
        return dict(answer.getheaders())

    def blob(self, name: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        where = self.ask("POST", f"/v2/{name}/blobs/uploads/")["Location"]
        path = where.partition(HOST)[2] or where
        joint = "&" if "?" in path else "?"
        self.ask("PUT", f"{path}{joint}digest={digest}", content)
        return {"digest": digest, "size": len(content)}


def push(folder: Path, name: str, tag: str, root: Path, path: str) -> str:
    """Puts a root folder into the registry; gives the digest that the registry has for it."""
    tar = subprocess.run(
        ["tar", "-C", str(root), "--numeric-owner", "--owner=0", "--group=0", "-cf", "-", "."],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={path}"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
    }
    client = _Client(folder)
    oci = "application/vnd.oci.image"
    layer = {"mediaType": f"{oci}.layer.v1.tar+gzip", **client.blob(name, gzip.compress(tar, 1))}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": {
            "mediaType": f"{oci}.config.v1+json",
            **client.blob(name, json.dumps(config).encode()),
        },
        "layers": [layer],
    }
    path = f"/v2/{name}/manifests/{tag}"
    answer = client.ask("PUT", path, json.dumps(manifest).encode(), manifest["mediaType"])
    return answer["Docker-Content-Digest"]


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        _, _, place, name, tag, root, path = sys.argv
        sys.stdout.write(push(Path(place), name, tag, Path(root), path))
