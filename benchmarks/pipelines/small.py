"""Many small models: with models that cost next to nothing, the cost of everything else shows."""

from pathlib import Path

from benchmarks.pipelines.rig import FEATURES, labelled

ROWS = 400


def small_bundle(directory: Path, models: int) -> Path:
    """A bundle of so many logistic regressions, each fitted on a part of the rows of its own."""
    from sklearn.linear_model import LogisticRegression

    from lab.members import one_thread
    from registry.bundle import artefact_of, write_bundle
    from registry.manifest import DataFingerprint, Manifest, ModelEntry, Stacking, StackingFit
    from streams.features import Feature, FeatureSchema
    from workers.loading import adapter_for

    matrix, labels = labelled(ROWS + models)
    save = adapter_for("scikit-learn").save
    entries, artefacts = [], {}
    with one_thread():
        for number in range(models):
            rows = slice(number, number + ROWS)
            path = f"models/small-{number}.skops"
            artefacts[path] = save(LogisticRegression().fit(matrix[rows], labels[rows]))
            artefact = artefact_of(path, artefacts[path])
            entries.append(ModelEntry(f"small-{number}", "scikit-learn", artefact, (), {}))
    manifest = Manifest(
        schema=FeatureSchema(tuple(Feature(f"f{i}") for i in range(FEATURES))),
        models=tuple(entries),
        calibrations={},
        stacking=Stacking((), {"": StackingFit(0.0, ())}, (), ()),
        quantiles={},
        golden_rows=(),
        metrics={},
        data=DataFingerprint("0" * 64, len(matrix), "label", float(labels.mean())),
        libraries={},
    )
    return write_bundle(directory, manifest, artefacts).directory
