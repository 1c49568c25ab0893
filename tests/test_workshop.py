"""The workshop's set-up."""

import pytest

from helpers import workshop


def test_profile_comes_from_the_argument_then_from_the_environment(monkeypatch):
    monkeypatch.setenv("WORKSHOP_MODE", "full")
    assert workshop.profile().name == "full"
    assert workshop.profile("quick").name == "quick"


def test_quick_is_the_default_without_a_gpu(monkeypatch):
    monkeypatch.delenv("WORKSHOP_MODE", raising=False)
    monkeypatch.setattr(workshop, "_gpus", list)
    assert workshop.profile().name == "quick"
    monkeypatch.setattr(workshop, "_gpus", lambda: ["NVIDIA T4"])
    assert workshop.profile().name == "full"


def test_an_unknown_mode_is_named(monkeypatch):
    monkeypatch.setenv("WORKSHOP_MODE", "fast")
    with pytest.raises(ValueError, match="'fast'; choose one of quick, full"):
        workshop.profile()


def test_the_sample_set_is_the_default_data(monkeypatch, sample_set):
    monkeypatch.setenv("WORKSHOP_DATA", "")
    assert workshop.data_folder() == sample_set
    assert workshop.split_folder("test") == sample_set / "02_4D_test_datasets"


def test_a_relative_folder_counts_from_the_top_of_the_course(monkeypatch, sample_set, tmp_path):
    monkeypatch.setenv("WORKSHOP_DATA", "data/sample")
    monkeypatch.chdir(tmp_path)
    assert workshop.data_folder() == sample_set


def test_a_folder_of_another_layout_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not hold 00_4D_training_datasets"):
        workshop.data_folder()
    with pytest.raises(ValueError, match="no split 'dev'"):
        workshop.split_folder("dev")


def test_machine_table_finds_the_right_helpers(monkeypatch):
    monkeypatch.chdir(workshop.REPOSITORY / "notebooks")
    assert workshop.machine_table().loc["helpers", "verdict"] == "ok"
    monkeypatch.chdir("/")
    assert "another copy" in workshop.machine_table().loc["helpers", "verdict"]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    assert workshop.cache_folder() == tmp_path.resolve()
    monkeypatch.setenv("WORKSHOP_CACHE", "runs/cache")
    monkeypatch.chdir(tmp_path)
    assert workshop.cache_folder() == workshop.REPOSITORY / "runs" / "cache"
    monkeypatch.delenv("WORKSHOP_CACHE")
    assert "forecasting-4d" in str(workshop.cache_folder())
    assert not workshop.cache_folder().is_relative_to(workshop.REPOSITORY)
    for place in ("~/.cache/forecasting-4d", "~"):
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: place)
        with pytest.raises(OSError, match="home folder is not known; set WORKSHOP_CACHE"):
            workshop.cache_folder()
    monkeypatch.setenv("WORKSHOP_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(OSError, match="home folder is not known; set WORKSHOP_CACHE"):
        workshop.cache_folder()
