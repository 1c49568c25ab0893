"""One look for every figure: the class that figures come in, the palette, how a model is drawn."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import itertools
import threading
from collections.abc import Iterable, Iterator

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette, which readers with any common colour blindness can tell apart.
FILLED = "#009E73"
HIT, MISS, FALSE_ALARM = "#B3B3B3", "#D55E00", "#0072B2"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT = "#333333", "#BBBBBB"
# Series differ in more than colour.
LINES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X")

# Which colour, mark and line a name has in every figure; the thesis's models have those of kin.
PLACES = {
    "ConvLSTM": 0,
    "WGAN-GP": 1,
    "WGAN-GP, 3 frames": 1,
    "CNN": 2,
    "SurfaceNet": 3,
    "WGAN-GP, one frame": 4,
    "thesis: ConvLSTM3D": 0,
    "thesis: AEncGAN3D three-frame": 1,
    "thesis: AEncGAN3D single-frame": 4,
    "training": 0,
    "validation": 1,
}
SETTINGS = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
}
_DRAWING = threading.RLock()


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw with matplotlib's defaults and our settings, whatever the user's matplotlibrc says.

    One thread draws at a time, since matplotlib's settings belong to all of them.
    """
    with _DRAWING, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


class Picture(Figure):
    """A matplotlib figure that a notebook shows once, without pyplot, and that says what it shows.

    Args:
        about: what is drawn, in whole sentences.
        options: of `matplotlib.figure.Figure`, for example `figsize` and `layout`.
    """

    @style()
    def __init__(self, *, about: str = "", **options):
        super().__init__(**{"dpi": 100, **options})
        self.about = about

    savefig = style()(Figure.savefig)

    @property
    def alt(self) -> str:
        """What those read who cannot see it: what is drawn, and how each line begins and ends."""
        parts = [self.about, *map(_in_words, self.axes)]
        return " ".join(part[0].upper() + part[1:] for part in parts if part)

    def png(self) -> bytes:
        """Return the picture as a PNG file, for example for an `ipywidgets.Image`."""
        self.savefig(buffer := io.BytesIO(), format="png", dpi=100)
        # A palette makes a third of the size, and a notebook may hold twenty pictures.
        small = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(buffer := io.BytesIO(), format="png", optimize=True)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        return image_tag(self.png(), "png", self.alt)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        # Once pyplot is imported, IPython would show every figure as a PNG too, without the words.
        display({"text/html": self._repr_html_(), "text/plain": self.alt}, raw=True)


def image_tag(data: bytes, kind: str, alt: str) -> str:
    """Write an image as HTML: JupyterLab and the web pages of notebooks read no other words."""
    code = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{code}"/>'


def looks(names: Iterable[str]) -> dict[str, dict]:
    """Return how each name is drawn: models as in every figure, others in the next free way."""
    names = list(dict.fromkeys(names))
    ours = [name for name in names if not name.startswith(("persistence", "moving null"))]
    places: dict[str, int] = {}
    for name in ours:
        kin = name.startswith("thesis: ")
        if name in PLACES and (kin or PLACES[name] not in places.values()):
            places[name] = PLACES[name]
    free = (n for n in itertools.count() if n not in set(places.values()))
    for name in ours:
        if name not in places:
            places[name] = next(free)
    return {name: _look(name, places.get(name, 0)) for name in names}


def _look(name: str, place: int) -> dict:
    if name.startswith("persistence"):
        return {"color": "black", "ls": "-", "lw": 2.2, "marker": ""}
    if name.startswith("moving null"):
        return {"color": "#777777", "ls": ":", "lw": 2.2, "marker": "x", "ms": 4}
    colour, mark = SERIES[place % len(SERIES)], MARKS[place % len(MARKS)]
    if name.startswith("thesis: "):
        return {"color": colour, "ls": "--", "lw": 1, "marker": mark, "ms": 5, "mfc": "white"}
    return {"color": colour, "ls": LINES[place % len(LINES)], "lw": 1.8, "marker": mark, "ms": 4}


def legend(figure: Figure, title: str | None = None) -> None:
    """Put one legend for all panels above them."""
    found = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels()):
            found.setdefault(name, handle)
    if found:
        width = 0.35 + 0.07 * max(map(len, found))  # inches
        columns = max(1, min(len(found), int(figure.get_figwidth() / width)))
        place = {"loc": "outside upper center", "ncols": columns}
        figure.legend(found.values(), found.keys(), title=title, **place)


def _in_words(axes) -> str:
    """Say where the lines of a panel begin and end, and what it names as missing."""
    said = []
    for line in axes.lines:
        heights = np.asarray(line.get_ydata(), float)
        heights = heights[np.isfinite(heights)]
        if line.get_label().startswith("_") or not len(heights):
            continue
        ends = heights[[0, -1]]
        text = " to ".join(dict.fromkeys(map(short, ends)))
        # A name may hold its number already, for example that of persistence.
        said.append(line.get_label().removesuffix(f" {text}") + f" {text}")
        for word, most, at_end in (
            ("lowest", heights.min(), ends.min()),
            ("highest", heights.max(), ends.max()),
        ):
            if short(most) != short(at_end):
                said[-1] += f", {word} {short(most)}"
    if not said:
        return ""
    said += [text.get_text() for text in axes.texts if text.get_text().startswith("missing")]
    title = f"{axes.get_title()}: " if axes.get_title() else ""
    height = f"{axes.get_ylabel()} over " if axes.get_ylabel() else ""
    # In a grid of panels the lowest alone names the axis.
    across = axes.get_xlabel() or axes.figure.axes[-1].get_xlabel() or "x"
    start, end = axes.dataLim.intervalx
    return f"{title}{height}{across} from {short(start)} to {short(end)}: {'; '.join(said)}."


def short(number: float) -> str:
    """Write a number with three digits that count, or all before the point."""
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"
