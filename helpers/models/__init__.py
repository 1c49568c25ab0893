"""The networks beyond notebook 04's, what they share, and shipped weights loaded by name."""


def __getattr__(name: str):
    # What is loaded by name stands above all networks, and these import this package.
    if name not in ("load", "training_logs", "VARIANTS", "WEIGHTS"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from helpers.models import register

    return getattr(register, name)
