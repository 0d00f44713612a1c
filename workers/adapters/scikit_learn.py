"""scikit-learn, through skops: a file of plain values, never a pickle, which could run anything.

`predict_proba` spends milliseconds a call on checking and dispatching before it computes, which
for a batch of one is everything. So the fitted steps that are simple enough are turned into the
array arithmetic they stand for, once, at loading; any other step is called as it is. Where all
steps are, the file's values are enough, and scikit-learn is not even imported. The answers
are the same, and the golden rows of the bundle, which the estimator itself answered at training,
prove it at each loading.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import BundleError
from workers.adapters import LoadedModel, Score
from workers.skops_values import read_values

Matrix = NDArray[np.float64]
Step = Callable[[Matrix], Matrix]

# What the supported models are made of beyond the types that skops trusts by itself. None of them
# runs anything when it is constructed.
_TRUSTED = frozenset(
    {
        "numpy.dtype",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
# The time that every file in the archive carries: the first a zip file can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save(estimator: Any) -> bytes:
    """The bytes of a fitted classifier or regressor; the same one gives the same bytes."""
    import skops.io

    return _canonical(skops.io.dumps(estimator))


def load(
    data: bytes,
    *,
    name: str,
    version: str,
    minimum: float | None,
    maximum: float | None,
    columns: int = 1,
    threads: int = 1,  # noqa: ARG001 - BLAS has one setting for the process, made by the loader
) -> LoadedModel:
    """A model from what `save` wrote.

    Raises:
        BundleError: the bytes are no skops file, hold a type that is not trusted, come from
            another version of scikit-learn, or are neither a classifier with probabilities nor a
            regressor.
    """
    score = _plain_score(data)
    if score is None:
        score = _score_of(estimator_of(data))
    return LoadedModel(name, version, minimum, maximum, score, columns)


def _plain_score(data: bytes) -> Score | None:
    """The score from the plain values of the file alone; None if that is not all there is to it."""
    try:
        return _score_of(read_values(data), plain=True)
    except Exception:  # noqa: BLE001 -- scikit-learn itself says what is wrong, if anything is
        return None


def estimator_of(data: bytes) -> Any:
    """The fitted model of which `save` wrote these bytes.

    Raises:
        BundleError: see `load`.
    """
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        strange = set(skops.io.get_untrusted_types(data=data)) - _TRUSTED
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            estimator = None if strange else skops.io.loads(data, trusted=sorted(_TRUSTED))
    except InconsistentVersionWarning as error:
        raise BundleError(
            f"saved by scikit-learn {error.original_sklearn_version}, and this is "
            f"{error.current_sklearn_version}; train again or install that version"
        ) from error
    except Exception as error:  # a malformed file can fail anywhere in zipfile, json or skops
        raise BundleError(f"no skops file: {type(error).__name__}: {error}") from error
    if strange:
        raise BundleError(f"holds a type that is not trusted: {', '.join(sorted(strange))}")
    if not _is_model(estimator):
        raise BundleError(
            f"{type(estimator).__name__} is neither a classifier with probabilities nor a regressor"
        )
    return estimator


def _is_model(estimator: Any) -> bool:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return hasattr(estimator, "predict") and not hasattr(estimator, "predict_proba")
    return hasattr(estimator, "predict_proba") and len(classes) >= 2


def _canonical(data: bytes) -> bytes:
    """The same skops file without what changes from run to run.

    skops names objects and array files by their address in memory, and the archive carries the
    time of writing; here they are numbered in order of appearance, and the time is fixed.
    """
    numbers: dict[str, str] = {}

    def renumber(item: dict[str, Any]) -> dict[str, Any]:
        if "__id__" in item:
            item["__id__"] = int(number(str(item["__id__"])))
        if isinstance(item.get("file"), str):
            stem, dot, suffix = item["file"].partition(".")
            item["file"] = number(stem) + dot + suffix
        return item

    def number(address: str) -> str:
        return numbers.setdefault(address, str(len(numbers) + 1))

    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        schema = json.loads(old.read("schema.json"), object_hook=renumber)
        files = {"schema.json": json.dumps(schema).encode()}
        for path in old.namelist():
            if path != "schema.json":
                stem, dot, suffix = path.partition(".")
                files[numbers[stem] + dot + suffix] = old.read(path)
        for path, content in sorted(files.items()):
            info = zipfile.ZipInfo(path, _EPOCH)
            new.writestr(info, content, zipfile.ZIP_DEFLATED)
    return result.getvalue()


def _score_of(estimator: Any, *, plain: bool = False) -> Score:
    """The answers, as cheaply as the estimator's steps allow.

    Of two classes that is the probability of the second, of more a column for each; of a regressor
    its values.

    Args:
        estimator: a fitted model, or its plain values.
        plain: there are only the values.

    Raises:
        AttributeError: values alone are not enough.
    """
    *steps, last = _steps(estimator)
    transforms = [_transform_of(step) for step in steps]
    final = _FINAL.get(type(last).__name__, _no_plain_form)(last)
    if final is None:
        if plain:
            raise AttributeError(f"{type(last).__name__} has no plain form")
        final = partial(_as_it_is, last)
    if not transforms:
        return final
    return lambda matrix: final(reduce(lambda values, step: step(values), transforms, matrix))


def _as_it_is(estimator: Any, matrix: Matrix) -> Matrix:
    import sklearn

    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        if not hasattr(estimator, "predict_proba"):
            values: Matrix = estimator.predict(matrix)
            return values
        answer: Matrix = estimator.predict_proba(matrix)
    return answer[:, 1] if answer.shape[1] == 2 else answer


def _steps(estimator: Any) -> list[Any]:
    if type(estimator).__name__ != "Pipeline":
        return [estimator]
    return [step for _, step in estimator.steps if step != "passthrough"]


def _transform_of(step: Any) -> Step:
    plain = _TRANSFORMS.get(type(step).__name__, _no_plain_form)(step)
    as_it_is: Step = plain or step.transform
    return as_it_is


def _no_plain_form(_: Any) -> Step | None:
    return None


def _pipeline(step: Any) -> Step:
    transforms = [_transform_of(inner) for inner in _steps(step)]
    return lambda matrix: reduce(lambda values, inner: inner(values), transforms, matrix)


def _columns(step: Any) -> Step | None:
    """`ColumnTransformer` whose columns are given by number and whose rest is dropped."""
    parts: list[tuple[NDArray[np.int64], Step]] = []
    for _, inner, columns in step.transformers_:
        if isinstance(inner, str) and inner == "drop":
            continue
        numbers = np.asarray(columns)
        if isinstance(inner, str) or numbers.dtype.kind != "i":
            return None
        parts.append((numbers, _transform_of(inner)))
    if step.sparse_output_ or step.transformer_weights:
        return None
    return lambda matrix: np.hstack([inner(matrix[:, numbers]) for numbers, inner in parts])


def _imputer(step: Any) -> Step | None:
    fill = step.statistics_
    if fill.dtype.kind != "f" or np.isnan(fill).any() or step.add_indicator:
        return None
    if not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
        return None
    return lambda matrix: np.where(np.isnan(matrix), fill, matrix)


def _scaler(step: Any) -> Step:
    mean = step.mean_ if step.with_mean else 0.0
    scale = step.scale_ if step.with_std else 1.0
    return lambda matrix: (matrix - mean) / scale


def _one_hot(step: Any) -> Step | None:
    """One-hot columns of numbers; an unknown or missing category has none."""
    if step.handle_unknown != "ignore" or step.drop is not None or step.sparse_output:
        return None
    if step.min_frequency is not None or step.max_categories is not None:
        return None
    if any(c.dtype.kind not in "if" or np.isnan(c).any() for c in step.categories_):
        return None
    values = np.concatenate(step.categories_)
    sources = np.repeat(np.arange(len(step.categories_)), [len(c) for c in step.categories_])
    return lambda matrix: (matrix[:, sources] == values).astype(np.float64)


def _expit(values: Matrix) -> Matrix:
    """1 / (1 + exp(-x)), in place; what overflows on the way is 0 in the end."""
    np.negative(values, out=values)
    with np.errstate(over="ignore"):
        np.exp(values, out=values)
    values += 1.0
    return np.reciprocal(values, out=values)


def _softmax(values: Matrix) -> Matrix:
    """Probabilities of rows of logarithms that need a common constant, in place."""
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


def _logistic_regression(last: Any) -> Score | None:
    if len(last.classes_) > 2:
        if last.solver == "liblinear":  # one model against the rest for each class
            return None
        slopes, intercepts = np.ascontiguousarray(last.coef_.T), last.intercept_
        return lambda matrix: _softmax(matrix @ slopes + intercepts)
    weights, intercept = np.ascontiguousarray(last.coef_[0]), last.intercept_[0]
    return lambda matrix: _expit(matrix @ weights + intercept)


def _linear_regression(last: Any) -> Score | None:
    if np.ndim(last.coef_) != 1:
        return None
    weights, intercept = np.ascontiguousarray(last.coef_), last.intercept_
    return lambda matrix: matrix @ weights + intercept


def _neural_network(last: Any) -> Score | None:
    activations: dict[str, Callable[[Matrix], Matrix]] = {
        "relu": lambda values: np.maximum(values, 0.0, out=values),
        "tanh": lambda values: np.tanh(values, out=values),
        "logistic": _expit,
        "identity": lambda values: values,
    }
    outputs: dict[str, Callable[[Matrix], Matrix]] = {
        "logistic": _expit,
        "softmax": _softmax,
        "identity": lambda values: values,
    }
    activation, output = activations.get(last.activation), outputs.get(last.out_activation_)
    if activation is None or output is None:
        return None
    *hidden, (weights, intercept) = zip(last.coefs_, last.intercepts_, strict=True)
    if last.out_activation_ != "softmax":
        if last.n_outputs_ > 1:  # several labels, or several values, at once
            return None
        weights, intercept = weights[:, 0], intercept[0]

    def score(matrix: Matrix) -> Matrix:
        for inner_weights, inner_intercept in hidden:
            matrix = activation(matrix @ inner_weights + inner_intercept)
        return output(matrix @ weights + intercept)

    return score


def _rescaled(last: Any) -> Score | None:
    """A regressor whose target was scaled: its answers, scaled back."""
    scaler, regressor = last.transformer_, last.regressor_
    inner = _FINAL.get(type(regressor).__name__, _no_plain_form)(regressor)
    if inner is None or type(scaler).__name__ != "StandardScaler":
        return None
    mean = scaler.mean_[0] if scaler.with_mean else 0.0
    scale = scaler.scale_[0] if scaler.with_std else 1.0
    return lambda matrix: inner(matrix) * scale + mean


def _forest(last: Any) -> Score | None:
    """The mean over trees of what stands in the leaf, as scikit-learn computes it.

    That is the share of the second of two classes, the share of each of more, or a value.
    """
    outputs, columns = last.estimators_[0].tree_.value.shape[1:]
    if outputs != 1:
        return None
    here: Any = slice(None) if columns > 2 else columns - 1
    trees = [
        (tree.tree_.apply, np.ascontiguousarray(tree.tree_.value[:, 0, here]))
        for tree in last.estimators_
    ]

    def score(matrix: Matrix) -> Matrix:
        # Trees compare in float32; what is beyond its range compares as infinity does.
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(matrix, dtype=np.float32)
        total = np.zeros((len(rows), *trees[0][1].shape[1:]))
        for leaf_of, content in trees:
            total += content[leaf_of(rows)]
        return total / len(trees)

    return score


# By class name, so that nothing of scikit-learn is imported before a model needs it.
_TRANSFORMS: dict[str, Callable[[Any], Step | None]] = {
    "ColumnTransformer": _columns,
    "OneHotEncoder": _one_hot,
    "Pipeline": _pipeline,
    "SimpleImputer": _imputer,
    "StandardScaler": _scaler,
}
_FINAL: dict[str, Callable[[Any], Score | None]] = {
    "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest,
    "LinearRegression": _linear_regression,
    "LogisticRegression": _logistic_regression,
    "MLPClassifier": _neural_network,
    "MLPRegressor": _neural_network,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
    "Ridge": _linear_regression,
    "TransformedTargetRegressor": _rescaled,
}
