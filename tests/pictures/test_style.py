"""One look for all figures, the words that they carry, and what they refuse."""

import html
import inspect
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from figures import line
from matplotlib.colors import to_rgb
from nbclient import NotebookClient

from helpers import evaluation, pictures
from helpers.pictures import frames, style
from helpers.world import cavities

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "data" / "results"


def curves(groups):
    return pictures.curves(groups, [1, 2], xlabel="x", ylabel="y", marks=True)


FRAME, FRAMES = np.zeros((4, 4, 4)), np.zeros((3, 4, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures.slices(FRAMES[..., None]), "expected 3 or 4 axes"),
        (lambda: pictures.slices(FRAMES + 2), "expected 0…1"),
        (lambda: pictures.slices(FRAMES, FRAMES[:2]), "3 frames of .* and 2 frames of"),
        (lambda: pictures.slices(FRAMES, index=4), "slice across D is 4; expected 0 to 3"),
        (lambda: pictures.slices(FRAMES, times=[1]), "1 times or captions for 3 frames"),
        (lambda: pictures.slices(FRAMES, count=0), "at least 1"),
        (lambda: pictures.slices([]), "there is no frame"),
        (lambda: pictures.view_3d([FRAME, FRAME * np.nan]), r"frames\[1\] holds NaN"),
        (lambda: pictures.view_3d(FRAME, backend="webgl"), "WORKSHOP_3D, is 'webgl'"),
        (lambda: pictures.view_3d(FRAME, view=(0, 90)), "tilt is 90"),
        (lambda: curves({"m": [0.1, np.nan]}), "1 values that are NaN"),
        (lambda: pictures.differences({"m": [[0.1]]}, [1], ylabel="y"), "two or more samples"),
        (lambda: pictures.learning_curves({"step": [1], "x": [1]}), "found .'step', 'x'"),
        (lambda: pictures.learning_curves({"step": [1], "loss": [1, 2]}), "first dimension"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_figure_says_what_it_shows(sequence, results):
    slow, fast = sequence[8:12], sequence[10:14]
    log = {"step": [1, 2], "loss": [0.9, 0.5], "val_loss": [0.9, 0.6]}
    groups = pd.DataFrame({"size": ["small"] * 5 + ["large"] * 5}, index=range(10))
    options = {"history": 2, "horizon": 2, "shape": True, "frame_format": "T20_TINC1"}
    shapes = evaluation.long_term(lambda h: 0.9 * h[:, -1], sequence[None, 8:], name="a", **options)
    ball = cavities.render(
        [cavities.Solid(cavities.BALL, (64, 64, 64, 64), np.eye(4), 17.3)]
    ).frames
    drawn = {
        "slices": pictures.slices(sequence, sequence[::-1], count=3),
        "moving_slice": pictures.moving_slice(),
        "compare_slices": pictures.compare_slices(slow, fast),
        "film_strip": pictures.film_strip(slow, {"a": fast}, times=range(4)),
        "curves": curves({"a": [0.0, 1.0]}),
        "differences": pictures.differences({"a": [[0.1], [0.2]]}, [1], ylabel="y"),
        "learning_curves": pictures.learning_curves(log, distance="val_loss", persistence=0.45),
        "loss_curves": pictures.loss_curves({"a": log}),
        "seeds": pictures.seeds({"CNN": ([1, 8], [0.3, 0.2])}, xlabel="history", ylabel="best"),
        "stack": pictures.stack([("frame", "(16, 16, 16, 1)"), ("patches", "(8, 8, 8, 8)")]),
        "result_distributions": pictures.result_distributions(results),
        "long_term_curves": pictures.long_term_curves(results),
        "shape_curves": pictures.shape_curves(shapes, format="T20_TINC1"),
        "comparison": pictures.comparison(results),
        "breakdown": pictures.breakdown(evaluation.breakdown(results, groups), format="T20_TINC1"),
        "floor_curves": pictures.floor_curves(pd.read_csv(RESULTS / "floor.csv")),
        "posteriors": pictures.posteriors(ball[50:54], 1, seen=(1, 3), truth=(14, 17.3)),
        "view_3d": pictures.view_3d(slow[0], backend="matplotlib"),
        "compare_3d": pictures.compare_3d(slow[:1], fast[:1], backend="matplotlib"),
        "animate_3d": pictures.animate_3d(slow[:2]),
    }
    figures = [name for name, it in vars(pictures).items() if inspect.isfunction(it)]
    assert set(drawn) == set(figures) - {"surface_mesh"}
    for name, figure in drawn.items():
        assert len(figure.alt) > 20 and re.search(r"\d", figure.alt), name
    for name in ("curves", "animate_3d"):  # which are shown in ways of their own
        assert f'alt="{html.escape(drawn[name].alt)}"' in drawn[name]._repr_html_(), name
    # The words have the numbers of the figure.
    assert "validation 0.9 to 0.6" in drawn["learning_curves"].alt
    assert "persistence 0.45." in drawn["learning_curves"].alt  # once
    assert "missing: GAN" in drawn["long_term_curves"].alt
    assert "GAN missing" in drawn["comparison"].alt
    counts = re.search(r"t = 0: (\d+) hit · (\d+) miss", drawn["compare_3d"].alt)
    assert min(map(int, counts.groups())) > 0


def test_words_are_escaped():
    figure = curves({'<b> & "c"': [1, 2]})
    assert "&lt;b&gt; &amp; &quot;c&quot;" in figure._repr_html_()
    assert "<b>" not in figure._repr_html_()


def test_a_learner_s_figure_is_put_into_words():
    figure = pictures.Picture(about="A test.")
    axes = figure.add_subplot(xlabel="time", ylabel="radius")
    axes.plot([1, 2, 3], [0.5, 4, 1500], label="ball")
    axes.plot([1, 2, 3], [1, 1, 1])  # without a name
    assert figure.alt == "A test. Radius over time from 1 to 3: ball 0.5 to 1500."


def test_a_notebook_holds_one_picture_with_words(tmp_path):
    source = (
        "import matplotlib.pyplot as plt\n"
        "plt.close(plt.figure())\n"  # from now on IPython makes PNGs of all figures
        "from helpers import pictures\n"
        "pictures.curves({'a': [1, 3]}, [1, 2], xlabel='x', ylabel='Jaccard distance')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, resources={"metadata": {"path": str(REPOSITORY)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    (output,) = notebook.cells[0].outputs
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert re.fullmatch(
        r'<img alt="Jaccard .*: a 1 to 3." src="data:image/png;.*"/>', output["data"]["text/html"]
    )


HOSTILE = """
image.origin: lower
image.interpolation: bilinear
font.size: 23
lines.linewidth: 9
axes.facecolor: black
axes.grid: True
axes.spines.left: False
axes3d.grid: False
figure.facecolor: yellow
figure.dpi: 33
figure.subplot.left: 0.4
savefig.dpi: 40
savefig.bbox: tight
xtick.top: True
hatch.color: red
path.sketch: 3, 100, 2
"""
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from helpers import pictures
from helpers.pictures import process
frame = np.zeros((8, 8, 8)); frame[1:4, 2:6, 3:8] = 1
class Painter:
    def draw(self, scene, backend):
        return np.linspace(0, 255, 200 * 200 * 3).reshape(200, 200, 3).astype(np.uint8)
process.worker = Painter
figures = [
    pictures.slices(frame[None].repeat(3, 0)),
    pictures.compare_slices(frame, frame[::-1]),
    pictures.curves({"a": [1, 2], "b": [3, 1]}, [1, 2], xlabel="x", ylabel="y", marks=True),
    pictures.learning_curves({"step": [1, 2], "loss": [2, 1], "val_jaccard_pooled": [1, 0.5]}),
    pictures.view_3d(frame, backend="matplotlib"),
    pictures.view_3d(frame, size=200),
]
for n, figure in enumerate(figures):
    Path(sys.argv[1], f"{n}.png").write_bytes(figure.png())
    figure.savefig(Path(sys.argv[1], f"{n}-saved.png"))
"""


@pytest.mark.slow  # starts two processes
def test_the_user_s_settings_of_matplotlib_change_nothing(tmp_path):
    rc = tmp_path / "matplotlibrc"
    found = {}
    for name, settings in (("plain", ""), ("hostile", HOSTILE)):
        rc.write_text(settings)
        folder = tmp_path / name
        folder.mkdir()
        environment = {**os.environ, "MATPLOTLIBRC": str(rc)}
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=300)
        found[name] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(found["plain"]) == 12
    assert [n for n, data in found["plain"].items() if data != found["hostile"][n]] == []


def test_the_user_s_settings_are_kept():
    import matplotlib

    with matplotlib.rc_context({"image.origin": "lower", "font.size": 17}):
        curves({"a": [1, 3]}).png()
        assert matplotlib.rcParams["image.origin"] == "lower"
        assert matplotlib.rcParams["font.size"] == 17


def test_a_model_looks_alike_in_every_figure(results):
    names = {"ours": "SurfaceNet", "GAN": "WGAN-GP, 3 frames"}
    table = results.replace({"model": names})

    def look(axes, name="SurfaceNet"):
        found = line(axes, name)
        return found.get_color(), found.get_marker(), found.get_linestyle()

    first = pictures.long_term_curves(table).axes[0]
    horizon = curves({"x": [0.3, 0.4], "SurfaceNet": [0.1, 0.2]}).axes[0]
    log = {"step": [1, 2], "loss": [0.5, 0.4]}
    losses = pictures.loss_curves({"SurfaceNet": log}, columns=["loss"]).axes[0]
    assert look(first) == look(horizon) == look(losses) != look(horizon, "x")
    dots = pictures.comparison(table).axes[0].lines
    assert look(first)[:2] in [(dot.get_color(), dot.get_marker()) for dot in dots]


def test_names_without_a_place_get_a_free_one():
    looks = style.looks(["a", "ConvLSTM", "b", "persistence", *"cdefgh"])
    styles = [(look["color"], look["marker"], look["ls"]) for look in looks.values()]
    assert len(set(styles)) == len(styles)
    assert looks["ConvLSTM"] == style.looks(["ConvLSTM"])["ConvLSTM"]
    assert looks["ConvLSTM"]["color"] not in {looks[name]["color"] for name in "abcd"}
    assert style.looks(["persistence (validation)"]).popitem()[1] == looks["persistence"]


# What is seen of linear RGB: Machado, Oliveira and Fernandes, 2009, severity 1.
BLIND = {
    "protanopia": "0.1523 1.0526 -0.2049 0.1145 0.7863 0.0992 -0.0039 -0.0481 1.0520",
    "deuteranopia": "0.3673 0.8606 -0.2280 0.2801 0.6725 0.0474 -0.0118 0.0429 0.9689",
    "tritanopia": "1.2555 -0.0767 -0.1788 -0.0784 0.9308 0.1476 0.0047 0.6914 0.3039",
}
XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]])


def lab(colour, seen: np.ndarray) -> np.ndarray:
    """Return a colour of sRGB, as it is seen, in CIE 1976 L*a*b* under D65."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = XYZ @ np.clip(seen @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLIND)
def test_the_colour_blind_tell_the_colours_of_a_figure_apart(kind):
    seen = np.array(BLIND[kind].split(), float).reshape(3, 3)
    places = [str(n) for n in range(len(style.SERIES))]
    looks = style.looks([*places, "persistence", "moving null"])
    for colours in (
        [look["color"] for look in looks.values()],  # which differ in marks and lines as well
        [*frames.CODES.colors, style.MISS],
        ["white", style.FILLED, style.MISS],
    ):
        for one, two in itertools.combinations(colours, 2):
            # A difference of 2.3 can just be seen side by side.
            assert np.linalg.norm(lab(one, seen) - lab(two, seen)) > 10, (one, two)
