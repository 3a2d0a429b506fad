"""The stand-in for perf_analyzer prints what hpcbench reads, until it is ended."""

import signal
import subprocess
import sys
from pathlib import Path

from hpcbench.measure.perf_analyzer import known_flags
from hpcbench.measure.report_stream import Line, ReportStream
from tests.soak import replay
from tests.soak.workplace import write_prefix


def stand_in(tmp_path: Path) -> Path:
    write_prefix(tmp_path / "prefix", Path("/opt/native"), python=sys.executable, real=0.0)
    return tmp_path / "prefix" / "bin" / "perf_analyzer"


def test_hpcbench_reads_its_reports_and_ends_it(tmp_path: Path) -> None:
    words = [stand_in(tmp_path), "-m", "echo", "-b", "2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stream = ReportStream(95)
        while len(stream.reports) < 20:
            stream.add([Line(process.stdout.readline(), 0.0, 1.0)])
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        assert process.wait(20) == 0
    assert stream.reports[1].metrics["throughput_infer_per_s"] == 97.1679
    assert stream.reports[16].metrics == stream.reports[1].metrics


def test_it_knows_the_flags_of_the_real_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [stand_in(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "--concurrency-range" in known_flags(done.stderr)


def test_one_point_in_twenty_is_measured_by_the_real_one_whatever_its_port() -> None:
    points = [f"-m echo -b {n} -u localhost:{n % 7}".split() for n in range(2000)]
    real = [words for words in points if replay.wants_the_real_one(words, 0.05)]
    assert 60 < len(real) < 140
    assert all(replay.wants_the_real_one([*w[:-1], "localhost:9"], 0.05) for w in real)
