"""A model behind a server that speaks the Open Inference Protocol: Triton, KServe, MLServer.

A batch goes out in requests of at most `max_rows` rows, several at a time, over connections that
are kept. What has nothing to do with the rows (no connection, no answer in time, an overloaded
server, an answer that is none) refuses the batch at once, and after `FAILURES` of these in a row
the server is left alone for a while. What the server says against a request (400, 413, 422, 500)
may be the fault of single rows, so the request is tried again in halves, as with any other model,
unless the server has refused everything lately.

Secrets are read from the environment or from files, and again when the server no longer takes them.
"""

import logging
import os
import ssl
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from streams.breaker import Breaker, BreakerConfig
from streams.clock import SystemClock
from streams.errors import BundleError, ConfigurationError
from streams.instants import Clock
from streams.settings import RemoteSettings
from workers.adapters import nothing
from workers.inference import Request, ResponseError, decode_scores, error_text, model_path
from workers.protocol import UnavailableError

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

FAILURES = 3
COOL_DOWN_MS = 500
# Requests in a row that the server refused; a batch of 2,000 with one guilty row makes eleven.
MAX_REFUSED = 32
# Scores of 20,000 rows in a hundred classes, as text.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Shorter than any usual server's patience, so that it is seldom the server who hangs up.
_KEEP_IDLE_S = 2.0
# What a request may need beyond its time to say itself why it failed.
_SLACK_S = 0.05
# What the content of a request can be the reason of; some servers say 500 when a model raises.
_ABOUT_THE_ROWS = frozenset({400, 413, 422, 500})
_ABOUT_US = frozenset({401, 403})


class RequestError(Exception):
    """The server refused the content of a request."""


class Remote(BaseModel):
    """What is known of a model that is somewhere else.

    Attributes:
        server: the settings.
        features: the names of the columns, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: RemoteSettings
    features: tuple[str, ...] = ()


def save(estimator: Any) -> bytes:
    """The description of a model server, a `Remote`."""
    return bytes(estimator.model_dump_json().encode())


def load(
    data: bytes,
    *,
    name: str,
    version: str,
    minimum: float | None,
    maximum: float | None,
    columns: int = 1,
    threads: int = 1,  # noqa: ARG001 - the threads are the server's
) -> "RemoteModel":
    """A model from what `save` wrote. The server need not be there.

    Raises:
        BundleError: the bytes are no such description.
        ConfigurationError: a secret or a certificate cannot be read.
    """
    try:
        remote = Remote.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"no description of a model server: {error.errors()[0]['msg']}") from None
    model = RemoteModel(remote, name, version, minimum, maximum, columns=columns)
    if problem := model.problem():
        # Other models of the process can score; and this one too, once its server is there.
        log.warning("model %s: %s; its rows are refused until the server answers", name, problem)
    return model


class RemoteModel:
    """A `workers.protocol.Model` that asks a server.

    Args:
        remote: where and how.
        name: as in the configuration.
        version: what must answer.
        minimum: see `workers.protocol.Model`.
        maximum: likewise.
        clock: the time.
        columns: see `workers.protocol.Model`.

    `close()` lets go of the connections; so does forgetting the model.
    """

    def __init__(
        self,
        remote: Remote,
        name: str,
        version: str,
        minimum: float | None,
        maximum: float | None,
        clock: Clock | None = None,
        columns: int = 1,
    ) -> None:
        self.name, self.version, self.columns = name, version, columns
        self.minimum, self.maximum = minimum, maximum
        self._server = server = remote.server
        names = remote.features if server.layout == "columns" else (server.input,)
        self._request = Request(
            names=names,
            layout=server.layout,
            datatype=server.datatype,
            output=server.output,
            missing=server.missing,
            parameters=server.parameters,
        )
        self._path = model_path(server.model, server.version)
        self._clock = clock or SystemClock()
        self._secrets = Secrets(server, f"models.{name}.remote")
        self._client = _client(server, f"models.{name}.remote")
        self._lock = threading.Lock()
        self._breaker = Breaker(BreakerConfig(failures=FAILURES, cool_down_ms=COOL_DOWN_MS))
        self._why = ""
        self._refused_in_a_row = 0
        # The threads of a pool start with its first piece of work.
        self._pool = ThreadPoolExecutor(server.connections, f"remote-{name}")
        self.close = weakref.finalize(self, _let_go, self._pool, self._client)

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows.

        Raises:
            UnavailableError: the server does not answer as it should.
            RequestError: it refuses these rows.
        """
        if not len(matrix):
            return nothing(self.columns)
        server = self._server
        size, longest_ms = server.max_rows, server.longest_ms(len(matrix))
        pieces = [matrix[begin : begin + size] for begin in range(0, len(matrix), size)]
        # Connecting and the first line of an answer have each their own time; this bounds all.
        answers = self._pool.map(self._ask, pieces, timeout=longest_ms / 1000 + _SLACK_S)
        try:
            return np.concatenate(list(answers))
        except TimeoutError as error:
            raise UnavailableError(f"no answer within {longest_ms} ms") from error

    def problem(self) -> str:
        """Why the server is not ready for this model; empty if it is."""
        try:
            status, body = self._exchange("GET", f"{self._path}/ready")
        except UnavailableError as error:
            return str(error)
        return "" if status == 200 else f"not ready: {_said(status, body)}"

    def _ask(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        with self._admitted():
            body = self._request.encode(rows)
            status, answer = self._exchange("POST", f"{self._path}/infer", body)
            if status in _ABOUT_THE_ROWS and self._refused_in_a_row < MAX_REFUSED:
                self._refused_in_a_row += 1
                raise RequestError(_said(status, answer))
            if status != 200:
                raise UnavailableError(_said(status, answer))
            self._refused_in_a_row = 0
            server = self._server
            try:
                return decode_scores(answer, len(rows), server.version, server.output)
            except ResponseError as error:
                raise UnavailableError(str(error)) from error

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Leave to ask, and what is learnt from how it went."""
        with self._lock:
            ticket = self._breaker.admit(self._clock.monotonic_ns())
        if ticket is None:
            raise UnavailableError(f"not asked, {FAILURES} requests in a row failed: {self._why}")
        answered = False
        try:
            yield
            answered = True
        except RequestError:
            answered = True
            raise
        except UnavailableError as error:
            self._why = str(error)
            raise
        finally:
            with self._lock:
                self._breaker.settle(ticket, self._clock.monotonic_ns(), succeeded=answered)

    def _exchange(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer, within the time that one request has.

        Asked once more if the server hung up, which it may do to a kept connection at any time,
        and if it takes the secrets no longer and there are new ones.
        """
        import httpx

        deadline_ns = self._clock.monotonic_ns() + self._server.timeout_ms * 1_000_000
        try:
            status, answer = self._once_or_again(method, path, body, deadline_ns)
            if status in _ABOUT_US and self._secrets.read_again():
                status, answer = self._once(method, path, body, deadline_ns)
        except httpx.TimeoutException as error:
            raise UnavailableError(f"no answer within {self._server.timeout_ms} ms") from error
        except httpx.ConnectError as error:
            raise UnavailableError(f"cannot connect: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = str(error) or type(error).__name__
            raise UnavailableError(f"the connection broke: {problem}") from error
        return status, answer

    def _once_or_again(
        self, method: str, path: str, body: bytes, deadline_ns: int
    ) -> tuple[int, bytes]:
        import httpx

        try:
            return self._once(method, path, body, deadline_ns)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return self._once(method, path, body, deadline_ns)

    def _once(self, method: str, path: str, body: bytes, deadline_ns: int) -> tuple[int, bytes]:
        headers = {**self._secrets.headers, "accept": "application/json"}
        if body:
            headers["content-type"] = "application/json"
        answer = bytearray()
        with self._client.stream(
            method, path, content=body, headers=headers, timeout=self._left_s(deadline_ns)
        ) as response:
            for piece in response.iter_bytes():
                answer += piece
                self._left_s(deadline_ns)
                if len(answer) > MAX_ANSWER_BYTES:
                    raise UnavailableError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return response.status_code, bytes(answer)

    def _left_s(self, deadline_ns: int) -> float:
        """How long may still be waited; a server that drips has no more time than others."""
        import httpx

        left_ns = deadline_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            raise httpx.ReadTimeout("the time is over")
        return left_ns * 1e-9


class Secrets:
    """Headers whose values are in the environment or in files.

    Raises ConfigurationError, at `place`, for one that cannot be read.
    """

    def __init__(self, server: RemoteSettings, place: str) -> None:
        self._server = server
        self._place = place
        self.headers = self._read()

    def read_again(self) -> bool:
        """Read all anew; whether any has changed."""
        before = self.headers
        try:
            self.headers = self._read()
        except ConfigurationError as error:
            log.warning("%s", error)
        return self.headers != before

    def _read(self) -> dict[str, str]:
        found = {
            name: self._value(f"headers.{name}", where)
            for name, where in self._server.headers.items()
        }
        if self._server.token is not None:
            found["Authorization"] = f"Bearer {self._value('token', self._server.token)}"
        return found

    def _value(self, setting: str, where: str) -> str:
        kind, _, rest = where.partition(":")
        place = f"{self._place}.{setting}"
        if kind == "env":
            if rest not in os.environ:
                raise ConfigurationError(place, f"no variable `{rest}` in the environment")
            text = os.environ[rest]
        else:
            try:
                text = Path(rest).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "is no text in UTF-8"
                raise ConfigurationError(place, f"file {rest} cannot be read: {reason}") from None
        if not text.isascii() or not text.isprintable():
            raise ConfigurationError(place, "its value is not one line of ASCII")
        return text


def _client(server: RemoteSettings, place: str) -> "httpx.Client":
    """A pool of connections; nothing of the environment decides where they lead."""
    import httpx

    # It tells of every request at the level that is ours for what an operator wants to know.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    verify: ssl.SSLContext | bool = True
    try:
        if server.ca or server.certificate:
            verify = ssl.create_default_context(cafile=server.ca or None)
            if server.certificate:
                verify.load_cert_chain(server.certificate, server.key or None)
    except OSError as error:  # of which ssl.SSLError is one
        raise ConfigurationError(place, f"its certificates cannot be read: {error}") from error
    limits = httpx.Limits(
        max_connections=server.connections,
        max_keepalive_connections=server.connections,
        keepalive_expiry=_KEEP_IDLE_S,
    )
    return httpx.Client(base_url=server.url, verify=verify, limits=limits, trust_env=False)


def _let_go(pool: ThreadPoolExecutor, client: "httpx.Client") -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    client.close()


def _said(status: int, body: bytes) -> str:
    text = error_text(body)
    return f"HTTP {status}" + (f": {text}" if text else "")
