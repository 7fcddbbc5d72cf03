import gzip
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from llmrec_env.content.cells import identifier_of, seconds_of
from llmrec_env.content.table_reader import Row, TableReader

SECRET = "anna-secret"
"""Stands in every damaged row: no message may repeat it."""

GOOD = {".csv": f"{SECRET},a text", ".jsonl": f'{{"user": "{SECRET}", "text": "a text"}}'}


class TableError(ValueError):
    """What the readers of these tests raise."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, count_malformed: bool = False, **names: str | None) -> tuple[list[Row], int]:
    """The rows of a table with the columns user and text, and how many were left out."""
    reader = TableReader(path, TableError, count_malformed)
    rows = list(reader.rows({"user": "user", "text": "text", **names}, ("user",)))
    return rows, reader.malformed


def test_cells_stand_in_the_order_of_the_roles_with_none_for_what_is_not_there(tmp_path: Path):
    path = write(tmp_path / "a.csv", 'x,text,user\r\n1,"a\n""b""",u\r\n\r\n2,,v\r\n')
    assert read(path) == ([(2, ("u", 'a\n"b"')), (5, ("v", ""))], 0)
    assert read(path, text=None)[0] == [(2, ("u", None)), (5, ("v", None))]
    assert read(path, text="user")[0] == [(2, ("u", "u")), (5, ("v", "v"))]
    path = write(tmp_path / "a.jsonl", '{"text": [1], "user": 2}\n\n{"user": null}')
    assert read(path) == ([(1, (2, [1])), (3, (None, None))], 0)


def test_parquet_rows_are_those_of_the_other_formats(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": [0, 0], "user": ["u", None]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ([(1, ("u", None)), (2, (None, None))], 0)
    pq.write_table(pa.table({"x": [0]}), tmp_path / "a.parquet")
    with pytest.raises(TableError, match=r"row 0: none of the 1 columns is called 'user'"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_fits_the_header(tmp_path: Path, delimiter: str):
    other = ";" if delimiter == "," else ","
    lines = [f"\ufeffx{other}y", "user", "text"], ["1", "u", f'"a{other} b"']
    path = write(tmp_path / "a.csv", "\r\n".join(delimiter.join(line) for line in lines))
    assert read(path)[0] == [(2, ("u", f"a{other} b"))]
    with pytest.raises(TableError, match="none of the 1 columns is called 'user'"):
        list(TableReader(path, TableError, delimiter="^").rows({"user": "user"}, ("user",)))


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_gzip_is_read_whatever_its_name(tmp_path: Path, kind: str):
    content = f"user,text\n{GOOD['.csv']}\n" if kind == ".csv" else GOOD[kind]
    packed = gzip.compress(content.encode())
    for name in (f"a{kind}.gz", f"a{kind}"):
        assert len(read(write(tmp_path / name, packed))[0]) == 1
    cut = write(tmp_path / f"a{kind}", packed[:-9])
    with pytest.raises(TableError, match="damaged or cut off"):
        read(cut)


def test_a_small_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("llmrec_env.content.table_lines.MAX_BYTES", 200)
    path = write(tmp_path / "a.csv.gz", gzip.compress(b"user,text\n" + b"u,a\n" * 1000))
    with pytest.raises(TableError, match="more than 200 characters; split"):
        read(path)


def test_a_named_encoding_is_read(tmp_path: Path):
    for encoding in ("cp1252", "utf-16"):
        path = write(tmp_path / "a.csv", "user,text\nu,caf\u00e9\n".encode(encoding))
        reader = TableReader(path, TableError, encoding=encoding)
        assert list(reader.rows({"user": "user", "text": "text"}, ())) == [(2, ("u", "caf\u00e9"))]
    with pytest.raises(TableError, match="encoding='klingon' is none"):
        list(TableReader(path, TableError, encoding="klingon").rows({"a": "a"}, ()))


def test_a_data_frame_is_a_table():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None], "user": pandas.array([1, None], "Int64")})
    reader = TableReader(frame, TableError)
    assert reader.header() == ["text", "user"]
    (_, first), (row, second) = reader.rows({"user": "user", "x": "x"}, ("user",))
    assert first == (1, None) and row == 2
    assert identifier_of(second[0]) == "" and math.isnan(seconds_of(pandas.NaT))
    with pytest.raises(TableError, match="DataFrame, row 0: none of the 2 columns is called 'no'"):
        list(reader.rows({"user": "no"}, ("user",)))


def test_all_malformed_rows_are_one_error(tmp_path: Path):
    rows = [GOOD[".csv"], "u", "u", f"{SECRET},a,b", 'u,"x"y', GOOD[".csv"]]
    path = write(tmp_path / "a.csv", "\n".join(["user,text", *rows]))
    with pytest.raises(TableError) as error:
        read(path)
    head, *kinds = str(error.value).splitlines()
    assert head.endswith("a.csv: 4 rows cannot be used:")
    assert (
        kinds[0].startswith("  3 x 1 fields where the header has 2")
        and "(lines 3, 4, 5)" in kinds[0]
    )
    assert kinds[1].startswith("  1 x ") and "(line 6)" in kinds[1]
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("column", "near"),
    [("userId", True), ("USER", True), ("customer_id", True), ("use", True), (SECRET, False)],
)
def test_a_missing_column_is_told_with_the_one_that_was_meant(
    tmp_path: Path, column: str, near: bool
):
    path = write(tmp_path / "a.csv", f"{column},text\nu,a\n")
    with pytest.raises(TableError) as error:
        read(path)
    assert (f"did you mean '{column}'" in str(error.value)) == near
    assert near or column not in str(error.value)


def test_the_header_is_told_of_every_kind(tmp_path: Path):
    assert TableReader(write(tmp_path / "a.csv", "\ufeffa;b\n"), TableError).header() == ["a", "b"]
    path = write(tmp_path / "a.jsonl", '\n{"b": 1, "a": 2}\n{"c": 1}')
    assert TableReader(path, TableError).header() == ["b", "a"]
    assert TableReader(write(tmp_path / "b.jsonl", ""), TableError).header() == []
    with pytest.raises(TableError, match="not UTF-8"):
        TableReader(write(tmp_path / "b.csv", b"\xff,b\n"), TableError).header()
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": [0], "y": [1]}), tmp_path / "a.parquet")
    assert TableReader(tmp_path / "a.parquet", TableError).header() == ["x", "y"]


DAMAGED = {
    "invalid UTF-8": (".csv", f"{SECRET},\xff".encode("latin-1"), "bytes that are not UTF-8"),
    "NUL": (".csv", f"{SECRET},\0", "a NUL character; remove it"),
    "too few fields": (".csv", SECRET, "1 fields where the header has 2; put fields .* in quotes"),
    "too many fields": (".csv", f"{SECRET},,,", "4 fields where the header has 2"),
    "open quote": (".csv", f'{SECRET},"a', "a quote that is never closed; close every quote"),
    "text after a quote": (".csv", f'"{SECRET}"x,a', "close every quote"),
    "long line": (".csv", SECRET + "x" * 1_000_001, "more than 1000000 characters"),
    "long field": (".csv", f"{SECRET},{'x' * 200_000}", "a field that is too large"),
    "not JSON": (".jsonl", f'{{"user": "{SECRET}"', "not JSON at column"),
    "not an object": (".jsonl", f'["{SECRET}"]', "not a JSON object; write one"),
    "key twice": (".jsonl", f'{{"user": "{SECRET}", "user": "x"}}', "a key occurs twice"),
    "inner key twice": (".jsonl", f'{{"x": {{"{SECRET}": 1, "{SECRET}": 2}}}}', "occurs twice"),
    "NaN": (".jsonl", f'{{"user": "{SECRET}", "x": NaN}}', "NaN is not JSON"),
    "infinity": (".jsonl", f'{{"user": "{SECRET}", "x": -Infinity}}', "-Infinity is not JSON"),
    "endless number": (".jsonl", '{"user": %s}' % ("9" * 5000), "a value beyond what can be read"),
    "deep": (".jsonl", "[" * 200_000, "a value beyond what can be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("end", [False, True])
def test_malformed_row_is_refused_with_its_line_or_counted(tmp_path: Path, name: str, end: bool):
    suffix, damaged, problem = DAMAGED[name]
    lines: list[str | bytes] = ["user,text" if suffix == ".csv" else "", GOOD[suffix], damaged]
    lines += [] if end else [GOOD[suffix]] * 2
    content = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    path = write(tmp_path / f"log{suffix}", content + b"\n")
    with pytest.raises(TableError, match=rf"log{suffix}, line 3: .*{problem}") as error:
        read(path)
    assert SECRET not in str(error.value)
    rows, malformed = read(path, count_malformed=True)
    assert [line for line, _ in rows] == ([2] if end else [2, 4, 5]) and malformed == 1


def test_reading_goes_on_at_the_second_line_of_a_malformed_record(tmp_path: Path):
    lines = ["user,text", "u,a", '"u,a', "u,a", 'u,"two\nlines"', "u,a", '"u,a', '"u,a']
    path = write(tmp_path / "a.csv", "\n".join(lines) + "\n")
    rows, malformed = read(path, count_malformed=True)
    assert [line for line, _ in rows] == [2, 4, 5, 7] and malformed == 3


@pytest.mark.parametrize("count_malformed", [False, True])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("user,text\nu,a\n".encode("utf-16"), "bytes that are not UTF-8"),
        (f"{SECRET},text\nu,a\n", "none of the 2 columns is called 'user'; .* user=..., or write"),
        ("user,user\nu,a\n", "two columns have one name; rename one"),
        (f'"user,text\n{SECRET},a\n', "never closed"),
        ("", "the file is empty"),
    ],
)
def test_damaged_header_is_always_refused(
    tmp_path: Path, content: str | bytes, problem: str, count_malformed: bool
):
    path = write(tmp_path / "log.csv", content)
    with pytest.raises(TableError, match=f"line 1: .*{problem}") as error:
        read(path, count_malformed)
    assert SECRET not in str(error.value)


def test_required_key_stands_in_some_object(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(TableError, match=r"line 2: none of the 1 keys is called 'user'; .* user="):
        read(path)
    write(path, '{"text": "a"}\n{"user": "u"}\n')
    assert read(path)[0] == [(1, (None, "a")), (2, ("u", None))]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", "no such file"),
        ("folder.csv", "no such file"),
        ("items.xlsx", r"must be one of \.csv, \.tsv, \.jsonl, \.parquet"),
        ("items.parquet", "not a Parquet file"),
        ("large.csv", "larger than 50 bytes; split it"),
    ],
)
def test_file_that_is_no_table_is_refused(
    tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("llmrec_env.content.table_lines.MAX_BYTES", 50)
    (tmp_path / "folder.csv").mkdir()
    for other in ("items.xlsx", "items.parquet"):
        write(tmp_path / other, f"PAR1{SECRET}")
    write(tmp_path / "large.csv", "user\n" + "u\n" * 50)
    with pytest.raises(TableError, match=message) as error:
        read(tmp_path / name)
    assert SECRET not in str(error.value)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    missing: Any = None
    monkeypatch.setitem(sys.modules, "pyarrow", missing)
    with pytest.raises(TableError, match=r"pip install 'llmrec-env\[data\]'"):
        read(write(tmp_path / "items.parquet", b"PAR1"))
