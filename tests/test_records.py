"""The record format and the packed cache."""

import errno
import gzip
import json
import os
import pickle
import resource
import signal
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

from helpers import _tfrecord, records
from helpers.records import RecordError, read_sample, write_sample
from helpers.workshop import SPLITS
from helpers.world.cavities import Sample, betti_numbers


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
ROOT = Path(records.__file__).parent.parent


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
    assert write_sample(str(tmp_path), sample).read_bytes() == first
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
        ({"betti": np.array([1, 2, 0, 3])}, "labelBetti as uint8"),
        ({"frames": [[[[0]]]]}, "frames uint8 .* found int64"),
        ({"betti": [1, 2, 0, 3]}, "labelBetti as uint8 .* found int64"),
        ({"objects": (1, 0, 2)}, "labelObjs as uint8 .* found int64 .3,."),
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


def test_writing_needs_a_folder(tmp_path):
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
    short_label: r"labelObjs as uint8 \(4,\), found uint8 \(3,\)",
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
        read_sample(path)
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


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_that_unpacks_to_gigabytes(tmp_path, monkeypatch, packed):
    """A small file that says nothing of its size: 4 GB of zeros in 4 MB, or 1 TB of nothing."""
    path = tmp_path / NAME
    if packed:
        block = gzip.compress(bytes(2**26), 1)
        path.write_bytes(block * 64)
    else:
        with open(path, "wb") as file:
            file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(_tfrecord, "LIMIT", 2**24)
    with pytest.raises(RecordError, match="at most 16777216 voxels, found a file that holds more"):
        read_sample(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kB
    with pytest.raises(RecordError, match="at most 16777216 voxels"):
        write_sample(tmp_path, make_sample(times=9, edge=128))


@pytest.mark.parametrize("after", ["listing", "parsing"])
def test_a_record_that_vanishes_is_called_that(tmp_path, monkeypatch, after):
    path = write_sample(make_folder(tmp_path, 3), make_sample(7))
    read, listed = _tfrecord.read, records.record_paths
    if after == "listing":
        monkeypatch.setattr(records, "record_paths", lambda *a: (listed(*a), path.unlink())[0])
    else:
        monkeypatch.setattr(
            _tfrecord, "read", lambda one: (read(one), one == path and one.unlink())[0]
        )
    with pytest.warns(UserWarning, match="1 of 4"):
        found = records.read_folder(tmp_path, on_bad="skip")
    assert len(found) == 3 and found.skipped[0].path == path
    assert "vanished" in str(found.skipped[0])


LATIN = r"""
import os, sys
from helpers import records
folder = os.fsencode(sys.argv[1]) + b"/M\xfcller"
os.mkdir(folder)
folder = os.fsdecode(folder)
for sample in records.read_folder(sys.argv[2], limit=2):
    path = records.write_sample(folder, sample)
split = records.packed(folder, sys.argv[1])
split = records.packed(folder, sys.argv[1])
print(len(records.read_folder(folder)), len(split), split.source == folder)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names are text on other systems")
def test_a_path_that_is_not_utf_8(tmp_path, sample_set):
    command = [sys.executable, "-c", LATIN, str(tmp_path), str(sample_set / SPLITS["test"])]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (told.stdout, told.stderr) == ("2 2 True\n", "")


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
    with pytest.raises(ValueError, match="choose one of raise, skip"):
        records.read_folder(tmp_path, on_bad="ignore")
    with pytest.raises(ValueError, match="at least 1"):
        records.read_folder(tmp_path, limit=0)
    with pytest.raises(TypeError, match="limit is 1.5; expected a whole number"):
        records.record_paths(tmp_path, 1.5)


# The packed cache


def pack(samples, place, **options):
    """Write samples to a folder and pack it."""
    (place / "records").mkdir()
    for sample in samples:
        write_sample(place / "records", sample)
    return records.packed(place / "records", place / "cache", progress=False, **options)


@settings(max_examples=15)
@given(data=st.data())
def test_packed_frames_are_the_frames(data):
    times, edge, count = (data.draw(st.integers(1, 5)) for _ in range(3))
    samples = [make_sample(number, times=times, edge=edge) for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        split = pack(samples, Path(folder))
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
    samples = [make_sample(n) for n in range(5)]
    split, frames = pack(samples, tmp_path), np.stack([sample.frames for sample in samples])
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
    return {name: (split.folder / name).read_bytes() for name in records.PACKED_FILES}


def kept(cache: Path) -> list[str]:
    """What is in a cache, its lock left out."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_folder_is_packed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    folder, cache = make_folder(tmp_path / "records", 6), tmp_path / "cache"
    split = records.packed(folder, cache)
    expected = records.read_folder(folder)
    assert all(same(one, other) for one, other in zip(split, expected, strict=True))
    assert split.betti.shape == split.objects.shape == (6, 4)
    with monkeypatch.context() as patch:
        patch.setattr(records, "read_batches", None)  # nothing is read again
        again = records.packed(folder, cache)
    assert again.checksum == split.checksum
    write_sample(folder, make_sample(9))
    anew = records.packed(folder, cache)
    assert len(anew) == 7
    # The old one stays readable for whoever has it open; its files are gone.
    assert same(split[0], expected[0])
    assert kept(cache) == [anew.folder.name]
    assert len(records.packed(folder, cache, limit=2)) == 2
    assert len(records.packed(folder, cache)) == 7 and len(kept(cache)) == 2


def damaged(name, damage):
    def apply(entry):
        path = entry / name
        damaged = damage(path.read_bytes())
        path.unlink() if damaged is None else path.write_bytes(damaged)

    return apply


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def changed(key, value):
    """Another value in the manifest, or none."""

    def apply(content):
        manifest = json.loads(content)
        manifest.pop(key) if value is None else manifest.update({key: value})
        return json.dumps(manifest).encode()

    return apply


DAMAGE = {
    f"{kind} {name}": damaged(name, damage)
    for name in (*records.PACKED_FILES, "manifest.json")
    for kind, damage in {
        "empty": lambda content: b"",
        "cut": lambda content: content[:-1] if content[-1:] != b"\n" else content[:-2],
        "longer": lambda content: content + b"more",
        "flipped": flipped,
        "no": lambda content: None,
    }.items()
    if (kind, name) != ("no", "manifest.json")
} | {
    f"{key} {value}": damaged("manifest.json", changed(key, value))
    for key, value in [
        *((key, None) for key in ("shape", "source", "skipped", "checksum", "digest")),
        ("shape", [2, 4, 4, 8]),  # of the same size
        ("shape", "4444"),
        ("checksum", {}),
        ("skipped", ["only words"]),
    ]
}
DAMAGE["a list"] = damaged("manifest.json", lambda content: b"[1, 2]")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_cache_is_explained_and_packed_again(tmp_path, damage):
    whole = pack([make_sample(number) for number in range(3)], tmp_path)
    expected, entry = content(whole), whole.folder
    damage(entry)
    with pytest.raises(RecordError, match="is damaged.*delete the folder") as caught:
        records.PackedSplit(entry).verify()
    assert caught.value.path == entry
    with pytest.raises(RecordError, match="is damaged"):
        records._opened(entry) or records.PackedSplit(entry).verify()
    split = records.packed(tmp_path / "records", tmp_path / "cache")
    assert content(split) == expected
    assert kept(tmp_path / "cache") == [split.folder.name]


def test_a_flipped_label_is_noticed_when_it_is_opened(tmp_path):
    split = pack([make_sample()], tmp_path)
    DAMAGE["flipped labels.npy"](split.folder)
    with pytest.raises(RecordError, match="another checksum of labels.npy"):
        records.PackedSplit(split.folder)


@pytest.mark.parametrize("number", [1, 3, "new"])
def test_a_cache_of_another_version_is_called_that_and_made_again(tmp_path, number):
    split = pack([make_sample()], tmp_path)
    damaged("manifest.json", changed("format", number))(split.folder)
    # The course's first caches had this name.
    old = split.folder.rename(split.folder.with_name(split.folder.name.rsplit("-", 1)[0]))
    with pytest.raises(RecordError, match="made by another version of the course"):
        records.PackedSplit(old)
    again = records.packed(tmp_path / "records", tmp_path / "cache")
    assert len(again) == 1 and kept(tmp_path / "cache") == [again.folder.name]
    with pytest.raises(FileNotFoundError, match="found no manifest.json"):
        records.PackedSplit(old)


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
        assert np.array_equal(split.frames(3)[0], make_sample(4).frames)
        assert [error.path for error in split.skipped] == [bad]
    with pytest.raises(RecordError, match=bad.name) as later:
        records.packed(folder, tmp_path / "cache")
    assert later.value.path == first.value.path == bad
    assert str(later.value) == str(first.value)
    for path in folder.iterdir():
        empty(path)
    with pytest.raises(RecordError, match="no record is good"):
        records.packed(folder, tmp_path / "cache", on_bad="skip")


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full.*WORKSHOP_CACHE"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written.*WORKSHOP_CACHE"),
        (KeyboardInterrupt("by hand"), "by hand"),
        (RuntimeError("anything"), "anything"),
    ],
)
def test_interrupted_packing_leaves_the_old_cache_and_nothing_else(
    tmp_path, monkeypatch, error, message
):
    old = pack([make_sample(number) for number in range(9)], tmp_path)
    before = content(old)
    os.utime(tmp_path / "records" / NAME)  # stale now
    monkeypatch.setattr(records, "BATCH", 4)
    bits, seen = records._bits, []

    def failing(sample):
        seen.append(0)
        if len(seen) == 6:
            raise error
        return bits(sample)

    with monkeypatch.context() as patch:
        patch.setattr(records, "_bits", failing)
        with pytest.raises(type(error), match=message) as caught:
            records.packed(tmp_path / "records", tmp_path / "cache")
        assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)
    records.PackedSplit(old.folder).verify()
    assert kept(tmp_path / "cache") == [old.folder.name]
    split = records.packed(tmp_path / "records", tmp_path / "cache")
    assert content(split) == before and split.folder != old.folder


def test_a_folder_that_changes_while_it_is_packed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "records", 3)
    bits = records._bits
    monkeypatch.setattr(records, "_bits", lambda *a: os.utime(folder / NAME) or bits(*a))
    with pytest.raises(RecordError, match="changed while"):
        records.packed(folder, tmp_path / "cache")
    monkeypatch.setattr(records, "record_paths", lambda *a: [folder / "4d_mixed_#9_3_4.tfrecords"])
    with pytest.raises(RecordError, match="vanished"):
        records.packed(folder, tmp_path / "cache")


def test_several_threads_pack_the_same_folder(tmp_path, monkeypatch):
    folder, packing, found = make_folder(tmp_path / "records", 12), [], []
    pack = records._pack
    monkeypatch.setattr(records, "_pack", lambda *a: packing.append(0) or pack(*a))

    def work():
        found.append(records.packed(folder, tmp_path / "cache"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "another process works on …"
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(packing) == 1 and len(found) == 4
    assert len({split.folder for split in found}) == 1


KILLED = """
import sys, time
from helpers import records

assert "tensorflow" not in sys.modules  # importing does no work

read = records.read_batches
def slow(*arguments):
    yield next(read(*arguments))
    print("packing", flush=True)
    time.sleep(120)
records.BATCH = 4
records.read_batches = slow
records.packed(sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_another_process_waits_for_a_killed_one_and_clears_up(tmp_path, monkeypatch):
    folder, cache = make_folder(tmp_path / "records", 18), tmp_path / "cache"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert child.stdout.readline() == "packing\n"
        assert len(kept(cache)) == 1
        found, waiting = [], threading.Event()
        monkeypatch.setattr(warnings, "warn", lambda text, **_: waiting.set())
        thread = threading.Thread(target=lambda: found.append(records.packed(folder, cache)))
        thread.start()
        assert waiting.wait(120)
        assert not found
    finally:
        child.kill()
        _, told = child.communicate()
    assert told == ""  # TensorFlow's greetings stay away
    thread.join(120)
    assert len(found[0]) == 18
    assert kept(cache) == [found[0].folder.name]


def test_a_cache_without_locks(tmp_path, preload):
    folder = make_folder(tmp_path / "records", 1)
    code = "import sys; from helpers import records; records.packed(*sys.argv[1:])"
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(preload("nolocks"))},
    )
    assert "cannot be locked on this file system" in told.stderr
    assert "set WORKSHOP_CACHE" in told.stderr and "nother process" not in told.stderr
    # One that is there and good needs no lock.
    records.packed(folder, tmp_path / "cache")
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)


def test_thesis_split_is_packed(thesis_folder, tmp_path):
    folder = thesis_folder / "data" / SPLITS["validation"]
    split = records.packed(folder, tmp_path, limit=40)
    archive = np.load(thesis_folder / "packed" / "validation.npz")
    ids, theirs = archive["sample_id"].tolist(), archive["frames"]
    rows = [ids.index(number) for number in split.sample_id]
    own = np.fromfile(split.folder / "frames.bits", np.uint8).reshape(40, 128, 512)
    assert np.array_equal(own, theirs[rows])
    assert np.array_equal(split.betti, archive["betti"][rows])
    assert np.array_equal(split.objects, archive["objects"][rows])
