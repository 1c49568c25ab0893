"""What the tests of the laboratory and the explorer share: small splits, and runs of four steps."""

import pytest

from helpers import records, workshop
from helpers.panels import settings
from helpers.panels.runs import Session


@pytest.fixture(scope="session")
def splits(tmp_path_factory):
    """Two small splits, packed once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = workshop.REPOSITORY / "data" / "sample"
        yield {
            "training_split": records.open_split(data, "training", 12),
            "validation_split": records.open_split(data, "validation", 5),
        }


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch):
    """Validate after each step, so that runs of four steps have something to show."""
    monkeypatch.setattr(settings, "ROUND", (1, 100))


@pytest.fixture
def session(tmp_path, splits):
    return Session(tmp_path / "runs", **splits)
