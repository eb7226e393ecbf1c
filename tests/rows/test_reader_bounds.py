"""Reading is bounded: in time by the lines, in memory by a block, and a record by its largest size."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import pytest
from reading import HEADER, MANY, read

from crm_core.formats.csv_records import RAW_BYTES
from crm_core.rows.reader import read_drop

pytestmark = pytest.mark.unit


def test_a_record_beyond_the_largest_size_is_rejected_wherever_the_blocks_end(path: Path) -> None:
    long, lines = "x" * 60, '"1\n2\n3' + "y" * 60 + '"'
    content = f"{HEADER}a,b,c\n{long},{long},d\ne,f,g\n{lines},h,i\nj,k,l\n"
    for block_bytes in (1, 10, 50, 120, 121, 150, MANY):
        found = read(path, content, block_bytes=block_bytes, record_bytes=60)
        assert [(reject.line, reject.raw) for reject in found.rejects] == [
            (3, long),  # as much of it as a record may have
            (5, '"1'),
            (6, "2"),
            (7, "3" + "y" * 59),
        ]
        assert [row[:2] for row in found.rows] == [(2, "a"), (4, "e"), (8, "j")]


@pytest.mark.parametrize(
    "row",
    ['"a,b,c', 'a,"b"x,c', 'a"b,c,d', "a\xff,b,c", 'a,"\n",b', "", 'a,b,"""', '""x,,', "short"],
    ids=["open", "after-quote", "bare-quote", "latin-1", "newline", "blank", "odd-quotes", "after-empty", "short"],
)
def test_the_time_is_linear_in_the_lines_even_if_every_one_is_odd(path: Path, row: str) -> None:
    path.write_bytes(HEADER.encode() + f"{row}\n".encode("latin-1") * 100_000)
    started = time.process_time()
    lines = sum(chunk.frame.height + len(chunk.rejects) for chunk in read_drop(path, block_bytes=1 << 20))
    assert lines in (0, 50_000, 100_000)
    assert time.process_time() - started < 5, "quadratic time would be minutes"


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    def peak(rows: int) -> int:
        path.write_text(
            HEADER + 'Ada Lovelace,PERSON,"[{""detail_type"":""email"",""detail_value"":""a@x""}]"\n' * rows
        )
        program = """
            import resource, sys
            from pathlib import Path
            from crm_core.rows.reader import read_drop
            for chunk in read_drop(Path(sys.argv[1]), block_bytes=1 << 20):
                pass
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        """
        command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak(800_000) - peak(100_000) < 20_000, "KiB, for 50 MB more of file"


def test_a_line_without_an_end_does_not_fill_the_memory(path: Path) -> None:
    path.write_bytes(HEADER.encode() + b"x" * (32 << 20) + b"\nAda,PERSON,[]\n")
    tracemalloc.start()
    chunks = list(read_drop(path, block_bytes=1 << 20, record_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    ((line, raw),) = ((reject.line, reject.raw) for chunk in chunks for reject in chunk.rejects)
    assert (line, raw) == (2, "x" * RAW_BYTES + "[cut: 983,040 bytes or more are left out; see line 2 of the file]")
    assert [chunk.frame["line"].to_list() for chunk in chunks if chunk.frame.height] == [[3]]
    assert peak < 16 << 20
