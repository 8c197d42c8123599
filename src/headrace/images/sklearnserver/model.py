"""Loading one scikit-learn model and asking it: blocking code that knows nothing of HTTP."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = (".joblib", ".pkl", ".pickle")
_NO_PICKLE = (pickle.UnpicklingError, EOFError, IndexError, KeyError, UnicodeDecodeError)
"""What reading a file of another kind usually ends in."""


class LoadFailed(Exception):
    """The model cannot be served; the message is one line that says why."""


def find(model_dir: Path) -> Path:
    """The one model file of a folder. Raises LoadFailed."""
    try:
        files = sorted(p for p in model_dir.iterdir() if p.suffix in EXTENSIONS and p.is_file())
        others = sorted(p.name for p in model_dir.iterdir())
    except OSError as error:
        raise LoadFailed(f"The model folder {model_dir} cannot be read: {error.strerror or error}.") from error
    if not files:
        there = f"it holds {', '.join(others[:5])}" if others else "it is empty"
        raise LoadFailed(f"No model file in {model_dir}: expected one that ends with {', '.join(EXTENSIONS)}; {there}.")
    if len(files) > 1:
        names = ", ".join(p.name for p in files)
        raise LoadFailed(f"More than one model file in {model_dir} ({names}): keep only the one to serve.")
    return files[0]


def load(model_dir: Path) -> Any:
    """The unpickled estimator of a folder. Raises LoadFailed."""
    path = find(model_dir)
    import joblib

    try:
        model = joblib.load(path)
    except ModuleNotFoundError as error:
        raise LoadFailed(
            f"Model file {path.name} does not load: it needs the Python module {error.name!r}, which this server lacks."
        ) from error
    except Exception as error:  # a pickle may raise anything
        words = " ".join(str(error).split()) or "no message"
        hint = " (is this a file that joblib or pickle wrote?)" if isinstance(error, _NO_PICKLE) else ""
        raise LoadFailed(f"Model file {path.name} does not load: {type(error).__name__}: {words}{hint}") from error
    if not callable(getattr(model, "predict", None)):
        raise LoadFailed(f"Model file {path.name} holds a {type(model).__name__}, which has no predict method.")
    return model


class Model:
    """A loaded model with a name. `predict` blocks; it is called by one thread at a time."""

    def __init__(self, name: str, estimator: Any, *, proba: bool | None = None) -> None:
        self.name, self.estimator = name, estimator
        if proba is None:
            proba = os.environ.get("PREDICT_PROBA", "false").lower() == "true"
        use_proba = proba and callable(getattr(estimator, "predict_proba", None))
        self.predict = estimator.predict_proba if use_proba else estimator.predict
