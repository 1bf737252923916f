"""Files are read in chunks and written whole: what is not complete has no name."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cloche.cli import _formats
from cloche.cli._console import InputError
from cloche.cli._input import Form, open_input
from cloche.cli._output import open_output
from cloche_wire.record import Record


def form(chosen: str | None = None, **options: Any) -> Form:
    settings: dict[str, Any] = {"chunk": 4, "dtype": "float32", "channels": 1, "rate": None, **options}
    return Form(shape="array", input_format=chosen, **settings)


def read(path: Path | str | None, chosen: str | None = None, **options: Any) -> list[tuple[Any, int]]:
    with open_input(None if path is None else str(path), form(chosen, **options)) as opened:
        return list(opened)


def write(
    path: Path, values: list[Any], chosen: str | None = None, rate: int | None = 8000, subtype: str | None = None
) -> str:
    with open_output(str(path), chosen, rate=rate, subtype=subtype) as opened:
        for value in values:
            opened.write(value)
        opened.finish()
        return opened.note


def test_sound_is_read_in_chunks(tmp_path: Path) -> None:
    samples = np.linspace(-0.5, 0.5, 10, dtype=np.float32)
    soundfile.write(tmp_path / "in.flac", samples, 8000)
    chunks = read(tmp_path / "in.flac")
    assert [size for _, size in chunks] == [4, 4, 2]
    assert chunks[0][0].dtype == np.float32
    assert np.allclose(np.concatenate([chunk for chunk, _ in chunks]), samples, atol=2**-15)


def test_sound_says_its_rate_length_and_encoding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((10, 2)), 44100, subtype="PCM_24")
    with open_input(str(tmp_path / "in.wav"), form(dtype="int16")) as opened:
        assert (opened.rate, opened.total, opened.subtype) == (44100, 10, "PCM_24")
        assert [chunk.shape for chunk, _ in opened] == [(4, 2), (4, 2), (2, 2)]


def test_arrays_are_cut_along_the_first_axis(tmp_path: Path) -> None:
    array = np.arange(18, dtype=np.int64).reshape(6, 3)
    np.save(tmp_path / "in.npy", array)
    chunks = read(tmp_path / "in.npy")
    assert [size for _, size in chunks] == [4, 2]
    assert np.array_equal(np.concatenate([chunk for chunk, _ in chunks]), array)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    """An .npy file can run code when it is unpickled: never."""
    np.save(tmp_path / "in.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is no .npy file that can be read"):
        read(tmp_path / "in.npy")


def test_raw_samples_have_the_type_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in.raw").write_bytes(np.arange(12, dtype="<i2").tobytes())
    chunks = read(tmp_path / "in.raw", dtype="int16", channels=2)
    assert [chunk.tolist() for chunk, _ in chunks] == [[[0, 1], [2, 3], [4, 5], [6, 7]], [[8, 9], [10, 11]]]


def test_half_a_raw_sample_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.raw").write_bytes(b"12345")
    with pytest.raises(InputError, match="ends within a sample of 4 bytes"):
        read(tmp_path / "in.raw")


def test_each_line_of_json_is_an_item(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n\n[2, null]\n"\u00fc"\n', encoding="utf-8")
    assert read(tmp_path / "in.jsonl") == [({"a": 1}, 1), ([2, None], 1), ("\u00fc", 1)]


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("1\nnope\n")
    with pytest.raises(InputError, match=r"in\.jsonl, line 2: not JSON"):
        read(tmp_path / "in.jsonl")


JSON = [{"a": [1, None]}, [1, 2, 3], "text", 4.5, None]


@pytest.mark.parametrize("document", JSON, ids=repr)
def test_a_json_document_is_one_item(tmp_path: Path, document: Any) -> None:
    """Also a list: a node is given what the file says, however it is laid out."""
    (tmp_path / "in.json").write_text(json.dumps(document, indent=4))
    assert read(tmp_path / "in.json") == [(document, 1)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_may_have_any_encoding_of_its_own(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "in.json").write_text('{"\u00fc": 1}', encoding=encoding)
    assert read(tmp_path / "in.json") == [({"\u00fc": 1}, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"in\.json: not one JSON document: Expecting value"),
        ("{'a': 1}", "not one JSON document: Expecting property name"),
        ("1\n2\n", r"Extra data.*\. For one document a line, give --input-format jsonl"),
        ("[" * 100_000, "not one JSON document"),
        ("9" * 5000, "not one JSON document: Exceeds the limit"),
    ],
    ids=["empty", "no JSON", "two documents", "too deep", "too long a number"],
)
def test_what_is_no_json_document_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "in.json")


def test_rows_of_csv_are_dicts_of_texts(tmp_path: Path) -> None:
    """CSV has no types: a postal code stays what it is. Cells between quotes may have separators, quotes and line ends."""
    text = '\ufeffname,zip,note\r\nAda,01234,"a, ""b""\r\nc"\r\n\r\n\u00fc,,\r\n'
    (tmp_path / "in.csv").write_text(text, encoding="utf-8", newline="")
    assert read(tmp_path / "in.csv") == [
        ({"name": "Ada", "zip": "01234", "note": 'a, "b"\r\nc'}, 1),
        ({"name": "\u00fc", "zip": "", "note": ""}, 1),
    ]


@pytest.mark.parametrize(("name", "separator"), [("in.csv", ","), ("in.csv", ";"), ("in.csv", "\t"), ("in.tsv", "\t")])
def test_the_first_row_says_what_separates_the_cells(tmp_path: Path, name: str, separator: str) -> None:
    (tmp_path / name).write_text(f"a{separator}b\n1{separator}2\n")
    assert read(tmp_path / name) == [({"a": "1", "b": "2"}, 1)]


def test_a_table_of_one_column(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("word\nhello\nworld")
    assert read(tmp_path / "in.csv") == [({"word": "hello"}, 1), ({"word": "world"}, 1)]


@pytest.mark.parametrize("text", ["", "a,b\n"], ids=["nothing", "only the names"])
def test_a_table_without_rows_has_no_items(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    assert read(tmp_path / "in.csv") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n1\n", r"in\.csv, line 3: 1 cells, and the first row names 2 columns"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells, and the first row names 2 columns"),
        (b"a,a\n1,2\n", "has to name the columns, and has 'a' twice"),
        (b"a,\n1,2\n", "has to name the columns, and has a column without a name"),
        (b"a,b\n1,\xff\n", "line 2: not UTF-8"),
        (b'a,b\n"1,2\n3\n', "line 3: not CSV: unexpected end of data"),
        (b'a,b\n"1"x,2\n', "line 2: not CSV"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """With the line: a cell that slipped into the next column would be worse than an error."""
    (tmp_path / "in.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "in.csv")


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    """Python's module has a bound of 131072 characters."""
    (tmp_path / "in.csv").write_text(f"a\n{'x' * 200_000}\n")
    assert [len(item["a"]) for item, _ in read(tmp_path / "in.csv")] == [200_000]


SOUNDS = sorted(suffix for suffix, name in _formats.AUDIO.items() if name)


@pytest.mark.parametrize("suffix", SOUNDS)
def test_every_kind_of_sound_file_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    """All that libsndfile writes, by its suffix, with the rate that was asked for."""
    rate = 48000
    samples = (np.sin(np.arange(rate // 4) / 20) / 2).astype(np.float32)
    write(tmp_path / f"sound{suffix}", [samples[:5000], samples[5000:]], rate=rate)
    with open_input(str(tmp_path / f"sound{suffix}"), form(chunk=1 << 20)) as opened:
        assert opened.rate == rate
        found = np.concatenate([chunk for chunk, _ in opened])
    assert found.shape == samples.shape
    lossy = suffix in (".mp3", ".ogg", ".oga", ".opus")
    assert np.abs(found - samples)[1000:-1000].max() < (0.1 if lossy else 0.001)


@pytest.mark.parametrize("suffix", sorted(suffix for suffix, name in _formats.AUDIO.items() if not name))
def test_what_would_be_written_with_another_rate_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=f"sound is not written with the suffix '{suffix}'"):
        write(tmp_path / f"out{suffix}", [])


def test_sound_in_a_file_of_any_name(tmp_path: Path) -> None:
    """Told what it is, libsndfile finds its format by itself."""
    soundfile.write(tmp_path / "in.wav", np.zeros(9, np.float32), 8000)
    (tmp_path / "in.wav").rename(tmp_path / "in.what")
    assert sum(size for _, size in read(tmp_path / "in.what", "audio")) == 9


def test_a_json_document_is_written(tmp_path: Path) -> None:
    write(tmp_path / "out.json", [{"a": np.arange(2)}])
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": [0, 1]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "the node gave no output"),
        ([1, 2], "output 2 of the node: .*out.json takes one JSON document"),
        ([b""], "what JSON can say"),
    ],
)
def test_a_json_document_is_one(tmp_path: Path, values: list[Any], message: str) -> None:
    """A file with two would be no JSON."""
    with pytest.raises(InputError, match=message):
        write(tmp_path / "out.json", values)
    assert list(tmp_path.iterdir()) == []


def test_raw_samples_come_from_a_fifo(tmp_path: Path) -> None:
    """Its length is not known before its end."""
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(bytes(32)))
    writer.start()
    with open_input(str(tmp_path / "fifo"), form("raw")) as opened:
        assert opened.total is None
        assert [size for _, size in opened] == [4, 4]
    writer.join(60)


@pytest.mark.parametrize("chosen", ["audio", "npy"])
def test_what_needs_a_file_says_so_of_a_pipe(tmp_path: Path, chosen: str) -> None:
    """Both ways: the header is read, and completed, at the beginning."""
    os.mkfifo(tmp_path / "fifo.wav")
    for flags in (os.O_RDONLY, os.O_WRONLY):
        other = os.open(tmp_path / "fifo.wav", os.O_RDWR)  # so that neither end waits for the other
        with pytest.raises(InputError, match="is a pipe"):
            if flags == os.O_RDONLY:
                read(tmp_path / "fifo.wav", chosen)
            else:
                write(tmp_path / "fifo.wav", [], chosen)
        os.close(other)


def test_several_arrays_by_one_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", a=np.zeros(1))
    (tmp_path / "in.npz").rename(tmp_path / "in.npy")
    with pytest.raises(InputError, match="has several arrays"):
        read(tmp_path / "in.npy")


def test_stdin_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\n2\n")))
    assert [item for item, _ in read("-")] == [1, 2]


def test_no_input_has_no_items() -> None:
    assert read(None) == []


@pytest.mark.parametrize(
    ("path", "chosen", "message"),
    [
        ("-", "npy", "npy needs a file: a pipe can only be jsonl or raw or json or csv"),
        ("in.what", None, "what kind of file in.what is cannot be told from its name: give --input-format"),
    ],
)
def test_an_input_of_unknown_kind_is_refused(path: str, chosen: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(path, chosen)


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(b"not sound")
    with pytest.raises(InputError, match="is no sound file that can be read"):
        read(tmp_path / "in.wav")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for name in ("in.wav", "in.npy", "in.raw", "in.jsonl"):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / name)


def test_arrays_are_joined(tmp_path: Path) -> None:
    parts = [np.arange(6, dtype=np.int16).reshape(3, 2), np.ones((2, 2), np.int16)]
    write(tmp_path / "out.npy", parts)
    result = np.load(tmp_path / "out.npy")
    assert result.dtype == np.int16
    assert np.array_equal(result, np.concatenate(parts))


def test_numbers_make_an_array(tmp_path: Path) -> None:
    write(tmp_path / "out.npy", [1.5, 2.5])
    assert np.load(tmp_path / "out.npy").tolist() == [1.5, 2.5]


def test_arrays_of_two_kinds_are_not_joined(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"output 2 of the node is an array of int64, shape \(1,\)"):
        write(tmp_path / "out.npy", [np.zeros(1), np.zeros(1, np.int64)])


def test_sound_is_stored_as_the_input_was(tmp_path: Path) -> None:
    write(tmp_path / "out.wav", [np.zeros(5, np.float32), np.full(3, 0.25, np.float32)], rate=12345, subtype="PCM_24")
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (12345, 8, 1, "PCM_24")


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    note = write(tmp_path / "out.wav", [np.array([0, 1.5, -2, 1], np.float32)])
    assert note == "2 samples were beyond full scale and have been clipped"
    assert soundfile.read(tmp_path / "out.wav")[0].tolist() == pytest.approx([0, 1, -1, 1], abs=1e-4)


@pytest.mark.parametrize(
    "value",
    [{"samples": np.zeros(3, np.float32)}, (np.zeros(3, np.float32), {"sample_rate": 1})],
    ids=["dict", "tuple"],
)
def test_samples_are_taken_out_of_what_carries_them(tmp_path: Path, value: Any) -> None:
    write(tmp_path / "out.wav", [value])
    assert soundfile.info(tmp_path / "out.wav").frames == 3


def test_json_lines_say_what_they_can(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", [{"a": np.float32(1.5)}, np.arange(3), (1, "\u009b2J"), float("inf")])
    assert (tmp_path / "out.jsonl").read_text("ascii") == '{"a": 1.5}\n[0, 1, 2]\n[1, "\\u009b2J"]\nInfinity\n'


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [({"true": 1, True: 2},)], {"x": {None: 1, "null": 2}}])
def test_two_keys_that_json_would_make_one_are_refused(tmp_path: Path, value: Any) -> None:
    with open_output(str(tmp_path / "x.jsonl"), None, rate=None, subtype=None) as out:
        with pytest.raises(InputError, match="of one dict would be the same"):
            out.write(value)
        out.write({1: 1, "2": 2, None: 3, 1.5: 4})
        out.finish()
    assert (tmp_path / "x.jsonl").read_text() == '{"1": 1, "2": 2, "null": 3, "1.5": 4}\n'


def test_json_lines_say_what_a_dataclass_had(tmp_path: Path) -> None:
    """A node's dataclass arrives as a record."""
    write(tmp_path / "out.jsonl", [Record("Point", ("x", "y"), (1, [2.5]))])
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"x": 1, "y": [2.5]}


def test_raw_output_is_the_bytes(tmp_path: Path) -> None:
    write(tmp_path / "out.raw", [b"ab", np.array([0x6463], "<u2")])
    assert (tmp_path / "out.raw").read_bytes() == b"abcd"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("out.wav", "text", "output 1 of the node is a value of type str; .*out.wav takes arrays of float32"),
        ("out.wav", np.zeros((1, 2, 3), np.float32), "an array of float32, shape \\(1, 2, 3\\)"),
        ("out.npy", "text", "takes arrays or numbers"),
        ("out.raw", 1.5, "takes arrays or bytes"),
        ("out.jsonl", b"bytes", "takes what JSON can say"),
    ],
)
def test_an_output_that_does_not_fit_leaves_no_file(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path / name, [value])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.wav", "out.npy", "out.raw", "out.jsonl"])
def test_a_failure_keeps_the_old_file(tmp_path: Path, name: str) -> None:
    """The file has the old content or the new one, never a part."""
    (tmp_path / name).write_text("old")
    with (
        pytest.raises(RuntimeError, match="stop"),
        open_output(str(tmp_path / name), None, rate=8000, subtype=None) as out,
    ):
        out.write(np.zeros(4, np.float32))
        raise RuntimeError("stop")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("name", ["out.wav", "out.npy", "out.raw", "out.jsonl"])
def test_no_output_is_an_empty_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [])
    assert (tmp_path / name).exists()


def test_sound_needs_a_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a sample rate, and the input has none: give --rate"):
        write(tmp_path / "out.wav", [], rate=None)


def test_json_of_stdout_is_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_output("-", None, rate=None, subtype=None) as out:
        out.write({"a": 1})
        out.finish()
    assert json.loads(capfdbinary.readouterr().out) == {"a": 1}


@pytest.mark.parametrize("shape", [(1 << 25, 0), (1 << 10, 1 << 10, 0), (1 << 17, 0, 3)])
def test_an_array_without_items_does_not_become_millions_of_lists(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Its shape is a few bytes on the wire; written as JSON it took 43 s."""
    with pytest.raises(InputError, match="empty lists"):
        write(tmp_path / "out.jsonl", [np.zeros(shape)])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 1 << 25), (2, 0, 1 << 40)])
def test_arrays_without_items_are_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """As the nested lists that they are."""
    write(tmp_path / "out.jsonl", [np.zeros(shape)])
    assert json.loads((tmp_path / "out.jsonl").read_text()) == np.zeros(shape).tolist()
