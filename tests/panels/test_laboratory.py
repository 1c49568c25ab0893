"""The panel of the laboratory: what its buttons do, what it says, what it shows."""

import time

import ipywidgets
import pytest
from short_runs import TINY, stop_at, written

from helpers.panels import laboratory
from helpers.panels.laboratory import Laboratory
from helpers.panels.runs import FORECAST, Session
from helpers.panels.settings import MODELS, Settings

PNG = "data:image/png"


@pytest.fixture
def panel(session):
    return Laboratory(session=session)


def ended(panel, run):
    """Wait until a run has ended and the panel shows it."""
    panel._follower.join(300)
    assert not panel._follower.is_alive()
    return run


def wait_for(condition):
    """Wait until something is true that another thread does."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_run(panel, splits):
    panel.set(**TINY, learning_rate=0.005)
    assert ended(panel, panel.start()) == 1
    assert "done" in panel._status.value and "step 4 of 4" in panel._status.value
    assert (panel._bar.value, panel._bar.max) == (4, 4)
    for image in (panel._curves, panel._shades, panel._errors, panel._comparison):
        assert PNG in image.value
    assert panel._chosen.value == (1,)
    assert "<td>done</td>" in panel._table.value
    before = panel._shades.value
    panel._sample.value = 2
    assert panel._shades.value != before
    # A picture that cannot be read is left out.
    (panel.session.runs.place(1) / FORECAST).write_bytes(b"nothing")
    panel._sample.value = 1
    assert panel._shades.value == ""
    # The same after a restart.
    again = Laboratory(session=Session(panel.session.runs.folder, **splits))
    assert again._table.value == panel._table.value
    assert [run for _, run in again._chosen.options] == [1]
    again.copy(1)
    assert again.settings == Settings(**TINY, learning_rate=0.005)


def test_in_the_background(session, capfd):
    panel = Laboratory(session=session)
    panel.set(**{**TINY, "steps": 2000})
    assert panel.start() == 1
    wait_for(lambda: session.step > 2)
    # A second start is refused, politely, and changes nothing.
    assert panel.start() is None
    assert "Run 1 is being trained. Stop it first" in panel._message.value
    assert session.runs.numbers() == [1]
    panel.stop()
    ended(panel, 1)
    assert "stopped" in panel._status.value
    assert session.runs.read(1)["status"] == "stopped"
    assert capfd.readouterr() == ("", "")


def test_continue(panel):
    panel.set(**TINY)
    stop_at(panel.session, 2, lambda: ended(panel, panel.start()))
    assert "stopped" in panel._status.value
    assert ended(panel, panel.resume()) == 1
    assert panel.session.runs.read(1)["step"] == 4
    # What is done is followed by a new run that begins with its weights.
    assert ended(panel, panel.resume()) == 2
    panel._chosen.value = (1, 2)
    assert panel.resume() is None
    assert "2 runs are chosen; choose one" in panel._message.value


def test_an_error_leaves_the_laboratory_usable(panel, monkeypatch):
    panel.set(**TINY)
    with monkeypatch.context() as patch:
        patch.setattr(Settings, "compiled", lambda *_: (_ for _ in ()).throw(MemoryError("<no>")))
        assert panel.session.runs.read(ended(panel, panel.start()))["status"] == "failed"
    assert "MemoryError: &lt;no&gt;" in panel._message.value and "alert" in panel._message.value
    with monkeypatch.context() as patch:
        patch.setattr(laboratory.pictures, "learning_curves", lambda *_, **__: 1 / 0)
        assert panel.session.runs.read(ended(panel, panel.start()))["status"] == "done"


def test_knobs_that_a_model_lacks(panel):
    for model, found in MODELS.items():
        panel.set(model=model)
        off = {name for name, control in panel._controls.items() if control.disabled}
        assert off == set(found.lacks)
        assert ("has no" in panel._about.value) == bool(off)


def test_little_free_memory_is_told(panel, monkeypatch):
    assert "of memory are free" not in panel._about.value
    monkeypatch.setattr(laboratory.workshop, "memory", lambda: (3 * 2**30, 2**29))
    panel.set(width=16)
    assert "Only 0.5 GB of memory are free" in panel._about.value


def test_absurd_numbers(panel):
    panel.set(batch_size=0)
    assert "batch_size is 0; expected 1 to 64" in panel._about.value
    assert panel._buttons["start"].disabled
    assert panel.start() is None and not panel.session.running
    assert "batch_size is 0" in panel._message.value
    panel.set(batch_size=8)
    assert not panel._buttons["start"].disabled
    for change, words in (
        ({"wdith": 8}, "no setting 'wdith'"),
        ({"kernel": 4}, "kernel cannot be 4"),
        ({"history": 99}, "history cannot be 99"),
    ):
        with pytest.raises(ValueError, match=words):
            panel.set(**change)


def test_comparison_and_sorting(session):
    written(session.runs), written(session.runs, Settings(format="T20_TINC1"))
    panel = Laboratory(session=session)
    panel.compare(1, 2)
    assert "its own" in panel._message.value
    before = panel._comparison.value
    panel._over.value = "seconds"
    assert PNG in panel._comparison.value and panel._comparison.value != before
    panel._sort.value, panel._descending.value = "run", True
    rows = panel._table.value.split("<tbody>")[1]
    assert rows.index("T20_TINC1") < rows.index("T80_TINC4")


def test_every_widget_has_a_label(panel):
    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    for each in walk(panel):
        if not isinstance(each, (ipywidgets.Box, ipywidgets.HTML)):
            assert each.tooltip and each.description, each
