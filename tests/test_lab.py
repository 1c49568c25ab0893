"""The course opens: working copies, and JupyterLab whatever the user's own settings say."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from helpers import _lab
from helpers.__main__ import main
from helpers.workshop import REPOSITORY

COPY = "05_train.ipynb"


def notebook(path: Path, source: str) -> None:
    cell = {"cell_type": "code", "execution_count": 3, "id": "a", "metadata": {}}
    cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "42"}]}
    path.parent.mkdir(exist_ok=True, parents=True)
    text = {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "Größe"}
    found = {"cells": [cell | {"source": source}, text], "metadata": {}, "nbformat": 4}
    path.write_text(json.dumps(found | {"nbformat_minor": 5}), encoding="utf-8")


class TestCopies:
    @pytest.fixture
    def course(self, tmp_path):
        """A folder of notebooks and its folder of working copies."""
        notebooks = tmp_path / "notebooks"
        notebook(notebooks / COPY, "1 + 1")
        notebook(notebooks / "solutions" / COPY, "2")
        return notebooks, tmp_path / "work"

    def test_are_made_without_outputs(self, course):
        assert _lab.prepare_copies(*course) == []
        for name in (COPY, f"solutions/{COPY}"):
            code, text = json.loads((course[1] / name).read_text("utf-8"))["cells"]
            assert code["outputs"] == [] and code["execution_count"] is None
            assert text["source"] == "Größe"
        assert json.loads((course[0] / COPY).read_text("utf-8"))["cells"][0]["outputs"]

    def test_follow_the_course_unless_they_were_changed(self, course):
        _lab.prepare_copies(*course)
        notebook(course[1] / COPY, "mine")
        mine = (course[1] / COPY).read_bytes()
        assert _lab.prepare_copies(*course) == []  # the course itself has not changed
        notebook(course[0] / COPY, "1 + 2")
        notebook(course[0] / "solutions" / COPY, "3")
        assert _lab.prepare_copies(*course) == [COPY]
        assert (course[1] / COPY).read_bytes() == mine
        assert '"3"' in (course[1] / "solutions" / COPY).read_text("utf-8")

    def test_are_made_again_where_they_are_gone(self, course):
        _lab.prepare_copies(*course)
        (course[1] / COPY).unlink()
        _lab.prepare_copies(*course)
        assert (course[1] / COPY).exists()

    def test_are_never_replaced_where_nobody_knows_what_they_were(self, course):
        _lab.prepare_copies(*course)
        notebook(course[0] / COPY, "1 + 2")
        before = (course[1] / COPY).read_bytes()
        (course[1] / _lab.MADE).write_text("[1]")
        _lab.prepare_copies(*course)
        assert (course[1] / COPY).read_bytes() == before

    def test_reset_keeps_the_old_one(self, course):
        _lab.prepare_copies(*course)
        notebook(course[1] / COPY, "mine")
        mine = (course[1] / COPY).read_bytes()
        copy, old = _lab.reset_copy("05", *course)
        assert copy == course[1] / COPY and b"mine" not in copy.read_bytes()
        assert old.read_bytes() == mine
        _, second = _lab.reset_copy("05", *course)
        assert old.exists() and second != old

    @pytest.mark.parametrize("number", ["", "7", "x", "*"])
    def test_reset_of_no_notebook_says_which_there_are(self, course, number):
        with pytest.raises(ValueError, match="names no notebook. Say which one: 05"):
            _lab.reset_copy(number, *course)


@pytest.mark.slow
def test_make_lab_opens_for_this_user_with_a_token_only(lab, hostile, tmp_path):
    """The recipe itself where this is the environment that make has made, else what it starts."""
    command = [*lab, "--no-browser", "--port=0"]
    if Path(sys.prefix) == REPOSITORY / ".venv":
        command = ["make", "lab", "ARGS=--no-browser --port=0"]
    log = tmp_path / "log"
    with log.open("w") as lines:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=hostile, stdout=lines, stderr=lines, start_new_session=True
        )
    try:
        found = None
        while not found:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
            found = re.search(
                rf"http://127\.0\.0\.1:\d+/lab/tree/{_lab.WORK}/{_lab.FIRST}\?token=(\w+)",
                log.read_text(),
            )
        page = b""
        while not page:  # JupyterLab says where it is before it listens there
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(found[0], timeout=60) as answer:
                    page = answer.read()
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionRefusedError), error
                time.sleep(0.2)
        assert b"jupyter-config-data" in page
        server = found[0].split("/lab")[0]
        with urllib.request.urlopen(found[0].split("?")[0], timeout=60) as answer:
            assert "/login" in answer.url
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{server}/api/kernelspecs", timeout=60)
        with urllib.request.urlopen(
            f"{server}/api/kernelspecs?token={found[1]}", timeout=60
        ) as all:
            kernels = json.load(all)["kernelspecs"]
        assert kernels["forecasting-4d"]["spec"]["display_name"] == "4D Forecasting"
        assert kernels["python3"]["spec"]["display_name"] != "mine"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_helpers_without_the_notebooks_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_lab, "REPOSITORY", tmp_path)
    assert main(["lab"]) == 1
    assert "helpers without the course. Fetch the whole course" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
