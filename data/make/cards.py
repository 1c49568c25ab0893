"""Write a card for each set of weights, from the JSON beside it: `python -m data.make.cards`."""

from __future__ import annotations

from pathlib import Path

from helpers.models.register import WEIGHTS
from helpers.models.weights import read_card

PAGE = WEIGHTS / "README.md"
HEAD = """\
# The weights

Each `.npz` holds the numbers of a network, and the JSON beside it says everything about how it was
trained; this page is made from them by `make results`. How to load them:
[data/README.md](../README.md); the commands that trained them: [data/make](../make/README.md). All
figures on the test records:
[results](../results/README.md).

**Licence.** The weights come under the [MIT licence](../../LICENSE), as the code. They were trained
on records that M. Goldgruber published with the thesis's code, under the MIT licence, too. Those
were pooled from 4D cubes made after K. M. Hannouch and S. Chalup (arXiv 2306.14442); under which
terms these stand is not known to us.

**Meant for** teaching, and for comparison on the same records. They learned from simulated cavities
on a grid of 16³ voxels. On other data they are a starting point at best: judge them beside
persistence.
"""


def card(path: Path) -> str:
    """Return the section on one set of weights."""
    told = read_card(path)
    facts = {
        "made": told["made"],
        "formats": ", ".join(told["formats"]),
        "data": told["data"].split(": ")[-1],
        "began with": told.get("began_with", {}).get("file", "nothing"),
        "steps": f"{told['steps']:,}" if "steps" in told else "",
        "seed": told.get("plan", {}).get("seed", ""),
        "minutes": f"{told['minutes']:g}; {told['minutes_in_all']:g} with all that came before",
        "computed in": told.get("policy", ""),
        "machine": ", ".join(told["machine"][part] for part in ("device", "processor")),
        "commit": told.get("commit", ""),
        "validation": ", ".join(
            f"{name} {value:g}" for name, value in told.get("validation", {}).items()
        ),
        "SHA-256": f"`{told['sha256'][:16]}…`",
    }
    lines = [f"## {path.name}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value != ""]
    for name in told["formats"]:
        for what, figures in told.get("test", {}).get(name, {}).items():
            if what in ("pooled, horizon 1", "rollout, horizon 5"):
                ours, null = figures["prediction"], figures["persistence"]
                low, high = ours["interval"]
                lines.append(
                    f"| test, {name}, {what} | {ours['mean']:.4f} [{low:.4f}, {high:.4f}], "
                    f"persistence {null['mean']:.4f}, {ours['n']:,} sequences |"
                )
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(f"{card(path)}\n" for path in sorted(WEIGHTS.glob("*.npz")))])


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
