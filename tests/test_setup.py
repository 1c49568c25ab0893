"""Dependencies agree and are pinned, versions agree, and the package can be installed elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
ELSEWHERE = """
import importlib.metadata
from helpers import models, published, workshop
print(workshop.REPOSITORY, importlib.metadata.version("forecasting-4d"))
for find in workshop.data_folder, lambda: models.load("cnn", None), published.thesis_figures:
    try:
        find()
    except FileNotFoundError as error:
        print(error)
"""


def declared() -> dict[str, Requirement]:
    requirements = map(Requirement, PROJECT["dependencies"])
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned() -> list[Requirement]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_line_is_pinned_and_names_no_address():
    for requirement in pinned():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert requirement.url is None


def test_each_declared_dependency_is_pinned_within_its_range_for_every_python():
    for python in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": python, "python_full_version": f"{python}.0"}
        chosen = {
            canonicalize_name(line.name): str(line.specifier).removeprefix("==")
            for line in pinned()
            if line.marker is None or line.marker.evaluate(environment)
        }
        for name, requirement in declared().items():
            assert name in chosen, f"{name} is not pinned for Python {python}"
            assert requirement.specifier.contains(chosen[name]), f"{name} {chosen[name]}"


def test_conda_installs_the_pinned_list_and_the_package():
    text = (REPOSITORY / "environment.yml").read_text()
    pip_lines = re.findall(r"^\s{6}- (.+)$", text, flags=re.MULTILINE)
    assert pip_lines == ["-r requirements.txt", "-e ."]
    python = re.search(r"- python=(\d+\.\d+)", text).group(1)
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)


def test_the_package_that_fetches_from_the_network_stays_out():
    assert "trame-vtklocal" not in {canonicalize_name(line.name) for line in pinned()}


def test_the_citation_and_the_changes_name_this_version_and_its_day():
    cited = (REPOSITORY / "CITATION.cff").read_text()
    version, day = re.search(r"^version: (.+)\ndate-released: (.+)$", cited, re.MULTILINE).groups()
    assert version == PROJECT["version"]
    assert f"\n\n## {version}, {day}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


@pytest.mark.slow  # clones the repository
@pytest.mark.skipif(
    sys.version_info < (3, 11) or not (REPOSITORY / ".git").exists(),
    reason="needs a clone of the course, and a Python as new as Colab's",
)
def test_the_cell_for_colab_fetches_a_commit_and_checks_versions(tmp_path):
    page = (REPOSITORY / "docs" / "install.md").read_text("utf-8")
    (cell,) = re.findall(r"```ipython\n(ADDRESS.*?)```", page, re.DOTALL)
    cell = cell.replace("https://…", str(REPOSITORY)).replace('"main"', '"HEAD"')
    told = "import helpers, numpy; print(helpers.__file__)\n"
    script = tmp_path / "colab.ipy"
    script.write_text(cell + told + "numpy.__version__ = '1.0'\n" + cell, "utf-8")
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", script]
    environment = {**os.environ, "HOME": str(tmp_path), "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line and "Note" not in line]
    assert said[0] == str(tmp_path / "forecasting-4d" / "helpers" / "__init__.py"), done
    assert said[1:] == ["numpy is 1.0. Restart the runtime, and run this cell again."], done


@pytest.mark.slow  # builds the package
def test_a_wheel_works_without_the_course_and_says_what_is_missing(tmp_path):
    source, site, elsewhere = (tmp_path / name for name in ("source", "site", "elsewhere"))
    elsewhere.mkdir()
    shutil.copytree(REPOSITORY / "helpers", source / "helpers")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    files = [path for path in source.glob("helpers/**/*") if path.suffix in (".py", ".json")]
    assert len(files) > 50
    assert [path for path in files if not (site / path.relative_to(source)).exists()] == []
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site), "WORKSHOP_DATA": ""},
        capture_output=True,
        text=True,
    )
    begin, *errors = done.stdout.splitlines()
    assert begin == f"{elsewhere} {PROJECT['version']}", done.stderr
    assert len(errors) == 3
    assert all("Fetch the whole course and run make lab in its folder" in error for error in errors)
