"""Working copies of the notebooks, and the JupyterLab that opens them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from helpers import _files
from helpers.workshop import HERE, REPOSITORY, shipped

WORK, FIRST = "work", "00_start_here.ipynb"  # the folder of working copies; what is opened
OWN = HERE / "jupyter"  # the course's kernel and its settings of JupyterLab
MADE = ".copies.json"  # name of a working copy -> digest of the file as it was made


def prepare_copies(notebooks: Path, work: Path) -> list[str]:
    """Copy the notebooks that have no working copy yet, without their outputs.

    A copy that is still as it was made follows its notebook when the course is updated. One in
    which somebody has typed or run something is left alone.

    Returns:
        The names of copies that were left alone though their notebooks have changed since.
    """
    try:
        made = dict(_files.read_json(work / MADE))
    except (FileNotFoundError, ValueError, TypeError):
        made = {}
    behind = []
    (work / "solutions").mkdir(parents=True, exist_ok=True)
    for source in sorted([*notebooks.glob("*.ipynb"), *notebooks.glob("solutions/*.ipynb")]):
        name = source.relative_to(notebooks).as_posix()
        copy, fresh = work / name, _cleared(source)
        known = made.get(name)
        now = _files.digest(fresh)
        if not copy.exists() or _files.digest(copy) == known != now:
            with _files.replacing(copy) as file:
                file.write(fresh)
            made[name] = now
        elif known not in (None, now):
            behind.append(name)
    _files.write_json(work / MADE, made)
    return behind


def reset_copy(number: str, notebooks: Path, work: Path) -> tuple[Path, Path | None]:
    """Set one working copy aside and make a fresh one.

    Args:
        number: how the notebook's name begins, for example `05`.

    Returns:
        The fresh copy, and the new name of the old one, if there was one.
    """
    course = sorted(path.name for path in notebooks.glob("*.ipynb"))
    names = [name for name in course if number and name.startswith(number)]
    if len(names) != 1:
        numbers = ", ".join(name[:2] for name in course)
        raise ValueError(f"NB={number} names no notebook. Say which one: {numbers}.")
    copy, old = work / names[0], None
    if copy.exists():
        stem, count = copy.stem, 1
        while (old := copy.with_name(f"{stem}.old{count}.ipynb")).exists():
            count += 1
        copy.rename(old)
    prepare_copies(notebooks, work)
    return copy, old


def lab(arguments: list[str]) -> int:
    """Open JupyterLab at the first notebook, whatever the user's own Jupyter settings say.

    `arguments` are for JupyterLab, such as `--no-browser`.
    """
    shipped(REPOSITORY / "notebooks" / FIRST)
    folder = WORK
    if os.environ.get("WORKSHOP_COPIES", "1").lower() in ("0", "no", "false"):
        folder = "notebooks"
    else:
        with _files.writing(REPOSITORY / WORK, "set WORKSHOP_COPIES=0 to do without the copies"):
            behind = prepare_copies(REPOSITORY / "notebooks", REPOSITORY / WORK)
        for name in behind:
            print(f"{WORK}/{name} is yours and stays; notebooks/{name} has changed since.")
        if behind:
            print(f"For a fresh copy beside yours: make reset NB={behind[0][:2]}")
    _use_own_settings()
    from jupyterlab.labapp import main

    # A container's only user is often root, and JupyterLab asks to be told that this is meant.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    first = f"--LabApp.default_url=/lab/tree/{folder}/{FIRST}"
    # Nobody is asked about news or updates, and nothing is fetched.
    quiet = f"--LabApp.app_settings_dir={OWN / 'settings'}"
    ours = [f"--ServerApp.root_dir={REPOSITORY}", first, quiet, *root]
    told = {option.partition("=")[0] for option in arguments}  # an option given twice is refused
    return main([o for o in ours if o.partition("=")[0] not in told] + arguments)


def _use_own_settings() -> None:
    """Keep the user's servers, kernels and start-up scripts out; colours and keys stay theirs."""
    from jupyter_core import paths

    kept = REPOSITORY / WORK / ".jupyter"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        kept = Path(tempfile.mkdtemp())
    if not os.access(os.path.expanduser("~"), os.W_OK):  # also where nobody has a home
        print(f"Your home folder cannot be written, so {kept} takes its place.")
        os.environ["HOME"] = str(kept)
    look = Path(paths.jupyter_config_dir()) / "lab" / "user-settings"
    os.environ.setdefault("JUPYTERLAB_SETTINGS_DIR", str(look))
    os.environ["JUPYTERLAB_WORKSPACES_DIR"] = str(kept / "workspaces")
    # What the installed packages need is in the environment's own folder.
    os.environ["JUPYTER_CONFIG_DIR"] = os.path.join(sys.prefix, "etc", "jupyter")
    os.environ.pop("JUPYTER_CONFIG_PATH", None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["JUPYTER_PATH"] = str(OWN)  # the course's kernel
    os.environ["IPYTHONDIR"] = str(kept / "ipython")
    (kept / "ipython").mkdir(exist_ok=True)


def _cleared(notebook: Path) -> bytes:
    """Return a notebook without outputs, as the bytes of a file."""
    found = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode()
