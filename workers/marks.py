"""What a worker process leaves behind: marks of calls under way, and what is known of its models.

The marks are a small file that the process maps into its memory: a mark costs microseconds, and
outlives the process, however it ends. What is known is a JSON file beside it, judged anew at each
start (`workers/suspicion.py`). Both belong to a slot; a process without one, or without a place
for files, keeps marks that nobody will read.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from streams.settings import Settings
from workers.suspicion import Call, Life, Past, culprits, judged, released, says_something

log = logging.getLogger(__name__)

# Length of the call, offset of the newest control record plus one, answers; then the call.
_LENGTH, _HEARD, _ANSWERS = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<Q")
_HEARD_AT, _ANSWERS_AT, _CALL_AT = 8, 16, 24
_SLOT_BYTES = 8192

_encode_call = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(Call).decode


class _State(msgspec.Struct, frozen=True):
    """The JSON file; `slots` are the models of the marks file of this `generation`, in order."""

    generation: int = 0
    slots: tuple[str, ...] = ()
    pasts: dict[str, Past] = {}
    recycles: int = 0


class Marks:
    """The marks of one model; each field is written by one thread at a time."""

    def __init__(self, memory: mmap.mmap, slot: int) -> None:
        self._memory = memory
        self._begin = slot * _SLOT_BYTES
        self._answers = 0
        self._closed = False

    def begin(self, call: Call) -> None:
        """A call is under way."""
        content = _encode_call(call)
        while len(content) > _SLOT_BYTES - _CALL_AT:
            # A batch of hundreds of partitions: the first ones stand for all.
            call = msgspec.structs.replace(call, spans=call.spans[: len(call.spans) // 2])
            content = _encode_call(call)
        self.clear()
        begin = self._begin + _CALL_AT
        self._memory[begin : begin + len(content)] = content
        _LENGTH.pack_into(self._memory, self._begin, len(content))
        if self._closed:
            self.clear()

    def end(self, answers: int = 0) -> None:
        """It came back, with so many answers."""
        self.clear()
        self._answers += answers
        _ANSWERS.pack_into(self._memory, self._begin + _ANSWERS_AT, self._answers)

    def clear(self) -> None:
        """Nothing is under way."""
        _LENGTH.pack_into(self._memory, self._begin, 0)

    def close(self) -> None:
        """Nothing is under way any more, whatever a thread that is left may begin."""
        self._closed = True
        self.clear()

    def hear(self, offset: int) -> None:
        """A control record about the model was read."""
        _HEARD.pack_into(self._memory, self._begin + _HEARD_AT, offset + 1)


def _life(memory: bytes, slot: int) -> Life:
    """What the marks of a slot say."""
    begin = slot * _SLOT_BYTES
    (length,) = _LENGTH.unpack_from(memory, begin)
    (heard,) = _HEARD.unpack_from(memory, begin + _HEARD_AT)
    (answers,) = _ANSWERS.unpack_from(memory, begin + _ANSWERS_AT)
    content = memory[begin + _CALL_AT : begin + _CALL_AT + length]
    return Life(answers, heard - 1, _decode_call(content) if length else None)


class Witness:
    """The marks of all models of this process, and what is known of them from former ones.

    Args:
        place: the files' common name without its end; None keeps nothing.
        configurations: model → a text that is another one when the model is; under another one
            the past of a model is forgotten.
        exit_code: how the predecessor ended, as a supervisor sees it; None if nobody saw it.

    Attributes:
        pasts: by model.
        recycles: how often the process asked for a fresh start.
    """

    def __init__(
        self, place: Path | None, configurations: Mapping[str, str], exit_code: int | None = None
    ) -> None:
        self._place = place
        self._lock = threading.Lock()
        state, lives = _State(), dict[str, Life]()
        if place is not None:
            try:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _refuse_strangers(place.parent)
                state = _read(place)
                lives = _lives(place, state)
            except OSError as error:
                self._lose(error)
        if not says_something(exit_code):
            lives = {model: Life(life.answers, life.heard) for model, life in lives.items()}
        for life in lives.values():
            if life.call is not None:
                log.warning("the process ended while %s", life.call)
        pasts = {
            model: _of_today(state.pasts.get(model, Past("")), configuration)
            for model, configuration in configurations.items()
        }
        self.recycles = state.recycles
        self.pasts = judged(pasts, lives)
        self._slots = tuple(configurations)
        self._generation = state.generation + 1
        self._memory = self._mapped()
        self._save()
        if self._place is not None:
            _marks_path(self._place, state.generation).unlink(missing_ok=True)
        self.marks = {model: Marks(self._memory, slot) for slot, model in enumerate(configurations)}

    def accuse(self, model: str) -> None:
        """The process is about to end because of this model, and no other one."""
        for other, marks in self.marks.items():
            if other != model:
                marks.clear()

    def release(self, model: str, heard: int) -> None:
        """Give a quarantined model another attempt, with the next process; a control record's wish.

        Args:
            model: which.
            heard: the offset of the record.
        """
        self.pasts[model] = released(self.pasts[model], heard)
        self._save()

    def recycle(self) -> None:
        """The process is about to ask for a fresh start."""
        self.recycles += 1
        self._save()

    def close(self) -> None:
        """The process ends as it should: nothing that is under way is to blame for it."""
        for marks in self.marks.values():
            marks.close()

    def _mapped(self) -> mmap.mmap:
        size = max(1, len(self._slots)) * _SLOT_BYTES
        if self._place is not None:
            path = _marks_path(self._place, self._generation)
            try:
                # Kept open, and locked, for as long as the process lives.
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Written, not stretched: a full disk must show now, not as a signal later.
                os.write(self._file, bytes(size))
                return mmap.mmap(self._file, size)
            except OSError as error:
                self._lose(error)
        return mmap.mmap(-1, size)

    def _save(self) -> None:
        with self._lock:
            if self._place is None:
                return
            try:
                if _read(self._place).generation > self._generation:
                    return  # another process has the slot by now
                state = _State(self._generation, self._slots, self.pasts, self.recycles)
                fresh = self._place.with_name(f"{self._place.name}.new")
                fresh.write_bytes(msgspec.json.encode(state))
                fresh.replace(_state_path(self._place))
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        log.warning("models that end the process will not be recognised: %s", error)
        self._place = None


def place_of(settings: Settings, worker: str, slot: str) -> Path | None:
    """Where a process keeps its marks: one place for each slot of each worker of each ensemble."""
    if not slot:
        return None
    configured = settings.worker.state_directory
    directory = Path(configured or Path(tempfile.gettempdir()) / f"ensemble-{os.getuid()}")
    whole = f"{settings.kafka.bootstrap_servers} {settings.ensemble.name} {worker} {slot}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return directory / f"{worker}-{slot}-{digest}"


def blamed(place: Path | None, exit_code: int) -> str:
    """In words, the one call that can be to blame for a process's end; empty if there is none.

    For the supervisor of a process that is gone and was not started again yet.
    """
    if place is None or not says_something(exit_code):
        return ""
    with suppress(OSError):
        lives = _lives(place, _read(place))
        calls = {model: life.call for model, life in lives.items() if life.call is not None}
        guilty = culprits(calls)
        if len(guilty) == 1:
            return str(calls[guilty[0]])
    return ""


def _refuse_strangers(directory: Path) -> None:
    """In a place where everybody may write, the directory must be ours. Raises PermissionError."""
    shared = directory.parent == Path(tempfile.gettempdir())
    if shared and directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else")


def _of_today(past: Past, configuration: str) -> Past:
    """Under another configuration only the control records that were heard still count."""
    return past if past.configuration == configuration else Past(configuration, heard=past.heard)


def _state_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _marks_path(place: Path, generation: int) -> Path:
    return place.with_name(f"{place.name}.{generation}.marks")


def _read(place: Path) -> _State:
    try:
        return msgspec.json.decode(_state_path(place).read_bytes(), type=_State)
    except FileNotFoundError:
        return _State()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read, and is begun anew: %s", _state_path(place), error)
        return _State()


def _lives(place: Path, state: _State) -> dict[str, Life]:
    """What the models of the last process did; nothing if it is still there."""
    try:
        with _marks_path(place, state.generation).open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            memory = file.read()
    except (FileNotFoundError, BlockingIOError):
        return {}
    try:
        return {model: _life(memory, slot) for slot, model in enumerate(state.slots)}
    except (msgspec.DecodeError, UnicodeDecodeError, struct.error) as error:
        log.warning("the marks of %s cannot be read: %s", place, error)
        return {}
