"""A model server over the Open Inference Protocol, and how tests start it.

As a program it is the server: `python -m tests.workers.inference_server`. Each model is a way to
behave. It knows nothing of the product.
"""

import atexit
import json
import math
import ssl
import subprocess
import sys
import threading
from collections import Counter
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent.parent
POISON = 0.125
SECRET = "open sesame"
PROBABILITIES = {"name": "probabilities", "datatype": "FP64"}


def sigmoid_of_sum(row):
    return 1.0 / (1.0 + math.exp(-sum(x for x in row if x is not None and not math.isnan(x))))


def rows_of(inputs):
    """Lists of features, from one tensor [N, F] or from one [N, 1] for each feature."""
    columns = []
    for tensor in inputs:
        count, width = tensor["shape"]
        assert len(tensor["data"]) == count * width, tensor["shape"]
        columns.append([tensor["data"][i * width : (i + 1) * width] for i in range(count)])
    return [[x for part in parts for x in part] for parts in zip(*columns, strict=True)]


def answer(model, request, count):
    """The response of a well-behaved model."""
    scores = [sigmoid_of_sum(row) for row in rows_of(request["inputs"])]
    both = [share for score in scores for share in (1 - score, score)]
    labels = [int(score >= 0.5) for score in scores]
    outputs = [
        {"name": "label", "shape": [len(scores)], "datatype": "INT64", "data": labels},
        {**PROBABILITIES, "shape": [len(scores), 2], "data": both},
    ]
    wanted = [output["name"] for output in request.get("outputs", [])]
    outputs = [output for output in outputs if not wanted or output["name"] in wanted]
    response = {"model_name": model, "model_version": "1", "outputs": outputs}
    return {**response, **({"id": request["id"]} if "id" in request else {})}


class Seen:
    """What has come, from all connections."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: set[tuple[str, int]] = set()
        self.requests: Counter[str] = Counter()
        self.most_rows: Counter[str] = Counter()

    def note(self, client, model, rows) -> int:
        """How many requests this model has had, this one included."""
        with self.lock:
            self.connections.add(client)
            self.requests[model] += 1
            self.most_rows[model] = max(self.most_rows[model], rows)
            return self.requests[model]

    def told(self):
        with self.lock:
            return {
                "connections": len(self.connections),
                "requests": dict(self.requests),
                "most_rows": dict(self.most_rows),
            }


SEEN = Seen()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: apart, the second would wait for the first's acknowledgement.
    wbufsize = -1
    # Seconds an idle connection is kept.
    timeout = 30
    release = threading.Event()
    refusal = 400

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if self.path == "/seen":
            self.say(200, SEEN.told())
        elif parts[:2] == ["v2", "models"] and parts[-1] == "ready":
            ready = parts[2] not in {"absent", "loading"}
            self.say(
                200 if ready else 503 if parts[2] == "loading" else 404,
                {"name": parts[2], "ready": ready} if ready else {"error": f"no {parts[2]} here"},
            )
        else:
            self.say(404, {"error": f"no such path {self.path}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        _, _, model, versions, version, infer = self.path.strip("/").split("/")
        assert (versions, infer) == ("versions", "infer")
        request = json.loads(body)
        count = request["inputs"][0]["shape"][0]
        self.turn = SEEN.note(self.client_address, model, count)
        if version != "1":
            self.say(404, {"error": f"no version {version} of {model}"})
            return
        behaviour = getattr(self, f"as_{model.replace('-', '_')}", None)
        good = answer(model, request, count)
        if behaviour is None:
            self.say(200, good)
        else:
            behaviour(good, request)

    def say(self, status, content, kind="application/json"):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # -- ways to misbehave -----------------------------------------------------------------------

    def as_hangs(self, good, request):
        self.release.wait(30)
        self.say(200, good)

    def as_drips(self, good, request):
        self.send_response(200)
        self.send_header("content-length", "100000")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b" ")
            self.wfile.flush()
            if self.release.wait(0.02):
                return

    def as_broken(self, good, request):
        self.say(503, {"error": "out of\nmemory"})

    def as_page(self, good, request):
        self.say(200, b"<html>Welcome</html>", "text/html")

    def as_cut_short(self, good, request):
        self.say(200, json.dumps(good).encode()[:-20])

    def as_hangs_up(self, good, request):
        self.close_connection = True

    def as_hangs_up_once(self, good, request):
        if self.turn % 2:
            self.close_connection = True
        else:
            self.say(200, good)

    def as_short(self, good, request):
        good["outputs"][1]["data"].pop()
        self.say(200, good)

    def as_other_rows(self, good, request):
        good["outputs"][1].update(shape=[1, 2], data=[0.5, 0.5])
        self.say(200, good)

    def as_text(self, good, request):
        good["outputs"] = [{"name": "label", "shape": [1], "datatype": "BYTES", "data": ["yes"]}]
        self.say(200, good)

    def as_two(self, good, request):
        if "outputs" not in request:
            good["outputs"].append({**good["outputs"][1], "name": "more"})
        self.say(200, good)

    def as_nothing(self, good, request):
        self.say(200, {"model_name": "nothing", "outputs": []})

    def as_successor(self, good, request):
        self.say(200, {**good, "model_version": "2"})

    def as_nan(self, good, request):
        """The first row has no score, said in the way of servers that write NaN into JSON."""
        good["outputs"][1]["data"][1] = math.nan
        self.say(200, good)

    def as_nested(self, good, request):
        data = good["outputs"][1]["data"]
        good["outputs"][1]["data"] = [data[i : i + 2] for i in range(0, len(data), 2)]
        self.say(200, good)

    def as_picky(self, good, request):
        if any(POISON in row for row in rows_of(request["inputs"])):
            self.say(self.refusal, {"error": "not this one"})
        else:
            self.say(200, good)

    def as_picky_inside(self, good, request):
        self.refusal = 500
        self.as_picky(good, request)

    def as_refuses_all(self, good, request):
        self.say(400, {"error": "unexpected datatype"})

    def as_secret(self, good, request):
        if self.headers["authorization"] != f"Bearer {SECRET}" or self.headers["x-tenant"] != "a":
            self.say(401, {"error": "who are you?"})
        else:
            self.say(200, good)

    def as_content_type(self, good, request):
        given = request.get("parameters", {}).get("content_type")
        self.say(200, good) if given == "pd" else self.say(400, {"error": f"got {given}"})

    def log_message(self, *_):
        pass


class Server:
    """The server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.workers.inference_server", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http{'s' if arguments else ''}://127.0.0.1:{self.port}"

    def seen(self) -> dict:
        with urlopen(f"{self.url}/seen") as response:
            return json.loads(response.read())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@cache
def shared_server() -> Server:
    """One server for all tests of the process."""
    server = Server()
    atexit.register(server.stop)
    return server


def main(certificate: str = "", key: str = "", port: str = "0") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
