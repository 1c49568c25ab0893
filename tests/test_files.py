"""Files are replaced whole or not at all, one process holds a lock, and JSON comes back."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from helpers import _files

ROOT = Path(__file__).parent.parent


# Replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with _files.replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    with pytest.raises(RuntimeError), _files.replacing(path) as file:
        file.write(b"half of tw")
        raise RuntimeError
    assert path.read_bytes() == b"one"
    with _files.replacing_by(path) as temporary:
        temporary.write_bytes(b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda number: (order.append("fsync"), fsync(number)))
    monkeypatch.setattr("os.replace", lambda *names: (order.append("replace"), replace(*names)))
    _files.write_json(tmp_path / "a.json", 1)
    assert order[:2] == ["fsync", "replace"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "set [1]"
    for content in ("one", "two"):
        with _files.replacing_folder(path) as temporary:
            (temporary / content).touch()
    with pytest.raises(KeyboardInterrupt), _files.replacing_folder(path) as temporary:
        (temporary / "three").touch()
        raise KeyboardInterrupt
    assert os.listdir(path) == ["two"]
    assert os.listdir(tmp_path) == ["set [1]"]


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "in use"), KeyboardInterrupt()])
def test_a_failed_exchange_of_folders_is_undone(tmp_path, monkeypatch, error):
    path, replace, failed = tmp_path / "set", os.replace, []
    with _files.replacing_folder(path) as temporary:
        (temporary / "one").touch()

    def failing(old, new):
        if Path(new) == path and not failed:
            failed.append(old)
            raise error
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", failing)
        with pytest.raises(type(error)), _files.replacing_folder(path):
            pass
    assert os.listdir(tmp_path) == ["set"] and os.listdir(path) == ["one"]


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.ENOSPC, "here: the disk is full.*free some space, or set THIS"),
        (errno.EROFS, "here: it cannot be written.*; set THIS"),
    ],
)
def test_refused_writing_says_what_to_do(number, message):
    with pytest.raises(OSError, match=message) as caught, _files.writing("here", "set THIS"):
        raise OSError(number, "why")
    assert caught.value.errno == number
    with pytest.raises(FileNotFoundError, match="^$"), _files.writing("here", "set THIS"):
        raise FileNotFoundError


def test_what_a_killed_process_left_is_cleared(tmp_path):
    _files._beside(tmp_path / "a.json").touch()
    for name in (".a.tmpl", "b.tmp"):
        (tmp_path / name).touch()
    _files.clear(tmp_path)
    assert set(os.listdir(tmp_path)) == {".a.tmpl", "b.tmp"}


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with _files.replacing_folder(tmp_path / "link") as temporary:
        (temporary / "new").touch()
    assert os.listdir(tmp_path / "real") == ["new"] and (tmp_path / "link").is_symlink()
    assert set(os.listdir(tmp_path)) == {"link", "real"}


# Locks


def test_one_thread_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        with _files.lock(tmp_path / "lock", ""):
            inside.append(0)
            most.append(len(inside))
            inside.pop()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "another process works here …"
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert most == [1] * 6


HOLDER = """
import sys, time
from helpers import _files
with _files.lock(sys.argv[1], ""):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert child.stdout.readline() == "held\n"
        refused = pytest.raises(_files.InUse, match="another process works.*or choose another")
        with refused, _files.lock(path, "choose another", wait=False):
            pass
        threading.Timer(0.5, child.kill).start()
        with pytest.warns(UserWarning, match="another process.*waiting"), _files.lock(path, ""):
            pass
    finally:
        child.kill()
        child.communicate()


# JSON and digests


@pytest.mark.parametrize("found", [{"a": [1, 2.5, None, "Müller"]}, "b\udcfcc"])
def test_json_comes_back(tmp_path, found):
    path = tmp_path / "a.json"
    _files.write_json(path, found)
    assert _files.read_json(path) == found
    assert path.read_bytes().endswith(b"\n")


def test_damaged_and_absent_json(tmp_path):
    with pytest.raises(FileNotFoundError):
        _files.read_json(tmp_path / "a.json")
    for content in (b"", b"{", b"\xff\x00"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError):
            _files.read_json(tmp_path / "a.json")
    with pytest.raises(TypeError):
        _files.write_json(tmp_path / "b.json", object())
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_seal_tells_what_was_changed():
    sealed = _files.sealed({"a": (1, 2.5), "b": None})
    assert _files.unsealed(sealed) == {"a": [1, 2.5], "b": None}
    for changed in ({**sealed, "a": [1, 2.6]}, {**sealed, "c": 1}, {"a": [1, 2.5]}, {}, [1], None):
        with pytest.raises(ValueError):
            _files.unsealed(changed)


def test_digests(tmp_path):
    content = b"some bytes" * 300_000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert _files.digest(content) == _files.digest(tmp_path / "file") == expected
