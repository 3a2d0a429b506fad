"""The keys of a run: who has them is let in, also where clocks differ; nobody else reads them."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed.security import Security

from hpcbench.cluster import tls
from tests.helpers.stranger import as_stranger, needs_root


def _shake_hands(server: Security, client: Security) -> str:
    """The version of TLS that two processes agree on; no socket is needed for that."""
    contexts = (
        server.get_listen_args("scheduler")["ssl_context"],
        client.get_connection_args("worker")["ssl_context"],
    )
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[0].wrap_bio(pipes[0], pipes[1], server_side=True),
        contexts[1].wrap_bio(pipes[1], pipes[0]),
    ]
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return str(ends[0].version())


class _Later(datetime):
    """The clock of a driver that is ahead: so this host is the node that is behind."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + cls.ahead


@pytest.mark.parametrize("ahead", [timedelta(seconds=6), timedelta(hours=1), timedelta(hours=23)])
def test_a_node_whose_clock_is_behind_trusts_the_certificate(
    monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    monkeypatch.setattr(_Later, "ahead", ahead)
    monkeypatch.setattr(tls, "datetime", _Later)
    keys = tls.keys_in_memory()
    assert _shake_hands(keys, keys).startswith("TLSv1.")


def test_the_handshake_of_this_test_does_look_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Later, "ahead", timedelta(hours=25))
    monkeypatch.setattr(tls, "datetime", _Later)
    keys = tls.keys_in_memory()
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        _shake_hands(keys, keys)


def test_whoever_has_other_keys_is_not_let_in() -> None:
    with pytest.raises(ssl.SSLError):
        _shake_hands(tls.keys_in_memory(), tls.keys_in_memory())


def test_keys_in_files_are_as_good_as_those_in_memory(tmp_path: Path) -> None:
    with tls.make_keys(tmp_path / "keys") as keys:
        assert _shake_hands(keys.security(), keys.security()).startswith("TLSv1.")
    assert not (tmp_path / "keys").exists()


@needs_root
def test_another_user_cannot_read_the_keys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with tls.make_keys(tmp_path / "keys") as keys:
            read = 'cat "$1"/* 2>/dev/null || echo refused'
            printed = as_stranger(read, keys.folder, folder=tmp_path)
            assert keys.folder.stat().st_mode & 0o777 == 0o700
            assert {path.stat().st_mode & 0o777 for path in keys.files} == {0o600}
    finally:
        os.umask(before)
    assert printed == "refused\n"


def test_the_certificate_outlives_a_run() -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(tls.make_certificate()[0].encode())
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)
