import json
import struct
import threading

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_scorevi import PosteriorCheckpointError
from hf_scorevi.hub.untrusted import StoredTensors, at_most, read_json, reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"a": 1', "delimiter"),
        ("[1]", "holds a list in place of an object"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is no number of 64 bits"),
        ('{"a": 18446744073709551616}', "is no number of 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "9{40} is no number of 64 bits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "a key is there twice"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "recursion"),
        (b'{"a": "\xff"}', "utf-8"),
        ("\ufeff{}", "BOM"),
        (b" " * (16 << 20) + b"{}", "has 16,777,218 bytes, where at most 16,777,216 can be right"),
    ],
    ids=range(14),
)
def test_what_is_no_json_object_is_named_in_one_short_line(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(
        PosteriorCheckpointError, match=rf"config\.json cannot be read as JSON \(.*{message}"
    ) as caught:
        read_json(path)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_json_that_is_right_is_read(tmp_path):
    contents = {"a": [1, -(2**63), 2**64 - 1, 0.5, 1e300, None, True], "b": {"": "ä\u2028"}}
    (tmp_path / "x.json").write_text(json.dumps(contents))
    assert read_json(tmp_path / "x.json") == contents
    with pytest.raises(PosteriorCheckpointError, match=r"y\.json is missing"):
        read_json(tmp_path / "y.json")


def stored(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8,
        struct.pack("<Q", 1 << 40) + b"{}",
        stored(b"[]"),
        stored(b"{" * 50_000),
        stored({"a": tensor()}, b"\x00" * 7),
        stored({"a": tensor()}, b"\x00" * 9),
        stored({"a": tensor(shape=(10**9,))}, b"\x00" * 8),
        stored({"a": tensor(offsets=(0, 2**63))}, b"\x00" * 8),
        stored({"a": tensor(offsets=(8, 0))}, b"\x00" * 8),
        stored({"a": tensor(shape=(2**40, 2**40))}, b"\x00" * 8),
        stored({"a": tensor(shape=(-2,))}, b"\x00" * 8),
        stored({"a": tensor(), "b": tensor()}, b"\x00" * 8),
        stored({"a": tensor("F33")}, b"\x00" * 8),
        b"\x80\x04\x95pickle",
    ],
    ids=range(16),
)
def test_headers_that_lie_are_refused_before_anything_is_read(tmp_path, contents):
    (tmp_path / "x.safetensors").write_bytes(contents)
    with pytest.raises(PosteriorCheckpointError, match=r"x\.safetensors cannot be read .*truncated or damaged"):
        list(StoredTensors([tmp_path / "x.safetensors"]).read(["a"]))


def test_a_header_of_more_than_16_mb_is_not_parsed(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(stored(b"{}" + b" " * (16 << 20)))
    with pytest.raises(PosteriorCheckpointError, match="its header has 16,777,218 bytes, where at most 16,777,216"):
        StoredTensors([tmp_path / "x.safetensors"])


def test_tensors_are_described_before_they_are_read(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(0, 4, dtype=torch.int8), "c": torch.ones(())}
    save_file(tensors, tmp_path / "x.safetensors")
    save_file({"d": torch.ones(2)}, tmp_path / "y.safetensors")
    found = StoredTensors([tmp_path / "x.safetensors", tmp_path / "y.safetensors"])
    assert found.shapes == {"a": (2, 3), "b": (0, 4), "c": (), "d": (2,)}
    assert found.dtypes == {"a": "F32", "b": "I8", "c": "F32", "d": "F32"}
    assert found.numbers == 9
    read = dict(found.read(["d", "a"]))
    assert list(read) == ["d", "a"] and torch.equal(read["a"], tensors["a"])
    with pytest.raises(PosteriorCheckpointError, match=r"x\.safetensors repeats 'a' of x\.safetensors"):
        StoredTensors([tmp_path / "x.safetensors"] * 2)
    with pytest.raises(PosteriorCheckpointError, match=r"z\.safetensors is missing"):
        StoredTensors([tmp_path / "z.safetensors"])


def test_a_model_grows_no_larger_than_it_may(tmp_path):
    def build():
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))  # 9 + 13 numbers in 2 + 5 tensors

    for limits in ((21, 9), (99, 6)):
        with (
            pytest.raises(PosteriorCheckpointError, match=r"c\.json describes a model of more than"),
            at_most(*limits, tmp_path / "c.json"),
        ):
            build()
    with at_most(22, 7, tmp_path / "c.json"):
        build()
        other = threading.Thread(target=build)  # of somebody else
        other.start()
        other.join()
        with pytest.raises(PosteriorCheckpointError):
            nn.Linear(1, 1)
    build(), build()


def test_only_what_a_file_can_be_blamed_for_is_blamed_on_it(tmp_path):
    for error in (KeyError("x"), RuntimeError(), RecursionError(), OSError("Error no file named model.safetensors")):
        with (
            pytest.raises(PosteriorCheckpointError, match=r"c\.json does not describe a model"),
            reading(tmp_path / "c.json"),
        ):
            raise error
    for error in (OSError(28, "No space left on device"), MemoryError(), ImportError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading(tmp_path / "c.json"):
            raise error
