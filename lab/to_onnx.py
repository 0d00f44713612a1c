"""A fitted model of each library as ONNX, by that library's own converter."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from registry.manifest import ModelFormat
from streams.errors import BundleError
from workers.adapters import lightgbm, onnx, scikit_learn, xgboost

# What writes ONNX, and what runs it.
_LIBRARIES = ("onnx", "onnxmltools", "onnxruntime", "skl2onnx")


def _from_scikit_learn(data: bytes, features: int, _name: str) -> bytes:
    from skl2onnx import to_onnx

    estimator = scikit_learn.estimator_of(data)
    # As a map from class to probability an answer would cost an object for each event.
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    made = to_onnx(estimator, np.zeros((1, features), np.float32), options=options)
    _lead_missing_values(made, estimator)
    return onnx.save(made)


def _lead_missing_values(made: Any, estimator: Any) -> None:
    """Send missing values down trees as scikit-learn does; skl2onnx (1.20) sends all right."""
    model = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    trees = [model] if hasattr(model, "tree_") else list(getattr(model, "estimators_", ()))
    nodes = [node for node in made.graph.node if node.op_type.startswith("TreeEnsemble")]
    if len(nodes) != 1 or not trees or not all(hasattr(tree, "tree_") for tree in trees):
        return
    [node] = nodes
    attributes = {attribute.name: attribute for attribute in node.attribute}
    to_left = [tree.tree_.missing_go_to_left for tree in trees]
    places = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    found = [int(to_left[tree][place]) for tree, place in places]
    tracks = attributes.get("nodes_missing_value_tracks_true")
    if tracks is None:
        from onnx.helper import make_attribute

        node.attribute.append(make_attribute("nodes_missing_value_tracks_true", found))
    else:
        del tracks.ints[:]
        tracks.ints.extend(found)


def _from_xgboost(data: bytes, features: int, name: str) -> bytes:
    from onnxmltools.convert import convert_xgboost

    booster, trees = xgboost.booster_of(data)
    if trees:
        booster = booster[:trees]
    # The converter knows columns by their places, and wants names that say so.
    booster.feature_names = None
    return onnx.save(convert_xgboost(booster, name, initial_types=_inputs(features)))


def _from_lightgbm(data: bytes, features: int, name: str) -> bytes:
    from onnxmltools.convert import convert_lightgbm

    booster = lightgbm.booster_of(data)
    made = convert_lightgbm(booster, name, initial_types=_inputs(features), zipmap=False)
    return onnx.save(made)


def _inputs(features: int) -> list[tuple[str, Any]]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("features", FloatTensorType([None, features]))]


# From a model's bytes, the number of its features and its name to those of an ONNX model; what
# they raise is the converters' own.
CONVERTERS: Mapping[ModelFormat, Callable[[bytes, int, str], bytes]] = {
    "scikit-learn": _from_scikit_learn,
    "xgboost": _from_xgboost,
    "lightgbm": _from_lightgbm,
}


def require_libraries() -> None:
    """Find out before anything is done.

    Raises:
        BundleError: a library is not installed.
    """
    for library in _LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise BundleError(
                f"compiling needs the library {library!r}; "
                "install it with the extra `compile` of this product"
            ) from error


def library_versions() -> dict[str, str]:
    """Name and version of each library that has a part in it."""
    return {name: str(importlib.import_module(name).__version__) for name in _LIBRARIES}
