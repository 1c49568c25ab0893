"""Seconds from `make lab` to a served page on a fresh clone: by uv, by pip, and once more."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from helpers._lab import FIRST, WORK
from helpers.workshop import REPOSITORY

LIMIT = 1800  # seconds until we give up
PAGE = f"lab/tree/{WORK}/{FIRST}"


def measure() -> Iterator[tuple[str, float]]:
    """Yield (which start, seconds). A clone has what is committed; the two take about 9 GB.

    Both download everything: neither uv nor pip sees a cache of earlier installations.

    Raises:
        RuntimeError: no page came; the end of the server's log is in the message.
    """
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        for tool, options in (("uv", []), ("pip", ["UV="])):
            clone = Path(place) / tool
            subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
            yield f"first start, {tool}", _start(clone, log, options)
        yield "second start", _start(clone, log, ["UV="])


def _start(clone: Path, log: Path, options: list[str]) -> float:
    """Start the laboratory, wait for its page, stop it; return the seconds until the page."""
    port, token = _free_port(), secrets.token_hex(16)
    arguments = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    arguments.append(f"--IdentityProvider.token={token}")
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    # A newcomer has downloaded nothing before.
    environment |= {"UV_CACHE_DIR": str(clone.parent / "cache"), "PIP_NO_CACHE_DIR": "1"}
    command = ["make", "lab", *options, f"ARGS={' '.join(arguments)}"]
    begin = time.perf_counter()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not _served(f"http://127.0.0.1:{port}/{PAGE}?token={token}"):
            if process.poll() is not None or time.perf_counter() - begin > LIMIT:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
                raise RuntimeError(f"No page from make lab after {LIMIT} s or its end:\n{end}")
            time.sleep(0.1)
        return time.perf_counter() - begin
    finally:
        _stop(process)


def _served(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status == 200 and b"jupyter-config-data" in answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(process: subprocess.Popen) -> None:
    """End make and all that it started: they share a group of their own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
