"""Fetching the thesis set, from a small server on this machine."""

import hashlib
import io
import os
import re
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from helpers import records
from helpers.cavities import Sample, betti_numbers
from helpers.records import RecordError, download
from helpers.workshop import SPLITS

TOP = "4D-Predictive-GAN-ConvLSTM-f2cfb35"


class Server:
    """Serves `body` and notes the Range header of each request."""

    def __init__(self, body: bytes):
        self.body = body
        self.etag = '"first"'
        self.ranges = True
        self.chunked = False
        self.statuses = []  # of the next requests, 200 when used up
        self.cuts = []  # so many bytes of the next bodies, all when used up
        self.asked = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

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
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        request.close_connection = True
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return request.send_error(status)
        body = self.body
        first = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if not self.ranges or (wanted and request.headers.get("If-Range") != self.etag):
            first = 0
        if first >= len(body) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(body)}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        request.send_response(206 if first else 200)
        if first:
            request.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        body = body[first:]
        cut = self.cuts.pop(0) if self.cuts else len(body)
        if self.chunked:
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"%x\r\n%s\r\n" % (cut, body[:cut]))
            if cut == len(body):
                request.wfile.write(b"0\r\n\r\n")
        else:
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body[:cut])


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
def server(source):
    served = Server(pack(source))
    yield served
    served.close()


@pytest.fixture
def fetch(server, digests, tmp_path):
    def call():
        return download(
            tmp_path / "thesis", address=server.address, digests=digests, progress=False
        )

    return call


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.tfr*"))
    }


def entries(folder):
    own = ("lock.sqlite", "verified.json")
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


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
    assert server.asked == [None]
    assert fetch() == folder
    assert server.asked == [None]


def test_only_what_is_missing_is_put_in_place(server, fetch, source):
    folder = fetch()
    kept = folder / SPLITS["training"] / "note.txt"
    kept.touch()
    for path in (folder / SPLITS["test"]).iterdir():
        path.unlink()
    (folder / SPLITS["test"]).rmdir()
    fetch()
    assert contents(folder) == contents(source)
    assert kept.exists()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_connection_is_taken_up(server, fetch, source, chunked):
    server.chunked = chunked
    server.cuts = [3000, 2000]
    assert contents(fetch()) == contents(source)
    if not chunked:
        assert server.asked == [None, "bytes=3000-", "bytes=5000-"]


def test_an_interrupted_download_goes_on_in_the_next_call(server, fetch, source, tmp_path):
    server.cuts, server.statuses = [4000], [200, 503]
    with pytest.raises(ConnectionError, match="HTTP 503.*\nBy hand: git clone"):
        fetch()
    assert entries(tmp_path / "thesis") == [".download"]
    assert contents(fetch()) == contents(source)
    assert server.asked == [None, "bytes=4000-", "bytes=4000-"]


def test_a_server_without_ranges_starts_again(server, fetch, source):
    server.ranges = False
    server.cuts = [4000]
    assert contents(fetch()) == contents(source)
    assert server.asked == [None, "bytes=4000-"]


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_without_a_strong_mark_nothing_is_glued_together(server, fetch, source, etag):
    server.etag = etag
    server.cuts = [4000]
    assert contents(fetch()) == contents(source)
    assert server.asked == [None, None]


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changes_in_between_is_fetched_anew(server, fetch, source, honest, monkeypatch):
    server.cuts, server.statuses = [4000], [200, 503]
    server.body = bytes(reversed(server.body))
    with pytest.raises(ConnectionError):
        fetch()
    server.body, server.etag = pack(source), '"second"'
    if not honest:
        # A server that gives the rest of another file although it was asked not to.
        answer = server.answer

        def careless(request):
            if "If-Range" in request.headers:
                request.headers.replace_header("If-Range", server.etag)
            answer(request)

        server.answer = careless
    assert contents(fetch()) == contents(source)
    assert server.asked[2:] == (["bytes=4000-"] if honest else ["bytes=4000-", None])


def test_a_process_that_died_after_the_last_byte(server, fetch, source, monkeypatch):
    replace = os.replace

    def dying(old, new):
        if str(new).endswith("archive.tar.gz"):
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(records.os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert contents(fetch()) == contents(source)
    assert server.asked == [None, f"bytes={len(server.body)}-"]


def died(*_):
    raise KeyboardInterrupt


def test_a_process_that_died_while_unpacking(server, fetch, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(records, "_check_digest", died)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert contents(fetch()) == contents(source)
    assert server.asked == [None]


def test_a_wrong_digest(server, digests, tmp_path):
    wrong = digests | {"validation": "0" * 64}
    with pytest.raises(RecordError, match="validation split: expected digest 000") as caught:
        download(tmp_path, address=server.address, digests=wrong, progress=False)
    assert digests["validation"] in str(caught.value)
    assert entries(tmp_path) == []


def test_a_damaged_archive(server, fetch, source, tmp_path):
    body, server.body = server.body, server.body[:6000]
    with pytest.raises(RecordError, match="expected a whole tar.gz archive"):
        fetch()
    server.body = b"<html>Please log in</html>"
    with pytest.raises(RecordError, match="expected a whole tar.gz archive"):
        fetch()
    server.body = body
    assert contents(fetch()) == contents(source)


def test_an_archive_without_the_records(server, fetch, tmp_path):
    (tmp_path / "empty").mkdir()
    server.body = pack(tmp_path / "empty")
    with pytest.raises(RecordError, match="training split.*found no records.*\nBy hand") as caught:
        fetch()
    assert str(tmp_path) not in str(caught.value)
    assert entries(tmp_path / "thesis") == []


def test_an_archive_that_lacks_a_split(server, fetch, source, tmp_path):
    shutil.copytree(source, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / SPLITS["test"])
    server.body = pack(tmp_path / "part")
    with pytest.raises(RecordError, match="the test split.*found no records.*\nBy hand"):
        fetch()
    assert entries(tmp_path / "thesis") == []


def test_what_is_there_is_checked_once(server, fetch, source, tmp_path, monkeypatch):
    shutil.copytree(source, tmp_path / "thesis")
    asked, split_digest = [], records.split_digest
    monkeypatch.setattr(
        records, "split_digest", lambda folder: asked.append(folder.name) or split_digest(folder)
    )
    for _ in range(2):
        assert contents(fetch()) == contents(source)
    assert asked == list(SPLITS.values())
    assert server.asked == []
    # A mark is worth nothing for other digests, or when it is damaged.
    (tmp_path / "thesis" / "verified.json").write_text("[")
    fetch()
    assert asked == 2 * list(SPLITS.values())


@pytest.mark.parametrize("kind", ["empty", "part", "other", "file"])
def test_a_split_that_is_there_and_wrong(server, fetch, source, tmp_path, kind):
    place = tmp_path / "thesis" / SPLITS["training"]
    place.parent.mkdir()
    if kind == "file":
        place.write_text("mine")
    elif kind == "empty":
        place.mkdir()
    else:
        shutil.copytree(source / SPLITS["training"], place)
        first = records.record_paths(place)[0]
        first.unlink() if kind == "part" else first.write_bytes(b"other")
    before = contents(tmp_path / "thesis")
    with pytest.raises(RecordError, match="move it away and call") as caught:
        fetch()
    assert caught.value.path == place
    assert str(place) in str(caught.value)
    assert contents(tmp_path / "thesis") == before
    assert server.asked == []
    place.rename(tmp_path / "away")
    assert contents(fetch()) == contents(source)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"digests": {"train": "0" * 64}}, "expected the splits training.*found train"),
        ({"address": "nonsense"}, "starts with https://, found 'nonsense'"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        download(tmp_path / "thesis", progress=False, **options)
    assert not (tmp_path / "thesis").exists()


RECORD = f"{TOP}/data/{SPLITS['test']}/4d_mixed_#99_3_8.tfrecords"


@pytest.mark.parametrize(
    "name, kind, message",
    [
        (f"../{SPLITS['test']}/4d_mixed_#99_3_8.tfrecords", tarfile.REGTYPE, "points outside"),
        (f"{TOP}/data/../../../outside.txt", tarfile.REGTYPE, "points outside"),
        (f"{TOP}\\..\\..\\outside.txt", tarfile.REGTYPE, "points outside"),
        ("/tmp/outside.txt", tarfile.REGTYPE, "points outside"),
        (RECORD, tarfile.SYMTYPE, "a link or a device"),
        (RECORD, tarfile.LNKTYPE, "a link or a device"),
        (RECORD, tarfile.CHRTYPE, "a link or a device"),
        (RECORD, tarfile.FIFOTYPE, "a link or a device"),
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


def test_links_elsewhere_are_left_out(server, fetch, source):
    link = tarfile.TarInfo(f"{TOP}/{SPLITS['test']}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    server.body = pack(source, link)
    assert contents(fetch()) == contents(source)


def test_not_found(server, fetch):
    server.statuses = [404]
    with pytest.raises(ConnectionError, match="HTTP 404") as caught:
        fetch()
    assert "WORKSHOP_DATA" in str(caught.value)


def test_no_network(server, digests, tmp_path, capsys, monkeypatch):
    server.close()
    with pytest.raises(ConnectionError, match="Check the network.*\n.*git clone"):
        download(tmp_path, address=server.address, digests=digests)
    options = {"address": server.address, "digests": digests, "progress": False}
    monkeypatch.setattr(records.download, "__kwdefaults__", options)
    assert records.main(["download", str(tmp_path)]) == 1
    assert "git clone" in capsys.readouterr().err


def test_a_full_disk(server, fetch, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(records.shutil, "copyfileobj", full_disk)
        with pytest.raises(OSError, match="the disk is full"):
            fetch()
    assert contents(fetch()) == contents(source)
    assert server.asked == [None]


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_two_calls_at_once(server, fetch, source, recwarn):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert contents(found[0]) == contents(source)
    assert server.asked == [None]
