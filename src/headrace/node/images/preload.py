"""What a warm interpreter imports before it forks a step: the slow imports of the packages that it holds.

Only imports that start no thread and open no socket, file or database belong here; the runtime's canary
catches those that change their mind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KFP_RUNTIME = "_KFP_RUNTIME"
"""With `true` in it, `import kfp` leaves out the compiler and the client, which a step never uses."""

_MODULES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "scipy": ("scipy", "scipy.sparse", "scipy.optimize", "scipy.stats"),
    "pandas": ("pandas",),
    "joblib": ("joblib",),
    "scikit-learn": (
        "sklearn",
        "sklearn.datasets",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.metrics",
        "sklearn.model_selection",
        "sklearn.neighbors",
        "sklearn.pipeline",
        "sklearn.preprocessing",
        "sklearn.svm",
        "sklearn.tree",
    ),
    "torch": ("torch",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "matplotlib": ("matplotlib",),
    # The launcher of steps imports the rest, whatever the step does; its own modules are told by their package.
    "kfp": (
        "kfp.dsl.executor_main",
        "runpy",
        "shutil",  # argparse asks for it, and it brings the compression libraries
        "traceback",
        "resource",
        "encodings.idna",  # of every name that is looked up
        "headrace.s3client",
        "headrace.kfp_launcher.launch",
        "headrace.kfp_launcher.__main__",
        "headrace.kfp_launcher.rehearsal",
    ),
}


def modules(packages: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Modules to import, in the table's order, for distributions by normalised name and a container's variables."""
    held = set(packages)
    if variables.get(KFP_RUNTIME) != "true":
        held.discard("kfp")
    return tuple(module for name, found in _MODULES.items() if name in held for module in found)
