"""The jobs of a pool as a Dask cluster: what happens where Dask fails. The rest is in the box."""

import logging

import pytest
from distributed.comm import CommClosedError

from hpcbench.batch_cluster import closed_at_the_end
from hpcbench.errors import Interrupted


class Gone:
    """A cluster whose scheduler is gone: what Dask said when a run was cancelled."""

    def close(self) -> None:
        raise CommClosedError(
            "Exception while trying to call remote method 'retire_workers' using comm "
            "<TLS (closed) ConnectionPool.retire_workers>"
        )


def test_how_a_run_ended_is_not_lost_where_dask_fails_to_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(Interrupted),
        closed_at_the_end(Gone()),
    ):
        raise Interrupted("ended by hpcbench cancel; what was measured is kept")
    assert "Dask closed with an error: Exception while trying to call" in caplog.text


def test_a_run_that_is_through_stays_so_where_dask_fails_to_close() -> None:
    with closed_at_the_end(Gone()) as cluster:
        assert isinstance(cluster, Gone)
