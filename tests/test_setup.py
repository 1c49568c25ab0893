"""The lists of dependencies agree, and every requirement of the issue's packages is pinned."""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, project["dependencies"])
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
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python)


def test_the_package_that_fetches_from_the_network_stays_out():
    assert "trame-vtklocal" not in {canonicalize_name(line.name) for line in pinned()}
