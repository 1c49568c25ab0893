"""The record format and the packed cache."""

import errno
import gzip
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import records
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
    assert write_sample(str(tmp_path), sample).read_bytes() == first
    places = [gzip.decompress(first).find(name.encode()) for name in sorted(records.FEATURES)]
    assert 0 < places[0] < places[1] < places[2]


def test_thesis_records_are_good_and_written_alike(thesis_folder, tmp_path):
    for name in SPLITS.values():
        folder = thesis_folder / "data" / name
        paths = records.record_paths(folder, limit=9)
        for sample, path in zip(records.read_folder(folder, limit=9), paths, strict=True):
            assert sample.frames.shape == (128, 16, 16, 16)
            assert sample.file_name == path.name
            own = write_sample(tmp_path, sample)
            # The GZIP header; its tenth byte names the operating system.
            assert own.read_bytes()[:9] == path.read_bytes()[:9]
            own, theirs = (gzip.decompress(each.read_bytes()) for each in (own, path))
            # The order of a protobuf map is free (the thesis's files have all of them), so the
            # same features stand in another order, and only the checksum of the data differs.
            assert own[:12] == theirs[:12]
            examples = [tf.train.Example.FromString(each[12:-4]) for each in (own, theirs)]
            assert examples[0] == examples[1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": np.full((4, 4, 4, 4), 2, np.uint8)}, "voxels of 0 and 1"),
        ({"frames": np.zeros((4, 4, 4, 3), np.uint8)}, "D = H = W"),
        ({"frames": np.zeros((0, 4, 4, 4), np.uint8)}, "at least one frame"),
        ({"betti": np.array([1, 1, 1, 1], np.uint8)}, "Betti numbers"),
        ({"objects": (1, 0, 2)}, "labelObjs as uint8 .* found int64 .3,."),
        ({"objects": np.array([250, 10, 0, 0], np.uint8)}, "8 bits"),  # in uint8 it would be 4
    ],
)
def test_a_sample_that_breaks_the_format_is_not_written(tmp_path, change, message):
    with pytest.raises(RecordError, match=message):
        write_sample(tmp_path, replace(make_sample(), **change))
    assert not os.listdir(tmp_path)


def test_writing_needs_a_folder(tmp_path):
    with pytest.raises(OSError, match="cannot be written.*No such file or directory"):
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
    assert "No space left" in str(caught.value)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


# Bad records


def flipped(content: bytes, place: int | None = None) -> bytes:
    """The same bytes but for one bit, in the middle unless told."""
    place = len(content) // 2 if place is None else place % len(content)
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


BAD_FILES = {
    "text": (lambda whole: gzip.compress(b"some text, long enough for a record"), "a TFRecord"),
    "no GZIP": (gzip.decompress, "something else .*Not a gzipped file"),
    "half": (lambda whole: whole[: len(whole) // 2], "cut short"),
    "a header": (lambda whole: whole[:3], "cut short after 3 bytes"),
    "flipped": (flipped, "CRC check failed"),
    "flipped checksum": (lambda whole: flipped(whole, -6), "CRC check failed"),
    "empty": (lambda whole: b"", "found 0 bytes"),
    "two files in one": (lambda whole: 2 * whole, "one example"),
}
INTEGERS = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 0, 3]))
BAD_FEATURES = {
    "found labelBetti with 1, object4d with 1": {"labelObjs": None},
    "comment with 1": {"comment": bytes_feature(b"hello")},
    "found labelBetti with 0": {"labelBetti": INTEGERS},
    "labelObjs with 2": {"labelObjs": bytes_feature(b"\1\0\2\0", b"\1\0\2\0")},
    r"labelObjs as uint8 \(4,\), found uint8 \(3,\)": {"labelObjs": bytes_feature(b"\1\0\2")},
    "found 255 bytes": {"object4d": bytes_feature(b"\0" * 255)},
    "found 0 bytes": {"object4d": bytes_feature(b"")},
    "found 255;": {"object4d": bytes_feature(b"\0" * 63 + b"\xff")},
    "Betti numbers": {"labelBetti": bytes_feature(b"\1\1\2\3")},
}


def is_refused(path: Path, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        read_sample(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("damage, message", BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_bad_file(tmp_path, damage, message):
    path = write_sample(tmp_path, make_sample())
    path.write_bytes(damage(path.read_bytes()))
    is_refused(path, message)


def write_payloads(path: Path, *payloads: bytes) -> Path:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for payload in payloads:
            writer.write(payload)
    return path


@pytest.mark.parametrize("message", BAD_FEATURES)
def test_a_bad_feature(tmp_path, message):
    sample = make_sample()
    features = {
        "object4d": bytes_feature(sample.frames.tobytes()),
        "labelBetti": bytes_feature(sample.betti.tobytes()),
        "labelObjs": bytes_feature(sample.objects.tobytes()),
    }
    features = {name: each for name, each in (features | BAD_FEATURES[message]).items() if each}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    is_refused(write_payloads(tmp_path / NAME, example), message)


def test_other_payloads(tmp_path):
    is_refused(write_payloads(tmp_path / NAME, b"\xff\xff\xff\xff none"), "tf.train.Example")
    is_refused(write_payloads(tmp_path / NAME, b"", b""), "one example, found 32 bytes")


@pytest.mark.parametrize(
    "name, message",
    [
        ("4d_mixed_#0_4_4.tfrecords", "expected 4 cavities as the file name says, found 3"),
        ("4d_mixed_#0_3_5.tfrecords", "T x 5 x 5 x 5"),
        ("sample.tfrecords", "expected a file name"),
    ],
)
def test_a_name_that_disagrees_with_its_content(tmp_path, name, message):
    path = write_sample(tmp_path, make_sample()).rename(tmp_path / name)
    with pytest.raises(RecordError, match=message):
        read_sample(path)


def test_an_absent_record(tmp_path):
    with pytest.raises(FileNotFoundError, match=NAME):
        read_sample(tmp_path / NAME)
    (found,) = records.read_each([tmp_path / NAME])  # gone since it was listed
    assert isinstance(found, RecordError) and NAME in str(found)


# Folders


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    make_folder(tmp_path, 12)
    (tmp_path / "README.md").write_text("not a record")
    (tmp_path / f"._{NAME}").write_text("what macOS leaves")
    samples = records.read_folder(tmp_path)
    assert [s.sample_id for s in samples] == [0, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(same(sample, make_sample(sample.sample_id)) for sample in samples)
    assert [s.sample_id for s in records.read_folder(tmp_path, limit=3)] == [0, 10, 11]


def test_one_bad_file_among_many(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH", 4)
    make_folder(tmp_path, 10)
    bad = [tmp_path / make_sample(number).file_name for number in (0, 3, 7)]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(flipped(bad[1].read_bytes()))
    bad[2].unlink()
    bad[2] = write_sample(tmp_path, make_sample(7, times=5))
    with pytest.raises(RecordError, match="#0_3_4"):
        records.read_folder(tmp_path)
    found = list(records.read_each(records.record_paths(tmp_path)))
    told = [str(each) for each in found if isinstance(each, RecordError)]
    assert [text.partition(": ")[0] for text in told] == list(map(str, bad))
    assert [s.sample_id for s in found if not isinstance(s, RecordError)] == [1, 2, 4, 5, 6, 8, 9]


def test_folders_with_nothing_to_read(tmp_path):
    with pytest.raises(RecordError, match="found none"):
        records.read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        records.read_folder(tmp_path / "absent")
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(RecordError, match=NAME):
        records.read_folder(tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        records.record_paths(tmp_path, 0)


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
        assert len(split) == count
        assert split.shape == (times, edge, edge, edge)
        for name in ("betti", "objects", "sample_id"):
            given = [getattr(sample, name) for sample in samples]
            assert np.array_equal(getattr(split, name), given)
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


def content(split) -> dict[str, bytes]:
    return {name: (split.folder / name).read_bytes() for name in records.PACKED_FILES}


def kept(cache: Path) -> list[str]:
    """What is in a cache, its lock left out."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_folder_is_packed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    folder, cache = make_folder(tmp_path / "records", 6), tmp_path / "cache"
    split = records.packed(folder, cache)
    before = split.frames()
    with monkeypatch.context() as patch:
        patch.setattr(records, "read_each", None)  # nothing is read again
        again = records.packed(folder, cache)
    assert again.checksum == split.checksum
    write_sample(folder, make_sample(9))
    anew = records.packed(folder, cache)
    assert len(anew) == 7
    # The old one stays readable for whoever has it open; its files are gone.
    assert np.array_equal(split.frames(), before)
    assert kept(cache) == [anew.folder.name]
    assert len(records.packed(folder, cache, limit=2)) == 2
    assert len(records.packed(folder, cache)) == 7 and len(kept(cache)) == 2


def changed(key, value):
    """Another value in the manifest."""
    return lambda content: json.dumps(json.loads(content) | {key: value}).encode()


DAMAGE = {
    "flipped frames": ("frames.bits", flipped),
    "no frames": ("frames.bits", None),
    "cut manifest": ("manifest.json", lambda content: content[:-2]),
    "another shape": ("manifest.json", changed("shape", [2, 4, 4, 8])),  # of the same size
    "no manifest": ("manifest.json", None),
}


@pytest.mark.parametrize("name, damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_cache_is_explained_and_packed_again(tmp_path, name, damage):
    whole = pack([make_sample(number) for number in range(3)], tmp_path)
    expected, path = content(whole), whole.folder / name
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    with pytest.raises(RecordError, match=f"{whole.folder}.* is damaged.*delete the folder"):
        records.PackedSplit(whole.folder)
    split = records.packed(tmp_path / "records", tmp_path / "cache")
    assert content(split) == expected
    assert kept(tmp_path / "cache") == [split.folder.name]


def test_a_cache_of_another_version_is_called_that_and_made_again(tmp_path):
    split = pack([make_sample()], tmp_path)
    path = split.folder / "manifest.json"
    path.write_bytes(changed("format", 1)(path.read_bytes()))
    # The course's first caches had this name.
    old = split.folder.rename(split.folder.with_name(split.folder.name.rsplit("-", 1)[0]))
    with pytest.raises(RecordError, match="made by another version of the course"):
        records.PackedSplit(old)
    again = records.packed(tmp_path / "records", tmp_path / "cache")
    assert len(again) == 1 and kept(tmp_path / "cache") == [again.folder.name]


def test_a_bad_file_is_not_packed(tmp_path):
    folder = make_folder(tmp_path / "records", 5)
    bad = folder / make_sample(2).file_name
    bad.write_bytes(b"")
    with pytest.raises(RecordError, match=f"{bad}: .*found 0 bytes"):
        records.packed(folder, tmp_path / "cache")
    assert kept(tmp_path / "cache") == []


def test_packing_on_a_full_disk_leaves_the_old_cache_and_nothing_else(tmp_path, monkeypatch):
    old = pack([make_sample(number) for number in range(9)], tmp_path)
    before = content(old)
    os.utime(tmp_path / "records" / NAME)  # stale now
    bits, seen = records._bits, []

    def failing(sample):
        seen.append(0)
        if len(seen) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return bits(sample)

    with monkeypatch.context() as patch:
        patch.setattr(records, "_bits", failing)
        with pytest.raises(OSError, match="the disk is full.*WORKSHOP_CACHE"):
            records.packed(tmp_path / "records", tmp_path / "cache")
    records.PackedSplit(old.folder)
    assert kept(tmp_path / "cache") == [old.folder.name]
    left = tmp_path / "cache" / f".{old.folder.name}.tmp-1"  # by a process that was killed
    left.mkdir()
    split = records.packed(tmp_path / "records", tmp_path / "cache")
    assert content(split) == before and kept(tmp_path / "cache") == [split.folder.name]


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
