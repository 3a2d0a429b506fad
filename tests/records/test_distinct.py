import itertools
import subprocess
import sys

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.records.distinct import distinct_rows

ROWS = st.lists(
    st.tuples(st.none() | st.text(max_size=2), st.none() | st.integers(-3, 3), st.booleans()),
    max_size=12,
)
TYPES = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.bool_())])


@given(st.lists(ROWS, max_size=4))
def test_each_row_of_a_table_of_several_files_is_there_once(parts):
    tables = [
        pa.table([[row[i] for row in rows] for i in range(3)], schema=TYPES) for rows in parts
    ]
    whole = pa.concat_tables([TYPES.empty_table(), *tables])
    expected = set(itertools.chain.from_iterable(parts))
    assert distinct_rows(whole) == expected
    assert distinct_rows(whole.slice(1)) == set(list(itertools.chain(*parts))[1:])


def test_it_takes_no_pandas():
    code = """
import io, sys
import pyarrow.json
from hpcbench.records.distinct import distinct_rows
lines = b'{"a": "x", "b": 1}\\n{"a": null, "b": 1}\\n{"a": "x", "b": 1}'
found = distinct_rows(pyarrow.json.read_json(io.BytesIO(lines)))
assert found == {("x", 1), (None, 1)}, found
assert "pandas" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
