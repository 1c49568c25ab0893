"""The panel of the laboratory: what its buttons do, what it says, what it shows."""

import time

import ipywidgets
import pytest
from short_runs import TINY, stop_at, written

from helpers.panels import laboratory
from helpers.panels.laboratory import Laboratory
from helpers.panels.settings import MODELS, Settings

PNG = "data:image/png"


@pytest.fixture
def panel(tmp_path):
    return Laboratory(tmp_path / "runs")


def turn(panel, **changes):
    for name, value in changes.items():
        panel._controls[name].value = value


def does(panel, action):
    """Do something, wait until it has ended and the panel shows it; return the latest run."""
    action()
    panel._thread.join(300)
    assert not panel.session.running
    return panel.session.run


def test_start_stop_continue_add_a_seed_and_restart(panel, capfd):
    turn(panel, **TINY, learning_rate=0.005)

    def start_twice():
        panel.start()
        training = panel._thread
        while not panel.session.run:
            time.sleep(0.01)
        # A second start is refused, politely, and changes nothing.
        panel.start()
        panel._thread.join(300)
        assert "Run 1 is being trained. Stop it first" in panel._message.value
        training.join(300)

    stop_at(panel.session, 2, start_twice)
    assert panel.session.numbers() == [1] and panel.session.read(1).status == "stopped"
    assert "stopped" in panel._display.line.value
    panel.stop()
    assert "No run is being trained" in panel._message.value
    assert does(panel, panel.resume) == 1
    shown = panel._display
    assert "step 4 of 4 · done" in shown.line.value
    assert (shown.bar.value, shown.bar.max) == (4, 4)
    for image in (shown.picture, panel._shades, panel._errors, panel._comparison):
        assert PNG in image.value
    assert panel._chosen.value == (1,)
    assert "<td>done</td>" in panel._table.value
    before = panel._shades.value
    panel._sample.value = 2
    assert panel._shades.value != before
    does(panel, panel.resume)
    assert "all its steps" in panel._message.value
    assert does(panel, panel.another_seed) == 2
    assert panel.session.table()["seed"].tolist() == [1, 2]
    # Seeds stand beside each other, with their mean and spread.
    assert panel._chosen.value == (1, 2)
    assert "<th>spread</th>" in panel._comparison.value and "marks" in panel._comparison.value
    assert capfd.readouterr() == ("", "")
    # The same after a restart.
    again = Laboratory(panel.session.folder)
    assert again._table.value == panel._table.value
    assert [run for _, run in again._chosen.options] == [1, 2]


def test_an_error_leaves_the_laboratory_usable(panel, monkeypatch):
    turn(panel, **TINY)
    monkeypatch.setattr(Settings, "compiled", lambda *_: (_ for _ in ()).throw(MemoryError("<no>")))
    for _ in range(2):
        assert panel.session.read(does(panel, panel.start)).status == "failed"
        assert "MemoryError: &lt;no&gt;" in panel._message.value and "alert" in panel._message.value


def test_knobs_that_a_model_lacks(panel):
    for model, found in MODELS.items():
        turn(panel, model=model)
        off = {name for name, control in panel._controls.items() if control.disabled}
        assert off == set(found.lacks)
        assert ("has no" in panel._about.value) == bool(off)


def test_absurd_numbers(panel):
    turn(panel, batch_size=0)
    assert "batch_size is 0; expected 1 to 64" in panel._about.value
    assert panel._buttons["start"].disabled
    does(panel, panel.start)
    assert "batch_size is 0" in panel._message.value


def test_comparison(tmp_path):
    for number, change in enumerate(
        ({}, {"seed": 2}, {"history": 8}, {"model": "ConvLSTM"}, {"format": "T20_TINC1"}), 1
    ):
        written(tmp_path, number, Settings(**TINY | change))
    panel = Laboratory(tmp_path)
    panel.compare(1, 2, 3)
    seen = panel._comparison.value
    assert "over history from 1 to 8" in seen and "CNN 0.215 to 0.23" in seen
    assert all(f"<td>{value}</td>" in seen for value in ("0.215", "0.007071", "0.23"))
    panel._judged.value = "rollout"
    assert "Rollout: Jaccard distance over history" in panel._comparison.value
    for over in ("step", "seconds"):
        panel._over.value = over
        assert f"{over} from" in panel._comparison.value
    panel._over.value = laboratory.VALUES
    panel.compare(1, 4)
    assert PNG in panel._comparison.value
    does(panel, panel.resume)
    assert "2 runs are chosen; choose one" in panel._message.value
    panel.compare(1, 5)
    panel._judged.value = "best"
    assert PNG in panel._comparison.value
    assert panel._table.value.index("ConvLSTM") < panel._table.value.index("T20_TINC1")  # the best


def test_every_widget_has_a_label(panel):
    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    for each in walk(panel):
        if not isinstance(each, (ipywidgets.Box, ipywidgets.HTML)):
            assert each.tooltip and each.description, each
