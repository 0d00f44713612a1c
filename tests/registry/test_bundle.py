"""A bundle is whole and unchanged, or it is refused with the name of the file."""

import contextlib
import json
from pathlib import Path

import msgspec
import pytest

from registry.bundle import (
    LoadedBundle,
    artefact_of,
    check_free,
    load_manifest,
    read_artefact,
    verify,
    write_bundle,
)
from registry.manifest import (
    MANIFEST_NAME,
    Artefact,
    Calibration,
    DataFingerprint,
    Manifest,
    ModelEntry,
    Stacking,
    StackingFit,
)
from streams.errors import BundleError
from streams.features import Feature, FeatureSchema

FILES = {"models/a.ubj": b"trees of a", "models/b.txt": b"trees of b"}


def manifest() -> Manifest:
    return Manifest(
        schema=FeatureSchema((Feature("x"), Feature("y", required=False))),
        models=(
            ModelEntry(
                "a", "xgboost", artefact_of("models/a.ubj", FILES["models/a.ubj"]), (0.5,), {}
            ),
            ModelEntry(
                "b", "lightgbm", artefact_of("models/b.txt", FILES["models/b.txt"]), (0.1,), {}
            ),
        ),
        calibrations={"a": Calibration((0.1, 0.9), (0.2, 0.8))},
        stacking=Stacking(
            members=("a", "b"),
            fits={"11": StackingFit(0.0, (1.0, 1.0)), "10": StackingFit(0.0, (1.0,))},
            means=(0.0, 0.0),
            covariance=((1.0, 0.0), (0.0, 1.0)),
        ),
        quantiles={"a": (0.0, 1.0)},
        golden_rows=((1.0, None),),
        metrics={"stacking": {"auc": 0.8}},
        data=DataFingerprint("0" * 64, 10, "label", 0.3),
        libraries={"xgboost": "3"},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> LoadedBundle:
    return write_bundle(tmp_path / "bundle", manifest(), FILES)


def test_what_was_written_is_read_back(bundle: LoadedBundle) -> None:
    verify(bundle)
    again = load_manifest(bundle.directory)
    assert again == bundle
    assert again.manifest == manifest()
    assert {
        m.artefact.path: read_artefact(again, m.artefact) for m in again.manifest.models
    } == FILES
    assert sorted(path.name for path in bundle.directory.parent.iterdir()) == ["bundle"]


def test_the_version_depends_on_the_content_alone(bundle: LoadedBundle, tmp_path: Path) -> None:
    assert write_bundle(tmp_path / "elsewhere", manifest(), FILES).version == bundle.version
    other = msgspec.structs.replace(manifest(), libraries={"xgboost": "4"})
    assert write_bundle(tmp_path / "other", other, FILES).version != bundle.version
    assert len(bundle.version) == 12


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_a_file_is_found_and_the_file_named(
    bundle: LoadedBundle, name: str
) -> None:
    path = bundle.directory / name
    for position in range(len(FILES[name])):
        data = bytearray(FILES[name])
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=f"{name}: changed") as caught:
            verify(bundle)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_a_directory_is_named(bundle: LoadedBundle, name: str) -> None:
    path = bundle.directory / name
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        verify(bundle)
    path.mkdir()
    with pytest.raises(BundleError, match=f"{name}: cannot be read"):
        verify(bundle)


@pytest.mark.parametrize("name", ["extra.txt", "models/c.ubj", "models/.hidden", "deep/er/file"])
def test_a_file_that_is_not_listed_is_named(bundle: LoadedBundle, name: str) -> None:
    (bundle.directory / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle.directory / name).write_bytes(b"")
    with pytest.raises(BundleError, match=f"{name}: not listed"):
        verify(bundle)


def test_a_flipped_bit_in_the_manifest_is_an_error_or_another_version(bundle: LoadedBundle) -> None:
    path = bundle.directory / MANIFEST_NAME
    original = path.read_bytes()
    for position in range(0, len(original), 7):
        data = bytearray(original)
        data[position] ^= 1
        path.write_bytes(data)
        with contextlib.suppress(BundleError):
            assert load_manifest(bundle.directory).version != bundle.version


def edit(bundle: LoadedBundle, **changes: object) -> None:
    path = bundle.directory / MANIFEST_NAME
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(content))


def models(**changes: object) -> list[dict[str, object]]:
    first, second = msgspec.to_builtins(manifest().models)
    return [first | changes, second]


A_HASH = "0" * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"format": "1"}, r"Expected `int`, got `str` - at `\$\.format`"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"models": models(format="pickle")}, r"Invalid enum value 'pickle' - at `\$\.models\[0\]"),
        ({"models": models(golden=[0.1, 0.2])}, "'a' has not one answer to each golden row"),
        ({"models": models(name="b")}, "'b' stands twice"),
        ({"models": models(name="c")}, "no model 'a'"),
        ({"golden_rows": [[1.0]]}, "a golden row has not 2 numbers"),
        (
            {"models": models(artefact={"path": "../../secret", "sha256": A_HASH})},
            r"'../../secret' leads out of the bundle - at `\$\.models\[0\]\.artefact`",
        ),
        ({"models": models(artefact={"path": "/x", "sha256": A_HASH})}, "leads out of the bundle"),
        ({"models": models(artefact={"path": "a\\..", "sha256": A_HASH})}, "leads out of the"),
        ({"models": models(artefact={"path": "", "sha256": A_HASH})}, "leads out of the bundle"),
        ({"models": models(artefact={"path": "a", "sha256": "0"})}, "not 64 hexadecimal digits"),
        ({"calibrations": {"a": {"scores": [0.1], "probabilities": []}}}, "differ in length"),
        ({"calibrations": {"a": {"scores": [1, 1], "probabilities": [0, 1]}}}, "do not ascend"),
        ({"calibrations": {"a": {"scores": [0, 1], "probabilities": [1, 0]}}}, "fall"),
        (
            {"stacking": {"members": ["a"], "fits": {}, "means": [0, 0], "covariance": [[1]]}},
            r"not of 1 members - at `\$\.stacking`",
        ),
        (
            {"stacking": {"members": ["a"], "fits": {}, "means": [0], "covariance": [[1]]}},
            "no fit of all members",
        ),
        (
            {
                "stacking": {
                    "members": ["a"],
                    "fits": {"1": {"intercept": 0, "weights": [1, 2]}},
                    "means": [0],
                    "covariance": [[1]],
                }
            },
            "fit '1' of stacking does not match",
        ),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_place(
    bundle: LoadedBundle, changes: dict[str, object], message: str
) -> None:
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_manifest(bundle.directory)
    assert str(bundle.directory / MANIFEST_NAME) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_manifest_is_refused(bundle: LoadedBundle, data: bytes) -> None:
    (bundle.directory / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest\.json: malformed"):
        load_manifest(bundle.directory)


def test_no_bundle_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: not found; .*`ensemble train`"):
        load_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        load_manifest(tmp_path)


def test_a_link_out_of_the_bundle_is_refused(bundle: LoadedBundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(FILES["models/a.ubj"])
    inside = bundle.directory / "models/a.ubj"
    inside.unlink()
    inside.symlink_to(outside)
    with pytest.raises(BundleError, match=r"a\.ubj: leads out of the bundle"):
        verify(bundle)


def test_a_bundle_is_replaced_only_when_told(bundle: LoadedBundle) -> None:
    other = msgspec.structs.replace(manifest(), libraries={})
    with pytest.raises(BundleError, match="a bundle exists already"):
        write_bundle(bundle.directory, other, FILES)
    assert load_manifest(bundle.directory) == bundle
    replaced = write_bundle(bundle.directory, other, FILES, replace=True)
    verify(replaced)
    assert replaced.version != bundle.version
    assert [path.name for path in bundle.directory.parent.iterdir()] == ["bundle"]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "thesis"
    directory.mkdir()
    (directory / "chapter").write_text("ten years")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        check_free(directory, replace=True)
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_bundle(directory, manifest(), FILES, replace=True)
    with pytest.raises(BundleError, match="exists and is no directory"):
        check_free(directory / "chapter", replace=True)
    assert (directory / "chapter").read_text() == "ten years"


def test_an_empty_directory_may_become_a_bundle(tmp_path: Path) -> None:
    verify(write_bundle(tmp_path, manifest(), FILES))


def test_nothing_is_left_behind_when_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "bundle", manifest(), FILES)
    with pytest.raises(BundleError, match=r"models/a\.ubj: changed"):
        write_bundle(tmp_path / "bundle", manifest(), FILES | {"models/a.ubj": b"other"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_replacement_keeps_the_old_bundle(bundle: LoadedBundle, monkeypatch) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BundleError, match="no space left"):
        write_bundle(bundle.directory, manifest(), FILES, replace=True)
    verify(load_manifest(bundle.directory))


def test_models_are_found_by_name() -> None:
    found = manifest().model("b")
    assert found is not None
    assert found.version == found.artefact.sha256[:12]
    assert manifest().model("c") is None


def test_an_artefact_knows_its_bytes() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert artefact_of("x", b"") == Artefact("x", empty)
