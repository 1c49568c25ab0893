"""Fetching the thesis set, from a small server on this machine."""

import hashlib
import io
import os
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from helpers import __main__ as commands
from helpers import records
from helpers.records import RecordError
from helpers.sources import thesis
from helpers.workshop import SPLITS
from helpers.world.cavities import Sample, betti_numbers

TOP = "4D-Predictive-GAN-ConvLSTM-f2cfb35"


class Server:
    """Serves `body`, and counts how often it was asked."""

    def __init__(self, body: bytes):
        self.body = body
        self.asked = 0
        self.statuses = []  # of the next requests, 200 when used up
        self.cuts = []  # so many bytes of the next bodies, all when used up
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/archive.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(10)

    def answer(self, request):
        self.asked += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return request.send_error(status)
        request.send_response(200)
        request.send_header("Content-Length", str(len(self.body)))
        request.end_headers()
        request.wfile.write(self.body[: self.cuts.pop(0) if self.cuts else None])


def make_sample(sample_id: int) -> Sample:
    rng = np.random.default_rng(sample_id)
    objects = np.array([0, 1, 0, 2], np.uint8)
    frames = rng.integers(0, 2, (8, 8, 8, 8), dtype=np.uint8)
    return Sample(frames, betti_numbers(objects), objects, sample_id=sample_id)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder in thesis layout."""
    folder = tmp_path_factory.mktemp("source")
    for number, name in enumerate(SPLITS.values()):
        (folder / name).mkdir()
        for sample_id in range(10 * number, 10 * number + 12):
            records.write_sample(folder / name, make_sample(sample_id))
    return folder


@pytest.fixture(scope="module")
def digests(source):
    return {split: records.split_digest(source / name) for split, name in SPLITS.items()}


def pack(source, *more: tarfile.TarInfo) -> bytes:
    """An archive as the author's repository gives it, with more members if wanted."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for name, text in (("README.md", b"Hello"), ("code/train.py", b"print()")):
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        for member in more:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
        tar.add(source, f"{TOP}/data")
    return written.getvalue()


@pytest.fixture
def server(source, digests, monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # between two tries
    served = Server(pack(source))
    monkeypatch.setattr(thesis, "ARCHIVE", served.address)
    monkeypatch.setattr(thesis, "DIGESTS", digests)
    yield served
    served.close()


@pytest.fixture
def fetch(server, tmp_path):
    return lambda: thesis.download(tmp_path / "thesis")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.tfr*"))
    }


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_digest_is_the_documented_one(tmp_path):
    (tmp_path / "b.tfrecords").write_bytes(b"two")
    (tmp_path / "a.tfrecords").write_bytes(b"one")
    (tmp_path / "README.md").write_bytes(b"left out")
    one, two = (hashlib.sha256(content).digest() for content in (b"one", b"two"))
    expected = hashlib.sha256(b"a.tfrecords\0" + one + b"b.tfrecords\0" + two).hexdigest()
    assert records.split_digest(tmp_path) == expected


def test_a_download_is_whole_and_done_once(server, fetch, source, tmp_path):
    folder = fetch()
    assert folder == tmp_path / "thesis"
    assert contents(folder) == contents(source)
    assert entries(folder) == sorted(SPLITS.values())
    assert fetch() == folder
    assert server.asked == 1


def test_only_what_is_missing_is_put_in_place(server, fetch, source):
    folder = fetch()
    kept = folder / SPLITS["training"] / "note.txt"
    kept.touch()
    shutil.rmtree(folder / SPLITS["test"])
    fetch()
    assert contents(folder) == contents(source)
    assert kept.exists() and entries(folder) == sorted(SPLITS.values())


def test_a_failed_try_is_followed_by_another(server, fetch, source):
    server.statuses, server.cuts = [503], [4000]
    assert contents(fetch()) == contents(source)
    assert server.asked == 3


def test_no_network(server, tmp_path, capsys):
    server.close()
    assert commands.main(["download", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "Check the network" in told and "By hand: git clone" in told
    assert entries(tmp_path) == []


def test_a_process_that_died_before(server, fetch, source, tmp_path):
    """What it has left is cleared."""
    left = tmp_path / "thesis" / ".download" / SPLITS["test"]
    left.mkdir(parents=True)
    (left / "4d_mixed_#9_3_8.tfrecords").touch()
    (left.parent / "archive").write_bytes(b"half")
    folder = fetch()
    assert contents(folder) == contents(source)
    assert entries(folder) == sorted(SPLITS.values())


def test_a_wrong_digest(server, digests, tmp_path, monkeypatch):
    monkeypatch.setattr(thesis, "DIGESTS", digests | {"validation": "0" * 64})
    with pytest.raises(RecordError, match="validation split: expected digest 000") as caught:
        thesis.download(tmp_path)
    assert digests["validation"] in str(caught.value)
    assert entries(tmp_path) == []


def test_a_damaged_archive(server, fetch, source, tmp_path):
    good = server.body
    for body in (good[:6000], b"<html>Please log in</html>", good[:3000] + b"?" * 10 + good[3010:]):
        server.body = body
        with pytest.raises(RecordError, match="expected a whole tar.gz|expected digest"):
            fetch()
        assert entries(tmp_path / "thesis") == []
    server.body = good
    assert contents(fetch()) == contents(source)


def test_an_archive_without_the_records(server, fetch, tmp_path):
    (tmp_path / "empty").mkdir()
    server.body = pack(tmp_path / "empty")
    with pytest.raises(RecordError, match="training split.*found no records.*\nBy hand") as caught:
        fetch()
    assert str(tmp_path) not in str(caught.value)
    assert entries(tmp_path / "thesis") == []


def test_what_is_there_already_is_checked_and_not_fetched(server, fetch, source, tmp_path):
    shutil.copytree(source, tmp_path / "thesis")
    assert contents(fetch()) == contents(source)
    assert server.asked == 0


@pytest.mark.parametrize("kind", ["part", "file"])
def test_a_split_that_is_there_and_wrong(server, fetch, source, tmp_path, kind):
    place = tmp_path / "thesis" / SPLITS["training"]
    place.parent.mkdir()
    if kind == "file":
        place.write_text("mine")
    else:
        shutil.copytree(source / SPLITS["training"], place)
        records.record_paths(place)[0].unlink()
    before = contents(tmp_path / "thesis")
    with pytest.raises(RecordError, match="move it away and call") as caught:
        fetch()
    assert str(place) in str(caught.value)
    assert contents(tmp_path / "thesis") == before
    assert server.asked == 0
    place.rename(tmp_path / "away")
    assert contents(fetch()) == contents(source)


def test_an_old_python(server, fetch, monkeypatch, tmp_path):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(RuntimeError, match="Python 3.10.12, 3.11.4 or a later one"):
        fetch()
    assert server.asked == 0


RECORD = f"{TOP}/data/{SPLITS['test']}/4d_mixed_#99_3_8.tfrecords"


@pytest.mark.parametrize(
    "name, kind, message",
    [
        (RECORD, tarfile.SYMTYPE, "no plain file"),
        (f"../../{SPLITS['test']}/4d_mixed_#99_3_8.tfrecords", tarfile.REGTYPE, "expected digest"),
    ],
)
def test_a_member_that_is_not_to_be_trusted(server, fetch, source, tmp_path, name, kind, message):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    member.size = 10 if kind == tarfile.REGTYPE else 0
    server.body = pack(source, member)
    with pytest.raises(RecordError, match=message):
        fetch()
    assert entries(tmp_path / "thesis") == []
    assert entries(tmp_path) == ["thesis"]


def test_what_is_no_record_is_left_out_wherever_it_points(server, fetch, source, tmp_path):
    server.body = pack(source, tarfile.TarInfo("/tmp/outside.txt"))
    assert contents(fetch()) == contents(source)
    assert os.listdir(tmp_path) == ["thesis"]


def test_a_full_disk(server, fetch, source, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for what in ("tarfile.TarFile.extract", "pooch.HTTPDownloader.__call__"):
        with monkeypatch.context() as patch:
            patch.setattr(what, full)
            with pytest.raises(OSError, match="the disk is full.*WORKSHOP_CACHE"):
                fetch()
        assert entries(tmp_path / "thesis") == []
    assert contents(fetch()) == contents(source)


def test_two_calls_at_once(server, fetch, source, recwarn):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert contents(found[0]) == contents(source)
    assert server.asked == 1
