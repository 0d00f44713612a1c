"""Marks outlive their process, and its successor reads them once."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from streams.settings import Settings
from tests.workers.worker_kit import ROOT
from workers.adapters import LoadedModel
from workers.batching import Mailbox, RecordBatch
from workers.examiner import CRASHED, Examiner
from workers.marks import Witness, blamed, place_of
from workers.scoring import called
from workers.suspicion import MAX_STRIKES, Call, Past, Span, row_hashes

SPAN = Span("events", 0, 10, 19)
SAME = {"a": "1", "b": "1"}

# Dies with a mark of a call, or waits with it.
DYING = """
import os, sys
from pathlib import Path
from workers.marks import Witness
from workers.suspicion import Call, Span
witness = Witness(Path(sys.argv[1]), {"a": "1", "b": "1"})
witness.marks["b"].end(3)
witness.marks["a"].hear(5)
witness.marks["a"].begin(Call("a", "scoring", (Span("events", 0, 10, 19),)))
print("marked", flush=True)
sys.stdin.read(1)
os._exit(7)
"""


def dying(place: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"marked\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
    assert process.returncode == 7


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "w-0"


def test_what_was_under_way_is_judged_once(place: Path) -> None:
    end(dying(place))
    assert blamed(place, 7) == "a was scoring events/0/10-19"
    assert blamed(place, -9) == ""
    struck = Past("1", deaths=1, strikes=1, suspects=(SPAN,), heard=5)
    witness = Witness(place, SAME, 7)
    assert witness.pasts == {"a": struck, "b": Past("1")}
    witness.close()
    assert blamed(place, 7) == ""
    assert Witness(place, SAME, 0).pasts["a"] == struck
    assert sorted(path.name for path in place.parent.iterdir()) == ["w-0.3.marks", "w-0.json"]


def test_a_process_that_is_still_there_is_not_judged(place: Path) -> None:
    zombie = dying(place)
    twin = Witness(place, SAME)
    assert twin.pasts == {"a": Past("1"), "b": Past("1")}
    end(zombie)
    twin.close()
    assert Witness(place, SAME, 7).pasts["a"] == Past("1"), "its marks went with its place"


def test_under_another_configuration_a_model_has_no_past(place: Path) -> None:
    end(dying(place))
    assert Witness(place, {"a": "2", "c": "1"}, 7).pasts["c"] == Past("1")
    assert Witness(place, SAME, 0).pasts["a"].strikes == 0


def test_who_is_accused_is_alone_to_blame(place: Path) -> None:
    witness = Witness(place, SAME)
    for name in SAME:
        witness.marks[name].begin(Call(name, "scoring", (SPAN,)))
    assert blamed(place, 75) == "", "it lives"
    witness.accuse("b")
    fcntl.flock(witness._file, fcntl.LOCK_UN)  # as its end would
    assert blamed(place, 75) == "b was scoring events/0/10-19"


def test_after_a_proper_end_nothing_is_blamed_that_a_thread_still_does(place: Path) -> None:
    witness = Witness(place, SAME)
    witness.marks["a"].begin(Call("a", "scoring", (SPAN,)))
    witness.close()
    witness.marks["a"].begin(Call("a", "scoring", (SPAN,)))
    fcntl.flock(witness._file, fcntl.LOCK_UN)
    assert blamed(place, 5) == ""


def test_a_shared_directory_of_somebody_else_is_not_used(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    theirs = tmp_path / "ensemble-of-them"
    theirs.mkdir()
    monkeypatch.setattr("os.getuid", lambda: theirs.stat().st_uid + 1)
    Witness(theirs / "w-0", SAME)
    assert list(theirs.iterdir()) == []


def test_a_release_and_recycles_are_remembered(place: Path) -> None:
    for _ in range(MAX_STRIKES):
        end(dying(place))
        witness = Witness(place, SAME, 7)
        witness.close()
        fcntl.flock(witness._file, fcntl.LOCK_UN)
    assert witness.pasts["a"].quarantined
    witness.recycle()
    witness.release("a", 9)
    again = Witness(place, SAME, 9)
    assert again.recycles == 1
    assert again.pasts["a"] == Past("1", deaths=MAX_STRIKES, heard=9)


def test_a_batch_of_a_thousand_partitions_fits(place: Path) -> None:
    witness = Witness(place, {"a": "1"})
    spans = tuple(
        Span("a-topic-with-quite-a-long-name", p, 10**12, 10**12 + 9) for p in range(1000)
    )
    witness.marks["a"].begin(Call("a", "scoring", spans))
    fcntl.flock(witness._file, fcntl.LOCK_UN)
    kept = Witness(place, {"a": "1"}).pasts["a"].suspects
    assert 0 < len(kept) <= 64
    assert set(kept) <= set(spans)


@pytest.mark.parametrize("content", [b"", b"{", b'{"generation":"x"}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_begun_anew(place: Path, content: bytes) -> None:
    place.parent.mkdir()
    place.with_name("w-0.json").write_bytes(content)
    assert Witness(place, SAME).pasts == {"a": Past("1"), "b": Past("1")}
    assert blamed(place, 1) == ""


def test_marks_that_cannot_be_read_say_nothing(place: Path) -> None:
    end(dying(place))
    (marks,) = place.parent.glob("*.marks")
    marks.write_bytes(b"\xff" * 100)
    assert Witness(place, SAME, 7).pasts["a"] == Past("1")


def test_without_a_place_for_files_there_is_no_past_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (None, tmp_path / "file" / "w-0"):
        witness = Witness(place, SAME)
        witness.marks["a"].begin(Call("a", "loading"))
        witness.release("a", 1)
        witness.close()
    assert blamed(None, 1) == ""


def test_each_slot_of_each_worker_of_each_cluster_has_its_place() -> None:
    def settings(servers: str, name: str) -> Settings:
        return Settings.model_validate(
            {
                "ensemble": {"name": name},
                "kafka": {"bootstrap_servers": servers},
                "models": [{"name": "a", "external": True}],
            }
        )

    places = {
        place_of(settings(servers, name), worker, slot)
        for servers in ("one:1", "two:1")
        for name in ("e", "f")
        for worker in ("v", "w")
        for slot in ("0", "1")
    }
    assert len(places) == 16
    assert place_of(settings("one:1", "e"), "w", "") is None


class TestExaminer:
    """What is asked together, what alone, and what not at all."""

    def examined(self, past: Past) -> tuple[list[list[float]], list[float | str], Witness]:
        asked: list[list[float]] = []
        witness = Witness(None, {"a": "1"})

        def predict(rows: np.ndarray) -> np.ndarray:
            asked.append(rows[:, 0].tolist())
            if rows[0, 0] == 3:
                raise ValueError("no")
            return rows[:, 0] / 10

        model = LoadedModel("a", "1", 0.0, 1.0, predict)
        examiner = Examiner(
            model, lambda rows: called(predict, rows), witness.marks["a"], past, threading.Lock()
        )
        mailbox = Mailbox()
        offsets = np.arange(10, 16)
        matrix = np.arange(6.0)[:, np.newaxis]
        mailbox.put(RecordBatch("events", 0, offsets, matrix, 0, 0))
        scores = examiner.score(mailbox.take(100))
        said = [scores.refusals.get(row, value) for row, value in enumerate(scores.values.tolist())]
        return asked, said, witness

    def test_without_a_past_all_are_asked_at_once(self) -> None:
        asked, _, _ = self.examined(Past("1"))
        assert asked[0] == [0, 1, 2, 3, 4, 5]

    def test_a_model_that_answers_nothing_is_asked_ever_less(self) -> None:
        asked: list[int] = []

        def predict(rows: np.ndarray) -> np.ndarray:
            asked.append(len(rows))
            raise ValueError("out of order")

        model = LoadedModel("a", "1", 0.0, 1.0, predict)
        marks = Witness(None, {"a": "1"}).marks["a"]
        examiner = Examiner(
            model, lambda rows: called(predict, rows), marks, Past("1"), threading.Lock()
        )
        for _ in range(4):
            asked.clear()
            mailbox = Mailbox()
            mailbox.put(RecordBatch("events", 0, np.arange(128), np.ones((128, 1)), 0, 0))
            assert len(examiner.score(mailbox.take(200)).refusals) == 128
        assert asked == [128, 64, 64]

    def test_suspects_are_asked_one_by_one_and_convicts_not(self) -> None:
        convict = int(row_hashes(np.array([[1.0]]))[0])
        past = Past("1", suspects=(Span("events", 0, 10, 13),), convicts=(convict,))
        asked, said, _ = self.examined(past)
        assert asked == [[4, 5], [0], [2], [3]]
        assert said == [0.0, CRASHED, 0.2, "raised ValueError: no", 0.4, 0.5]

    def test_a_row_of_which_nothing_is_known_is_never_refused(self) -> None:
        _, said, _ = self.examined(Past("1", suspects=(SPAN,)))
        assert said == [0.0, 0.1, 0.2, "raised ValueError: no", 0.4, 0.5]
