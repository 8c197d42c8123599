"""The digits recognizer as a Kubeflow pipeline.

Handwritten digits (1,797 images of 8x8 pixels, shipped with scikit-learn) are checked and split, several kinds
of model are trained side by side, the best on the validation part is evaluated on images that no step before
has used, and only a model that is right at least 95 times in 100 is served.

Run `python pipeline.py digits.yaml` to compile it; `run.py` submits it and asks the served model.
"""

import sys
from typing import NamedTuple

from kfp import compiler, dsl

PYTHON = "python:3.11"
SCIKIT_LEARN = "scikit-learn==1.7.2"
KUBERNETES = "kubernetes==30.1.0"

CANDIDATES = [
    {"model": "logistic-regression", "C": 0.05},
    {"model": "k-nearest-neighbours", "n_neighbors": 3},
    {"model": "random-forest", "n_estimators": 200},
    {"model": "support-vector-machine", "C": 10.0},
]


@dsl.component(base_image=PYTHON, packages_to_install=[SCIKIT_LEARN])
def load_digits(digits: dsl.Output[dsl.Dataset]) -> int:
    """Write the images and their labels as one NumPy archive; returns how many there are."""
    import numpy as np
    from sklearn.datasets import load_digits

    source = load_digits()
    with open(digits.path, "wb") as file:
        np.savez_compressed(file, images=source.data.astype("float32"), labels=source.target.astype("int64"))
    digits.metadata["rows"] = len(source.target)
    return len(source.target)


@dsl.component(base_image=PYTHON, packages_to_install=[SCIKIT_LEARN])
def check_and_split(
    digits: dsl.Input[dsl.Dataset],
    training: dsl.Output[dsl.Dataset],
    validation: dsl.Output[dsl.Dataset],
    held_out: dsl.Output[dsl.Dataset],
):
    """Refuse data that is not what it should be, then split it 60/20/20 with equal shares of every digit."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    with np.load(digits.path) as data:
        images, labels = data["images"], data["labels"]
    if images.shape != (len(labels), 64):
        raise ValueError(f"expected 64 pixels an image, got an array of shape {images.shape}")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 16:
        raise ValueError("pixels must be numbers from 0 to 16")
    counts = np.bincount(labels, minlength=10)
    if len(counts) != 10 or counts.min() < 100:
        raise ValueError(f"every digit needs at least 100 images, got {counts.tolist()}")
    print(f"{len(labels)} images; of each digit: {counts.tolist()}")

    rest, test, rest_y, test_y = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=7)
    train, val, train_y, val_y = train_test_split(rest, rest_y, test_size=0.25, stratify=rest_y, random_state=7)
    for artifact, x, y in ((training, train, train_y), (validation, val, val_y), (held_out, test, test_y)):
        with open(artifact.path, "wb") as file:
            np.savez_compressed(file, images=x, labels=y)
        artifact.metadata["rows"] = len(y)
        print(f"{artifact.name}: {len(y)} images")


@dsl.component(base_image=PYTHON, packages_to_install=[SCIKIT_LEARN])
def train(
    candidate: dict,
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
) -> float:
    """Fit one candidate; returns its accuracy on the validation part."""
    import os

    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    kinds = {
        "logistic-regression": lambda **o: LogisticRegression(max_iter=2000, **o),
        "k-nearest-neighbours": KNeighborsClassifier,
        "random-forest": lambda **o: RandomForestClassifier(random_state=7, **o),
        "support-vector-machine": lambda **o: SVC(gamma="scale", probability=True, random_state=7, **o),
    }
    options = dict(candidate)
    kind = options.pop("model")
    for name in ("n_neighbors", "n_estimators"):  # pipeline parameters carry every number as a float
        if name in options:
            options[name] = int(options[name])

    with np.load(training.path) as data:
        estimator = make_pipeline(StandardScaler(), kinds[kind](**options)).fit(data["images"], data["labels"])
    with np.load(validation.path) as data:
        accuracy = float(estimator.score(data["images"], data["labels"]))
    os.makedirs(model.path, exist_ok=True)
    joblib.dump(estimator, os.path.join(model.path, "model.joblib"))
    model.metadata.update({"kind": kind, "validation_accuracy": accuracy, "framework": "scikit-learn"})
    print(f"{kind}: {accuracy:.4f} on the validation part")
    return accuracy


@dsl.component(base_image=PYTHON, packages_to_install=[SCIKIT_LEARN])
def choose_best(
    models: dsl.Input[list[dsl.Model]],
    accuracies: list,
    best: dsl.Output[dsl.Model],
) -> NamedTuple("Choice", [("kind", str), ("accuracy", float)]):
    """Copy the model with the highest validation accuracy."""
    import shutil

    index = max(range(len(accuracies)), key=lambda i: accuracies[i])
    chosen = models[index]
    shutil.copytree(chosen.path, best.path, dirs_exist_ok=True)
    best.metadata.update(chosen.metadata)
    kind = str(chosen.metadata.get("kind", index))
    print(f"the best of {len(accuracies)} is {kind} with {accuracies[index]:.4f}")
    return (kind, float(accuracies[index]))


@dsl.component(base_image=PYTHON, packages_to_install=[SCIKIT_LEARN])
def evaluate(
    model: dsl.Input[dsl.Model],
    held_out: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
) -> float:
    """Accuracy, confusion matrix and ROC curve (all digits together) on images that were never used before."""
    import os

    import joblib
    import numpy as np
    from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

    estimator = joblib.load(os.path.join(model.path, "model.joblib"))
    with np.load(held_out.path) as data:
        images, labels = data["images"], data["labels"]
    predicted = estimator.predict(images)
    accuracy = float((predicted == labels).mean())
    probabilities = estimator.predict_proba(images)
    truth = (labels[:, None] == estimator.classes_[None, :]).ravel()

    metrics.log_metric("accuracy", accuracy)
    metrics.log_metric("errors", int((predicted != labels).sum()))
    metrics.log_metric("images", len(labels))
    metrics.log_metric("roc_auc", float(roc_auc_score(truth, probabilities.ravel())))
    names = [str(c) for c in estimator.classes_]
    confusion.log_confusion_matrix(names, confusion_matrix(labels, predicted).tolist())
    fpr, tpr, thresholds = roc_curve(truth, probabilities.ravel())
    step = max(1, len(fpr) // 50)
    # The first threshold is infinite by definition, and JSON has no word for that.
    roc.log_roc_curve(fpr[::step].tolist(), tpr[::step].tolist(), np.minimum(thresholds[::step], 1.0).tolist())
    print(f"{accuracy:.4f} of {len(labels)} held-out images are right")
    return accuracy


@dsl.component(base_image=PYTHON, packages_to_install=[KUBERNETES])
def deploy(model: dsl.Input[dsl.Model], held_out: dsl.Input[dsl.Dataset], name: str) -> str:
    """Create (or update) an InferenceService that serves the model; returns its name."""
    from kubernetes import client, config

    config.load_incluster_config()
    with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
        namespace = file.read().strip()
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "digits.example.com/held-out": held_out.uri,
            },
        },
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "protocolVersion": "v1",
                    "storageUri": model.uri.replace("minio://", "s3://", 1),
                }
            }
        },
    }
    api = client.CustomObjectsApi()
    kind = {"group": "serving.kserve.io", "version": "v1beta1", "plural": "inferenceservices"}
    try:
        api.create_namespaced_custom_object(namespace=namespace, body=service, **kind)
        print(f"created InferenceService {namespace}/{name}")
    except client.ApiException as error:
        if error.status != 409:
            raise
        api.patch_namespaced_custom_object(namespace=namespace, name=name, body=service, **kind)
        print(f"updated InferenceService {namespace}/{name}")
    return name


@dsl.pipeline(name="digits-recognizer", description="Train, choose, evaluate and serve a recognizer of digits.")
def digits_recognizer(service_name: str = "digits", required_accuracy: float = 0.95):
    """The whole path from images to a served model."""
    loaded = load_digits()
    parts = check_and_split(digits=loaded.outputs["digits"])
    with dsl.ParallelFor(items=CANDIDATES, name="candidates") as candidate:
        trained = train(
            candidate=candidate,
            training=parts.outputs["training"],
            validation=parts.outputs["validation"],
        )
    best = choose_best(
        models=dsl.Collected(trained.outputs["model"]),
        accuracies=dsl.Collected(trained.outputs["Output"]),
    )
    evaluated = evaluate(model=best.outputs["best"], held_out=parts.outputs["held_out"])
    with dsl.If(evaluated.outputs["Output"] >= required_accuracy, name="good-enough"):
        deploy(model=best.outputs["best"], held_out=parts.outputs["held_out"], name=service_name)


if __name__ == "__main__":
    compiler.Compiler().compile(digits_recognizer, sys.argv[1] if len(sys.argv) > 1 else "digits.yaml")
