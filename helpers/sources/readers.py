"""People's own files: NumPy arrays, TIFF stacks, NIfTI and VTK images, as sequences of frames."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}  # the units of time of NIfTI


@dataclass(frozen=True)
class Frames:
    """One sequence from a file that says which of its axes is time."""

    array: np.ndarray  # (T, D, H, W), voxels as long as they are wide and high
    words: tuple[str, ...] = ()  # what was done to it, for a report
    time_step: float | None = None  # seconds from frame to frame; None where the file says nothing


def find(path: str | Path, array: str | None = None) -> dict[str, Callable[[], object]]:
    """Find the sequences in a file or a folder: their names, and functions that read them.

    A file is a sequence if it is `.npy` (or several, if it has five axes), `.nii` or `.nii.gz`;
    an `.npz` holds one for each of its arrays. A folder of `.tif`, or of `.vti` or `.vtk` images,
    is one sequence, its frames in the order of the numbers in their names. Folders inside are
    searched, too; hidden files and others are left out.

    `array` is the one to take where an `.npz` or a VTK image holds several.

    Returns:
        name -> a function without arguments that returns an array (T, D, H, W) or `Frames`.

    Raises:
        FileNotFoundError: there is no such file or folder, or no sequence in it.
        ValueError: a file is damaged, or two sequences have the same name.
        ModuleNotFoundError: the library that reads such files is missing.
    """
    path, found, series = Path(path), {}, {}
    top = path if path.is_dir() else path.parent

    def add(name: str, read: Callable[[], object], file: Path) -> None:
        if name in found:
            raise ValueError(
                f"{path}: two sequences are called {name}, the second in {file.name}; rename one."
            )
        found[name] = read

    for file in sorted(path.rglob("*"), key=_natural) if path.is_dir() else [path]:
        place = file.relative_to(top)
        if not file.is_file() or any(part.startswith(".") for part in place.parts):
            continue
        kind = ".nii.gz" if file.name.lower().endswith(".nii.gz") else file.suffix.lower()
        if kind in SERIES:
            series.setdefault((file.parent, SERIES[kind]), []).append(file)
        elif kind in ALONE:
            inside = _read(file, functools.partial(_sequences, file, kind, array))
            for part, read in inside.items():
                read = functools.partial(_read, file, read)
                add(place.as_posix()[: -len(kind)] + part, read, file)
    for (folder, frame), files in series.items():
        name = folder.relative_to(top).as_posix() if folder != top else folder.resolve().name
        frame = functools.partial(frame, array=array)
        add(name, functools.partial(_stack, files, frame), folder)
    if not found:
        raise FileNotFoundError(
            f"{path}: expected {', '.join(ALONE)}, or folders of {', '.join(SERIES)} images; found "
            f"{'none of them' if path.exists() else 'no such file or folder'}."
        )
    return found


def _sequences(file: Path, kind: str, array: str | None) -> dict[str, Callable[[], object]]:
    """Return what is in one file: the end of each sequence's name, and what reads it."""
    if kind == ".npz":
        with np.load(file) as archive:
            names = archive.files if array is None else [array]
        return {f"-{name}": lambda name=name: np.load(file)[name] for name in names}
    if kind != ".npy":
        return {"": lambda: nifti(file)}
    shape = np.load(file, mmap_mode="r").shape  # only what is used is read
    if len(shape) != 5:
        return {"": lambda: np.load(file, mmap_mode="r")}
    return {f"-{n}": lambda n=n: np.load(file, mmap_mode="r")[n] for n in range(shape[0])}


def nifti(path: str | Path) -> Frames:
    """Read a 4D NIfTI file: its axes X, Y, Z, T become T, D, H, W."""
    image = library("nibabel", path).load(path)
    if len(image.shape) != 4:
        raise ValueError(
            f"it has shape {image.shape}; expected X, Y, Z and time. One volume makes no sequence: "
            "join the volumes of a sequence first, with nibabel.concat_images."
        )
    array = np.asanyarray(image.dataobj).T
    *sizes, step = (float(size) for size in image.header.get_zooms())
    step *= SECONDS.get(image.header.get_xyzt_units()[1], 1.0)
    said = f"time step {step:g} s" if step > 0 else "the header gives no time step"
    array, words = isotropic(array, sizes[::-1])
    return Frames(array, (said, words), step if step > 0 else None)


def tiff_frame(path: Path, array: None = None) -> tuple[np.ndarray, Sequence[float]]:
    """Read a 3D TIFF stack (D, H, W): its voxels, and their sizes, which such files seldom tell."""
    return library("tifffile", path).imread(path), (1.0, 1.0, 1.0)


def vtk_frame(path: Path, array: str | None = None) -> tuple[np.ndarray, Sequence[float]]:
    """Read a VTK image: its voxels (D, H, W), and their sizes along D, H, W."""
    import pyvista

    image = pyvista.read(path)
    if not isinstance(image, pyvista.ImageData):
        raise ValueError(f"it holds {type(image).__name__}; expected ImageData, a regular grid.")
    known = {**image.cell_data, **image.point_data}
    if array not in known and (array is not None or len(known) != 1):
        raise ValueError(
            f"it holds the arrays {', '.join(known) or '(none)'}, and one was to be read"
            f"{f', {array}' if array else ''}; name it: array=…, or --array on the command line."
        )
    name = next(iter(known)) if array is None else array
    width, height, depth = (size - (name not in image.point_data) for size in image.dimensions)
    values = np.asarray(known[name])
    if values.ndim != 1:
        raise ValueError(f"{name} has {values.shape[-1]} numbers in each voxel; expected one.")
    return values.reshape(depth, height, width), image.spacing[::-1]


def isotropic(frames: np.ndarray, sizes: Sequence[float]) -> tuple[np.ndarray, str]:
    """Repeat voxels along the axes on which they are longer, so that all edges become the same.

    No new value comes in: each voxel takes that of the nearest one.

    Args:
        frames: (T, D, H, W).
        sizes: of a voxel along D, H, W, above 0.
    """
    edge = min(sizes)
    if not edge > 0:  # NaN is not, either
        raise ValueError(f"its voxels have the sizes {tuple(sizes)}; expected numbers above 0.")
    said = f"voxels of {' × '.join(f'{size:g}' for size in sizes)}"
    if max(sizes) <= 1.01 * edge:
        return frames, said
    before = frames.shape[1:]
    for axis, size in enumerate(sizes, 1):
        count = frames.shape[axis]
        places = (np.arange(max(round(count * size / edge), 1)) + 0.5) * edge / size
        frames = np.take(frames, np.minimum(places.astype(int), count - 1), axis)
    return frames, f"{said}, taken as cubes of {edge:g}: {before} became {frames.shape[1:]}"


def _stack(files: list[Path], frame: Callable) -> Frames:
    """Read one frame after the other, and see that all have the same shape and voxels."""
    frames, known = [], set()
    for file in files:
        array, sizes = _read(file, functools.partial(frame, file))
        if array.ndim != 3:
            raise ValueError(
                f"{file}: it has shape {array.shape}; expected a frame (D, H, W), each in a "
                "file of its own. Save what holds all time points as .npy."
            )
        known.add((array.shape, tuple(sizes)))
        if len(known) > 1:
            raise ValueError(f"{file}: its shape and voxels differ from those before it: {known}.")
        frames.append(array)
    array, words = isotropic(np.stack(frames), sizes)
    return Frames(array, (f"{len(files)} files, {files[0].name} … {files[-1].name}", words))


def _read(file: Path, read: Callable[[], object]):
    """Call a function that reads a file; its errors name the file."""
    try:
        return read()
    except (ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own
        said = str(error)
        known = said.startswith(f"{file}: ")
        raise ValueError(said if known else f"{file}: it cannot be read: {said}") from error


def library(name: str, needs: str | Path) -> ModuleType:
    """Import one of the optional libraries, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{needs} needs {name}, which the group own of pyproject.toml holds. Install it: "
            'python -m pip install -e ".[own]" in the top folder of the course.'
        ) from error


def _natural(path: Path) -> list:
    """Order names by the numbers in them: frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


ALONE = (".npy", ".npz", ".nii", ".nii.gz")
SERIES = {".tif": tiff_frame, ".tiff": tiff_frame, ".vti": vtk_frame, ".vtk": vtk_frame}
