"""The record format and the packed cache."""

import errno
import gzip
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import records
from helpers.cavities import Sample, betti_numbers
from helpers.records import RecordError, read_sample, write_sample
from helpers.workshop import SPLITS


def make_sample(sample_id=0, *, times=4, edge=4, objects=(1, 0, 2, 0)) -> Sample:
    rng = np.random.default_rng(sample_id)
    frames = rng.integers(0, 2, (times, edge, edge, edge), dtype=np.uint8)
    objects = np.array(objects, np.uint8)
    return Sample(frames, betti_numbers(objects), objects, sample_id=sample_id)


def same(one: Sample, other: Sample) -> bool:
    return one.sample_id == other.sample_id and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in ("frames", "betti", "objects")
    )


def make_folder(folder: Path, count: int, first_id: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for sample_id in range(first_id, first_id + count):
        write_sample(folder, make_sample(sample_id))
    return folder


def bytes_feature(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def good_features() -> dict:
    sample = make_sample()
    return {
        "object4d": bytes_feature(sample.frames.tobytes()),
        "labelBetti": bytes_feature(sample.betti.tobytes()),
        "labelObjs": bytes_feature(sample.objects.tobytes()),
    }


def write_raw(path: Path, *payloads: bytes, compression: str = "GZIP") -> Path:
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


def serialized(features: dict) -> bytes:
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


NAME = make_sample().file_name


# Reading and writing


@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_is_read(data):
    times, edge = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    objects = data.draw(arrays(np.uint8, 4, elements=st.integers(0, 40)))
    sample = Sample(
        data.draw(arrays(np.uint8, (times, edge, edge, edge), elements=st.integers(0, 1))),
        betti_numbers(objects),
        objects,
        sample_id=data.draw(st.integers(0, 10**6)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_sample(folder, sample)
        assert path.name == sample.file_name
        assert os.listdir(folder) == [path.name]
        assert same(read_sample(path), sample)


def test_the_same_sample_gives_the_same_bytes(tmp_path):
    sample = make_sample(3)
    first = write_sample(tmp_path, sample).read_bytes()
    assert write_sample(tmp_path / sample.file_name, sample).read_bytes() == first
    places = [gzip.decompress(first).find(name.encode()) for name in sorted(records.FEATURES)]
    assert 0 < places[0] < places[1] < places[2]


def test_thesis_records_are_good_and_written_alike(thesis_folder, tmp_path):
    for name in SPLITS.values():
        folder = thesis_folder / "data" / name
        paths = records.record_paths(folder, limit=17)
        for sample, path in zip(records.read_folder(folder, limit=17), paths, strict=True):
            assert sample.frames.shape == (128, 16, 16, 16)
            assert sample.file_name == path.name
            own = gzip.decompress(write_sample(tmp_path, sample).read_bytes())
            theirs = gzip.decompress(path.read_bytes())
            # The order of a protobuf map is free (the thesis's files have all of them), so the
            # same bytes stand in another order, and only the checksum of the data differs.
            assert own[:12] == theirs[:12]
            assert sorted(own[12:-4]) == sorted(theirs[12:-4])
            assert tf.train.Example.FromString(own[12:-4]) == tf.train.Example.FromString(
                theirs[12:-4]
            )


def test_the_container_is_the_thesis_container(thesis_folder, tmp_path):
    path = records.record_paths(thesis_folder / "data" / SPLITS["test"], limit=1)[0]
    own = write_sample(tmp_path, read_sample(path))
    # The GZIP header; its tenth byte names the operating system.
    assert own.read_bytes()[:9] == path.read_bytes()[:9]
    # As the thesis reads it:
    (record,) = tf.data.TFRecordDataset(str(own), compression_type="GZIP").as_numpy_iterator()
    kinds = {name: tf.io.FixedLenFeature([], tf.string) for name in records.FEATURES}
    parsed = tf.io.parse_single_example(record, kinds)
    frames = tf.reshape(tf.io.decode_raw(parsed["object4d"], tf.uint8), (128, 16, 16, 16))
    assert np.array_equal(frames, read_sample(path).frames)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": np.full((4, 4, 4, 4), 2, np.uint8)}, "voxels of 0 and 1"),
        ({"frames": np.zeros((4, 4, 4, 4), np.float32)}, "frames uint8"),
        ({"frames": np.zeros((4, 4, 4, 3), np.uint8)}, "D = H = W"),
        ({"frames": np.zeros((0, 4, 4, 4), np.uint8)}, "at least one frame"),
        ({"betti": np.array([1, 1, 1, 1], np.uint8)}, "Betti numbers"),
        ({"betti": np.array([1, 2, 0, 3])}, "betti uint8"),
        ({"frames": [[[[0]]]]}, "expected frames as a NumPy array of uint8, found list"),
        ({"betti": [1, 2, 0, 3]}, "expected betti as a NumPy array of uint8, found list"),
        ({"objects": (1, 0, 2, 0)}, "expected objects as a NumPy array of uint8, found tuple"),
        ({"sample_id": -1}, "sample id from 0 to .* found -1"),
        ({"sample_id": 2**63}, "sample id from 0 to"),
        ({"sample_id": 1.5}, "sample id from 0 to"),
    ],
)
def test_a_sample_that_breaks_the_format_is_not_written(tmp_path, change, message):
    with pytest.raises(RecordError, match=message):
        write_sample(tmp_path, replace(make_sample(), **change))
    assert not os.listdir(tmp_path)


def test_labels_that_wrap_in_uint8_are_noticed(tmp_path):
    objects = np.array([250, 10, 0, 0], np.uint8)
    betti = np.array([1, 0, 10, 4], np.uint8)
    with pytest.raises(RecordError, match="Betti numbers"):
        write_sample(tmp_path, replace(make_sample(), objects=objects, betti=betti))


def test_writing_needs_the_right_name_and_a_folder(tmp_path):
    with pytest.raises(RecordError, match="expected the name"):
        write_sample(tmp_path / "4d_mixed_#1_3_4.tfrecords", make_sample(0))
    with pytest.raises(FileNotFoundError, match="make it first"):
        write_sample(tmp_path / "absent", make_sample())


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    path = write_sample(tmp_path, make_sample())
    before = path.read_bytes()

    class FullDisk(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", FullDisk)
    with pytest.raises(OSError) as caught:
        write_sample(tmp_path, make_sample())
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


# Bad records


def not_a_tfrecord(path):
    path.write_bytes(gzip.compress(b"just some text, long enough to look like a record"))


def not_gzip(path):
    write_raw(path, serialized(good_features()), compression="")


def truncated(path):
    whole = write_sample(path.parent, make_sample()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def truncated_in_its_last_bytes(path):
    path.write_bytes(write_sample(path.parent, make_sample()).read_bytes()[:-4])


def cut_header(path):
    path.write_bytes(b"\x1f\x8b\x08")


def flipped_bit(path):
    content = bytearray(write_sample(path.parent, make_sample()).read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def bad_data_crc(path):
    content = bytearray(gzip.decompress(write_sample(path.parent, make_sample()).read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def bad_length_crc(path):
    content = bytearray(gzip.decompress(write_sample(path.parent, make_sample()).read_bytes()))
    content[8] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def empty(path):
    path.write_bytes(b"")


def empty_gzip(path):
    path.write_bytes(gzip.compress(b""))


def not_an_example(path):
    write_raw(path, b"\xff\xff\xff\xff not a message")


def missing_feature(path):
    features = good_features()
    del features["labelObjs"]
    write_raw(path, serialized(features))


def no_features(path):
    write_raw(path, b"")


def extra_feature(path):
    write_raw(path, serialized(good_features() | {"comment": bytes_feature(b"hello")}))


def wrong_type(path):
    numbers = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 0, 3]))
    write_raw(path, serialized(good_features() | {"labelBetti": numbers}))


def two_values(path):
    two = bytes_feature(b"\1\0\2\0", b"\1\0\2\0")
    write_raw(path, serialized(good_features() | {"labelObjs": two}))


def no_value(path):
    write_raw(path, serialized(good_features() | {"labelObjs": tf.train.Feature()}))


def short_label(path):
    write_raw(path, serialized(good_features() | {"labelObjs": bytes_feature(b"\1\0\2")}))


def short_object(path):
    write_raw(path, serialized(good_features() | {"object4d": bytes_feature(b"\0" * 255)}))


def no_voxels(path):
    write_raw(path, serialized(good_features() | {"object4d": bytes_feature(b"")}))


def voxel_of_255(path):
    voxels = b"\0" * 63 + b"\xff"
    write_raw(path, serialized(good_features() | {"object4d": bytes_feature(voxels)}))


def wrong_algebra(path):
    write_raw(path, serialized(good_features() | {"labelBetti": bytes_feature(b"\1\1\2\3")}))


def two_examples(path):
    write_raw(path, serialized(good_features()), serialized(good_features()))


BAD = {
    not_a_tfrecord: "expected a TFRecord",
    not_gzip: "not GZIP",
    truncated: "cut short",
    truncated_in_its_last_bytes: "cut short",
    cut_header: "GZIP",
    flipped_bit: "GZIP",
    bad_data_crc: "CRC",
    bad_length_crc: "CRC",
    empty: "empty file",
    empty_gzip: "expected a TFRecord",
    not_an_example: "tf.train.Example",
    missing_feature: "found labelBetti, object4d",
    no_features: "found none",
    extra_feature: "comment",
    wrong_type: "found int64_list",
    two_values: "2",
    no_value: "found nothing",
    short_label: "labelObjs of 4 bytes, found 3",
    short_object: "found 255 bytes",
    no_voxels: "found 0 bytes",
    voxel_of_255: "found 255",
    wrong_algebra: "Betti numbers",
    two_examples: "expected one example",
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_bad_record(tmp_path, damage):
    path = tmp_path / NAME
    damage(path)
    with pytest.raises(RecordError, match=BAD[damage]) as caught:
        records.validate(path)
    assert str(caught.value).startswith(str(path))
    assert caught.value.path == path


@pytest.mark.parametrize(
    "name, message",
    [
        ("4d_mixed_#0_4_4.tfrecords", "expected 4 cavities as the file name says, found 3"),
        ("4d_mixed_#0_3_5.tfrecords", "T x 5 x 5 x 5"),
        ("4d_mixed_#0_3_0.tfrecords", "T x 0 x 0 x 0"),
        ("4d_mixed_0_3_4.tfrecords", "expected a file name"),
        ("sample.tfrecords", "expected a file name"),
    ],
)
def test_a_name_that_disagrees_with_its_content(tmp_path, name, message):
    path = write_sample(tmp_path, make_sample()).rename(tmp_path / name)
    with pytest.raises(RecordError, match=message):
        read_sample(path)


def test_a_wanted_shape(tmp_path):
    path = write_sample(tmp_path, make_sample())
    records.validate(path, shape=(4, 4, 4, 4))
    with pytest.raises(RecordError, match=r"\(5, 4, 4, 4\)"):
        records.validate(path, shape=(5, 4, 4, 4))


def test_an_absent_record(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_sample(tmp_path / NAME)


def test_an_error_survives_another_process():
    error = pickle.loads(pickle.dumps(RecordError("bad", "here")))
    assert (str(error), error.path) == ("bad", Path("here"))


# Folders


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    make_folder(tmp_path, 12)
    (tmp_path / "README.md").write_text("not a record")
    (tmp_path / f"._{NAME}").write_text("what macOS leaves")
    samples = records.read_folder(tmp_path)
    assert [s.sample_id for s in samples] == [0, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(same(sample, make_sample(sample.sample_id)) for sample in samples)
    assert [s.sample_id for s in records.read_folder(tmp_path, limit=3)] == [0, 10, 11]
    assert samples.skipped == ()


def test_one_bad_file_among_many(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH", 4)
    make_folder(tmp_path, 10)
    bad = [tmp_path / make_sample(number).file_name for number in (0, 3, 7)]
    empty(bad[0])
    bad_crc = bytearray(gzip.decompress(bad[1].read_bytes()))
    bad_crc[-1] ^= 1
    bad[1].write_bytes(gzip.compress(bytes(bad_crc)))
    bad[2].unlink()
    bad[2] = write_sample(tmp_path, make_sample(7, times=5))
    with pytest.raises(RecordError, match="#0_3_4"):
        records.read_folder(tmp_path)
    with pytest.warns(UserWarning, match="3 of 10 records are bad") as caught:
        samples = records.read_folder(tmp_path, on_bad="skip")
    assert all(str(path) in str(caught[0].message) for path in bad)
    assert [s.sample_id for s in samples] == [1, 2, 4, 5, 6, 8, 9]
    assert [error.path for error in samples.skipped] == bad


def test_folders_with_nothing_to_read(tmp_path):
    with pytest.raises(RecordError, match="found none"):
        records.read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        records.read_folder(tmp_path / "absent")
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(RecordError, match="no record is good"):
        records.read_folder(tmp_path, on_bad="skip")
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        records.read_folder(tmp_path, on_bad="ignore")
    with pytest.raises(ValueError, match="at least 1"):
        records.read_folder(tmp_path, limit=0)


# The packed cache


@settings(max_examples=15)
@given(data=st.data())
def test_packed_frames_are_the_frames(data):
    times, edge, count = (data.draw(st.integers(1, 5)) for _ in range(3))
    samples = [make_sample(number, times=times, edge=edge) for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        split = records.pack_samples(iter(samples), folder, progress=False)
        split.verify()
        assert len(split) == count
        assert split.shape == (times, edge, edge, edge)
        assert all(same(one, other) for one, other in zip(split, samples, strict=True))
        frames = np.stack([sample.frames for sample in samples])
        assert np.array_equal(split.frames(), frames)
        chosen = data.draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=4))
        when = data.draw(st.lists(st.integers(-times, times - 1), min_size=1, max_size=4))
        assert np.array_equal(split.frames(chosen, when), frames[np.ix_(chosen, when)])
        own = data.draw(arrays(int, (len(chosen), 2), elements=st.integers(0, times - 1)))
        expected = np.stack([frames[one, row] for one, row in zip(chosen, own, strict=True)])
        assert np.array_equal(split.frames(chosen, own), expected)


def test_ways_to_choose_samples_and_times(tmp_path):
    split = records.pack_samples([make_sample(n) for n in range(5)], tmp_path, progress=False)
    frames = np.stack([make_sample(n).frames for n in range(5)])
    assert np.array_equal(split.frames(2), frames[2:3])
    assert np.array_equal(split.frames(slice(1, 4), slice(None, None, 2)), frames[1:4, ::2])
    mask = np.array([True, False, True, False, False])
    assert np.array_equal(split.frames(mask), frames[mask])
    assert split.frames([0, 1], 3).shape == (2, 1, 4, 4, 4)
    assert split.frames([], 3).shape == (0, 1, 4, 4, 4)
    for samples, times in ((5, 0), (0, 4), ([0, 1], np.zeros((3, 2), int))):
        with pytest.raises(IndexError):
            split.frames(samples, times)
    assert same(pickle.loads(pickle.dumps(split))[-1], split[4])
    assert "5 samples" in repr(split)
    with pytest.raises(TypeError):
        split[1:3]


def content(split) -> dict[str, bytes]:
    """The bytes of a packed split, taken from its files."""
    data = next(path for path in split.folder.iterdir() if path.is_dir())
    return {path.name: path.read_bytes() for path in data.iterdir() if path.suffix == ".npy"}


def test_a_folder_is_packed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 6)
    split = records.packed(folder, tmp_path / "cache")
    expected = records.read_folder(folder)
    assert all(same(one, other) for one, other in zip(split, expected, strict=True))
    assert split.betti.shape == split.objects.shape == (6, 4)
    with monkeypatch.context() as patch:
        patch.setattr(records, "_parse", None)  # nothing is read again
        again = records.packed(folder, tmp_path / "cache")
    assert again.checksum == split.checksum
    write_sample(folder, make_sample(9))
    assert len(records.packed(folder, tmp_path / "cache")) == 7
    # The old one stays readable for whoever has it open; its files are gone.
    assert same(split[0], expected[0])
    assert len([path for path in split.folder.iterdir() if path.is_dir()]) == 1
    assert len(records.packed(folder, tmp_path / "cache", limit=2)) == 2
    assert len(records.packed(folder, tmp_path / "cache")) == 7
    assert np.load(next(split.folder.glob("*/frames.npy"))).shape == (7, 4, 8)


def test_a_folder_in_thesis_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(SPLITS.values()):
        make_folder(tmp_path / "set" / name, number + 1, first_id=10 * number)
    splits = records.pack_folder(tmp_path / "set")
    assert {name: len(split) for name, split in splits.items()} == dict(
        training=1, validation=2, test=3
    )
    assert splits["test"].folder.is_relative_to(tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="found none of them"):
        records.pack_folder(tmp_path)


def test_a_damaged_cache_is_noticed_and_packed_again(tmp_path):
    folder = make_folder(tmp_path / "records", 3)
    split = records.packed(folder, tmp_path / "cache")
    frames = next(split.folder.glob("*/frames.npy"))
    whole = frames.read_bytes()
    frames.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RecordError, match="checksum of frames.npy"):
        records.open_packed(split.folder).verify()
    frames.write_bytes(whole[:-1])
    with pytest.raises(RecordError, match="delete the folder"):
        records.open_packed(split.folder)
    records.packed(folder, tmp_path / "cache").verify()
    with pytest.raises(FileNotFoundError, match="manifest"):
        records.open_packed(tmp_path)


def without(key):
    def damage(entry):
        manifest = json.loads((entry / "manifest.json").read_text())
        del manifest[key]
        (entry / "manifest.json").write_text(json.dumps(manifest))

    damage.__name__ = f"without_{key}"
    return damage


def changed(key, value):
    def damage(entry):
        manifest = json.loads((entry / "manifest.json").read_text())
        (entry / "manifest.json").write_text(json.dumps(manifest | {key: value}))

    damage.__name__ = f"another_{key}"
    return damage


def emptied(name):
    def damage(entry):
        next(entry.glob(f"*/{name}")).write_bytes(b"")

    damage.__name__ = f"emptied_{name}"
    return damage


def gone(name):
    def damage(entry):
        next(entry.glob(f"*/{name}")).unlink()

    damage.__name__ = f"gone_{name}"
    return damage


def plain_labels(entry):
    np.save(next(entry.glob("*/labels.npy")), np.zeros(3))


def frames_of_another_dtype(entry):
    path = next(entry.glob("*/frames.npy"))
    np.save(path, np.load(path).astype(np.int16))


def header_of_the_labels(entry):
    path = next(entry.glob("*/labels.npy"))
    path.write_bytes(path.read_bytes().replace(b"}", b" "))


def manifest_that_is_a_list(entry):
    (entry / "manifest.json").write_text("[1, 2]")


def manifest_cut_short(entry):
    path = entry / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "damage",
    [
        *map(emptied, ("frames.npy", "labels.npy")),
        *map(gone, ("frames.npy", "labels.npy")),
        plain_labels,
        frames_of_another_dtype,
        header_of_the_labels,
        manifest_that_is_a_list,
        manifest_cut_short,
        *map(without, ("data", "shape", "count", "source", "fingerprint", "skipped", "checksum")),
        changed("shape", [4]),
        changed("shape", "4444"),
        changed("count", None),
        changed("data", 3),
        changed("checksum", {}),
        changed("skipped", ["only words"]),
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_cache_is_explained_and_packed_again(tmp_path, damage):
    folder = make_folder(tmp_path / "records", 3)
    entry = records.packed(folder, tmp_path / "cache").folder
    damage(entry)
    for read in (records.PackedSplit, records.open_packed):
        with pytest.raises(RecordError, match="is damaged.*delete the folder") as caught:
            read(entry)
        assert caught.value.path == entry
    split = records.packed(folder, tmp_path / "cache")
    split.verify()
    assert split.sample_id.tolist() == [0, 1, 2]


def test_packing_with_a_bad_file(tmp_path):
    folder = make_folder(tmp_path / "records", 5)
    bad = folder / make_sample(2).file_name
    empty(bad)
    with pytest.raises(RecordError, match=bad.name) as first:
        records.packed(folder, tmp_path / "cache")
    for _ in range(2):  # packed the first time, opened the second
        with pytest.warns(UserWarning, match=bad.name):
            split = records.packed(folder, tmp_path / "cache", on_bad="skip")
        assert split.sample_id.tolist() == [0, 1, 3, 4]
        assert np.load(next(split.folder.glob("*/labels.npy"))).shape == (4,)
        assert [error.path for error in split.skipped] == [bad]
    with pytest.raises(RecordError, match=bad.name) as later:
        records.packed(folder, tmp_path / "cache")
    assert later.value.path == first.value.path == bad
    assert str(later.value) == str(first.value)
    for path in folder.iterdir():
        empty(path)
    with pytest.raises(RecordError, match="no record is good"):
        records.packed(folder, tmp_path / "cache", on_bad="skip")


def interrupt_after(monkeypatch, batches: int, error: BaseException):
    """Let packing fail when so many batches are on disk and one more is half written."""
    done, fsync = [], os.fsync

    def failing(number):
        done.append(number)
        if len(done) > 2 * batches:
            raise error
        fsync(number)

    monkeypatch.setattr(records, "BATCH", 4)
    monkeypatch.setattr(records.os, "fsync", failing)


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full.*WORKSHOP_CACHE"),
        (KeyboardInterrupt("by hand"), "by hand"),
        (RuntimeError("anything"), "anything"),
    ],
)
def test_interrupted_packing_goes_on(tmp_path, monkeypatch, error, message):
    folder = make_folder(tmp_path / "records", 18)
    uninterrupted = content(records.packed(folder, tmp_path / "other"))
    old = records.packed(folder, tmp_path / "cache", limit=None)
    os.utime(folder / NAME)  # stale now
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, error)
        with pytest.raises(type(error), match=message) as caught:
            records.packed(folder, tmp_path / "cache")
        assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)
    records.open_packed(old.folder).verify()
    read, parse = [], records._parse
    monkeypatch.setattr(records, "_parse", lambda *a: read.append(a[0].name) or parse(*a))
    split = records.packed(folder, tmp_path / "cache")
    split.verify()
    assert content(split) == uninterrupted
    assert sorted(read) == [path.name for path in records.record_paths(folder)][8:]


def test_interrupted_packing_goes_on_behind_a_skipped_file(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 14)
    empty(folder / make_sample(1).file_name)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, RuntimeError())
        with pytest.raises(RuntimeError):
            records.packed(folder, tmp_path / "cache", on_bad="skip")
    with pytest.warns(UserWarning, match="1 of 14"):
        split = records.packed(folder, tmp_path / "cache", on_bad="skip")
    with pytest.warns(UserWarning, match="1 of 14"):
        uninterrupted = records.packed(folder, tmp_path / "other", on_bad="skip")
    assert content(split) == content(uninterrupted)
    assert split.sample_id.tolist() == [0, 10, 11, 12, 13, 2, 3, 4, 5, 6, 7, 8, 9]
    assert np.array_equal(split.frames(5)[0], make_sample(2).frames)


def cut_to(name, size):
    def damage(building):
        with open(building / name, "r+b") as file:
            file.truncate(size)

    damage.__name__ = f"{name}_cut_to_{size}"
    return damage


def no_frames(building):
    (building / "frames.npy").unlink()


def no_labels(building):
    (building / "labels.npy").unlink()


def journal_that_is_a_list(building):
    (building / "journal.json").write_text("[1]")


def journal_without_rows(building):
    journal = json.loads((building / "journal.json").read_text())
    del journal["rows"]
    (building / "journal.json").write_text(json.dumps(journal))


@pytest.mark.parametrize(
    "damage",
    [
        no_frames,
        no_labels,
        cut_to("frames.npy", 0),
        cut_to("frames.npy", 383),  # a header of 128 bytes, 8 samples of 32, less one
        cut_to("labels.npy", 200),
        journal_that_is_a_list,
        journal_without_rows,
    ],
    ids=lambda damage: damage.__name__,
)
def test_unfinished_packing_that_lost_data_starts_anew(tmp_path, monkeypatch, damage):
    folder = make_folder(tmp_path / "records", 14)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, RuntimeError())
        with pytest.raises(RuntimeError):
            records.packed(folder, tmp_path / "cache")
    (building,) = (tmp_path / "cache").glob("*/building")
    assert (building / "frames.npy").stat().st_size >= 384
    damage(building)
    split = records.packed(folder, tmp_path / "cache")
    split.verify()
    expected = records.read_folder(folder)
    assert all(same(one, other) for one, other in zip(split, expected, strict=True))


def test_unfinished_packing_is_discarded_when_the_folder_changed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 9)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1, RuntimeError())
        with pytest.raises(RuntimeError):
            records.packed(folder, tmp_path / "cache")
    (folder / NAME).unlink()
    split = records.packed(folder, tmp_path / "cache")
    assert split.sample_id.tolist() == list(range(1, 9))
    assert content(split) == content(records.packed(folder, tmp_path / "other"))


def test_a_folder_that_changes_while_it_is_packed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 3)
    parse = records._parse
    monkeypatch.setattr(records, "_parse", lambda *a: os.utime(folder / NAME) or parse(*a))
    with pytest.raises(RecordError, match="changed while"):
        records.packed(folder, tmp_path / "cache")


def test_packing_samples_from_elsewhere(tmp_path):
    with pytest.raises(RecordError, match="found none"):
        records.pack_samples([], tmp_path / "a")
    with pytest.raises(RecordError, match=r"sample 1: expected frames of shape \(4, 4, 4, 4\)"):
        records.pack_samples([make_sample(0), make_sample(1, times=3)], tmp_path / "a")
    old = records.pack_samples([make_sample(0)], tmp_path / "a", source="one sample")
    with pytest.raises(RecordError, match="Betti"):
        wrong = replace(make_sample(2), betti=np.zeros(4, np.uint8))
        records.pack_samples([make_sample(1), wrong], tmp_path / "a")
    assert records.open_packed(tmp_path / "a").sample_id.tolist() == [0]
    assert old.source == "one sample"
    records.pack_samples([make_sample(1)], tmp_path / "a")
    assert records.open_packed(tmp_path / "a").sample_id.tolist() == [1]


def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 2)

    def failing(message):
        def connect(*_, **__):
            raise sqlite3.OperationalError(message)

        return connect

    with monkeypatch.context() as patch:
        patch.setattr(records.sqlite3, "connect", failing("unable to open database file"))
        with pytest.raises(OSError, match="cannot be locked: unable to open"):
            records.packed(folder, tmp_path / "cache")
        patch.setattr(records.sqlite3, "connect", failing("database or disk is full"))
        for pack in (
            lambda: records.packed(folder, tmp_path / "cache"),
            lambda: records.pack_samples([make_sample()], tmp_path / "own"),
        ):
            with pytest.raises(OSError, match="the disk is full.*WORKSHOP_CACHE") as caught:
                pack()
            assert caught.value.errno == errno.ENOSPC
    (entry,) = (tmp_path / "cache").iterdir()
    (entry / "lock.sqlite").write_bytes(b"no database, and longer than its header " * 40)
    with pytest.raises(OSError, match="cannot be locked.*not a database"):
        records.packed(folder, tmp_path / "cache")


def test_several_threads_pack_the_same_folder(tmp_path):
    folder = make_folder(tmp_path / "records", 12)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "another process works on …"
        threads = [
            threading.Thread(
                target=lambda: found.append(records.packed(folder, tmp_path / "cache"))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(found) == 4
    for split in found:
        split.verify()
    assert len({next(split.folder.glob("*-*")).name for split in found}) == 1


KILLED = """
import sys, time
from helpers import records

assert "tensorflow" not in sys.modules  # importing does no work

append = records._Build.append
def slow(build, *arguments, **options):
    append(build, *arguments, **options)
    if build.files >= 8:
        # Half a batch more, as a process leaves it that dies between two writes.
        build._file("frames.npy").write(b"half a batch")
        build._file("frames.npy").flush()
        print("packing", flush=True)
        time.sleep(120)
records.BATCH = 4
records._Build.append = slow
records.packed(sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_another_process_waits_for_a_killed_one_and_goes_on(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 18)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(records.__file__).parent.parent,
    )
    try:
        assert child.stdout.readline() == "packing\n"
        read, parse, found = [], records._parse, []
        monkeypatch.setattr(records, "_parse", lambda *a: read.append(a[0]) or parse(*a))
        waiting = threading.Event()
        monkeypatch.setattr(warnings, "warn", lambda text, **_: waiting.set())
        thread = threading.Thread(
            target=lambda: found.append(records.packed(folder, tmp_path / "cache"))
        )
        thread.start()
        assert waiting.wait(120)
        assert not read
    finally:
        child.kill()
        _, told = child.communicate()
    assert told == ""  # TensorFlow's greetings stay away
    thread.join(120)
    assert len(read) == 10
    found[0].verify()
    assert content(found[0]) == content(records.packed(folder, tmp_path / "other"))


def test_thesis_split_is_packed(thesis_folder, tmp_path):
    folder = thesis_folder / "data" / SPLITS["validation"]
    split = records.packed(folder, tmp_path, limit=40)
    archive = np.load(thesis_folder / "packed" / "validation.npz")
    ids, theirs = archive["sample_id"].tolist(), archive["frames"]
    rows = [ids.index(number) for number in split.sample_id]
    own = np.load(next(split.folder.glob("*/frames.npy")))
    assert np.array_equal(own, theirs[rows])
    assert np.array_equal(split.betti, archive["betti"][rows])
    assert np.array_equal(split.objects, archive["objects"][rows])


# The command line and the import


@pytest.fixture
def small_world(monkeypatch):
    """Small samples in place of the generator's; gives the list of seeds it was asked for."""
    seeds = []

    def generate(count, seed, *, processes, first_id):
        seeds.append(seed)
        for number in range(first_id, first_id + count):
            sample = make_sample(number)
            yield replace(sample, frames=np.roll(sample.frames, seed % 4))

    monkeypatch.setattr(records, "generate", generate)
    return seeds


def generate_arguments(folder, *more):
    counts = ("--training", "4", "--validation", "2", "--test", "1", "--seed", "5")
    return ["generate", str(folder), *counts, *more]


def test_generate(tmp_path, small_world, capsys):
    folder = tmp_path / "deep" / "sample"
    assert records.main(generate_arguments(folder)) == 0
    assert "4 training, 2 validation, 1 test" in capsys.readouterr().out
    ids = [
        [sample.sample_id for sample in records.read_folder(folder / name)]
        for name in SPLITS.values()
    ]
    assert ids == [[0, 1, 2, 3], [4, 5], [6]]
    assert len(set(small_world)) == 3
    assert os.listdir(folder.parent) == ["sample"]
    assert records.main(generate_arguments(folder)) == 1
    assert "exists" in capsys.readouterr().err
    (folder / SPLITS["test"] / "extra").touch()
    assert records.main(generate_arguments(folder, "--overwrite")) == 0
    assert not (folder / SPLITS["test"] / "extra").exists()
    assert os.listdir(folder.parent) == ["sample"]
    (folder / "thesis.txt").touch()
    assert records.main(generate_arguments(folder, "--overwrite")) == 1
    assert "other things" in capsys.readouterr().err
    assert (folder / "thesis.txt").exists()


def test_generate_interrupted(tmp_path, small_world, monkeypatch, capsys):
    write, count = records.write_sample, []

    def full(*arguments):
        count.append(0)
        if len(count) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(records, "write_sample", full)
    assert records.main(generate_arguments(tmp_path / "sample")) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "in use"), KeyboardInterrupt()])
def test_a_sample_set_survives_a_failed_exchange(tmp_path, small_world, monkeypatch, error):
    counts = dict(training=2, validation=1, test=0)
    folder = records.write_sample_set(tmp_path / "sample", counts, 1)
    before = {path: path.read_bytes() for path in folder.rglob("*.tfrecords")}
    replace_ = os.replace

    def failing(old, new):
        if Path(new) == folder and str(old).endswith(".tmp"):
            raise error
        replace_(old, new)

    monkeypatch.setattr(records.os, "replace", failing)
    with pytest.raises(type(error)):
        records.write_sample_set(folder, counts, 2, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*.tfrecords")} == before
    assert len(before) == 3
    assert os.listdir(tmp_path) == ["sample"]


@pytest.mark.parametrize(
    "counts, message",
    [
        ({"training": 1}, "found validation, test missing; give 0"),
        ({"train": 1, "validation": 1, "test": 1}, "found training missing and train unknown"),
        ({"training": 1, "validation": -1, "test": 0}, "0 or more validation samples, found -1"),
        ({"training": 1.5, "validation": 1, "test": 0}, "training samples, found 1.5"),
    ],
)
def test_wrong_counts(tmp_path, small_world, counts, message):
    with pytest.raises(ValueError, match=message):
        records.write_sample_set(tmp_path / "sample", counts, 1)
    assert os.listdir(tmp_path) == []


def test_the_generator_makes_each_split_of_its_own(tmp_path):
    records.write_sample_set(
        tmp_path / "set", dict(training=1, validation=1, test=0), 1, progress=False
    )
    training, validation = (
        records.read_folder(tmp_path / "set" / SPLITS[name])[0]
        for name in ("training", "validation")
    )
    assert training.frames.shape == (128, 16, 16, 16)
    assert (training.sample_id, validation.sample_id) == (0, 1)
    assert not np.array_equal(training.frames, validation.frames)


def test_validate_and_pack(tmp_path, capsys):
    for number, name in enumerate(SPLITS.values()):
        make_folder(tmp_path / "set" / name, 3, first_id=10 * number)
    assert records.main(["validate", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out == "9 good, 0 bad\n"
    bad = tmp_path / "set" / SPLITS["test"] / make_sample(21).file_name
    empty(bad)
    good = bad.with_name(make_sample(20).file_name)
    assert records.main(["validate", str(good), str(bad)]) == 1
    told = capsys.readouterr()
    assert told.out == "1 good, 1 bad\n"
    assert str(bad) in told.err
    assert records.main(["validate", str(tmp_path / "absent")]) == 1
    pack = ["pack", str(tmp_path / "set"), "--cache", str(tmp_path / "cache")]
    assert records.main(pack) == 1
    assert str(bad) in capsys.readouterr().err
    assert records.main([*pack, "--skip-bad"]) == 0
    told = capsys.readouterr()
    assert "test: 2 samples of (4, 4, 4, 4)" in told.out
    assert told.err.startswith("warning: ") and "1 of 3 records are bad" in told.err
    with pytest.raises(SystemExit) as caught:
        records.main(["generate", str(tmp_path), "--seed", "-1"])
    assert caught.value.code == 2


def test_the_bar_of_validate_counts_files(tmp_path, monkeypatch):
    folder, bars = make_folder(tmp_path / "records", 5), []

    class Bar(records.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options | {"delay": 0})
            bars.append(self)

    monkeypatch.setattr(records, "tqdm", Bar)
    monkeypatch.setattr(records, "BATCH", 2)
    empty(folder / NAME)
    assert records.main(["validate", str(folder)]) == 1
    assert [(bar.n, bar.total, bar.unit) for bar in bars] == [(5, 5, "file")]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    assert records.cache_folder() == tmp_path.resolve()
    monkeypatch.delenv("WORKSHOP_CACHE")
    assert "forecasting-4d" in str(records.cache_folder())
    assert not records.cache_folder().is_relative_to(Path(records.__file__).parent.parent)
