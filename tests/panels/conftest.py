"""What the tests of the laboratory and the explorer share: few sequences, and runs of few steps."""

import dataclasses

import pytest

from helpers import workshop
from helpers.panels import settings
from helpers.panels.runs import Session


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    """Train on twelve sequences, judge on four, after each step of a run of four."""
    profile = dataclasses.replace(workshop.profile(), sequences=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(workshop, "profile", lambda: profile)
        patch.setattr(settings, "ROUND", (1, 100))
        yield


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path / "runs")
