"""The networks beyond notebook 04's, what they share, and shipped weights loaded by name."""

_BY_NAME = ["load", "read_card", "training_logs", "WEIGHTS"]


def __getattr__(name: str):
    # What loads any network by name stands above them all, and they import this package.
    if name not in _BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from helpers.models import register

    return getattr(register, name)


def __dir__() -> list[str]:
    return [*globals(), *_BY_NAME]
