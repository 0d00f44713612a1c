"""Models behind a server, as the configuration and `ensemble check` see them."""

from pathlib import Path

import pytest

from cli.check import findings_of
from cli.configuration import load_settings
from combiner.assembly import members_of
from registry.bundle import LoadedBundle
from streams.errors import ConfigurationError
from streams.settings import Settings
from tests.workers.inference_server import shared_server

FAR = """
[[models]]
name = "far"
{model}
[models.remote]
url = "{url}"
model = "sums"
version = "1"
{remote}
[[workers]]
name = "w"
models = ["far"]
{more}
"""


def write(directory: Path, url: str = "http://h:8080", **texts: str) -> Path:
    path = directory / "ensemble.toml"
    path.write_text(FAR.format(url=url, **{"model": "", "remote": "", "more": "", **texts}))
    return path


def load(directory: Path, **texts: str) -> Settings:
    return load_settings(write(directory, **texts), {})


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (
            {"url": "h:8080"},
            'models.0.remote.url: got "h:8080", expected a URL that begins with http://',
        ),
        (
            {"remote": 'token = "hunter2"'},
            "models.0.remote.token: got a value that is not shown, expected `env:NAME` or `file:",
        ),
        (
            {"remote": '[models.remote.headers]\nX-A = "hunter2"'},
            "models.0.remote.headers.X-A: got a value that is not shown, expected `env:NAME`",
        ),
        ({"remote": "timeout = 5"}, "models.0.remote.timeout: unknown key; did you mean `time"),
        (
            {"remote": 'key = "k.pem"'},
            "models.0.remote: `key` without `certificate`; expected both",
        ),
        ({"remote": 'ca = "c.pem"'}, "models.0.remote: `ca` and `certificate` need a `url` that"),
        ({"model": 'version = "1"'}, "models.0: `version` beside `remote`; expected it inside"),
        ({"model": "external = true"}, "models.0: both `external` and `remote`; expected at most"),
        (
            {"remote": "timeout_ms = 9000\nmax_rows = 100"},
            "models: the remote `far` may take 45000 ms for a batch, and worker.hang_ms is 10000",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, texts: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **texts)
    [found] = str(caught.value).splitlines()
    assert found.removeprefix(f"{tmp_path}/ensemble.toml: ").startswith(line)
    assert "hunter2" not in found


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    remote = """
token = "file:secrets/token"
ca = "tls/ca.pem"
certificate = "/etc/ssl/own.pem"
[models.remote.headers]
X-A = "env:A"
X-B = "file:b"
"""
    server = load(tmp_path, url="https://h", remote=remote).models[0].remote
    assert server is not None
    assert server.token == f"file:{tmp_path}/secrets/token"
    assert server.ca == f"{tmp_path}/tls/ca.pem"
    assert server.certificate == "/etc/ssl/own.pem"
    assert server.headers == {"X-A": "env:A", "X-B": f"file:{tmp_path}/b"}
    assert server.key == ""


def test_the_combiner_expects_the_pinned_version(tmp_path: Path, bundle: LoadedBundle) -> None:
    [member] = members_of(load(tmp_path), bundle.manifest)
    assert (member.name, member.version) == ("far", "1")


@pytest.mark.parametrize(
    ("changes", "ok", "detail"),
    [({}, True, "ready, version 1"), ({"sums": "absent"}, False, "not ready: HTTP 404")],
)
def test_check_asks_whether_the_server_is_ready(
    tmp_path: Path, bundle: LoadedBundle, changes: dict[str, str], ok: bool, detail: str
) -> None:
    path = write(tmp_path, shared_server().url, more=f'[ensemble]\nbundle = "{bundle.directory}"')
    for old, new in changes.items():
        path.write_text(path.read_text().replace(old, new))
    finding = next(each for each in findings_of(path) if each.check == "model far")
    assert finding.ok == ok
    assert detail in finding.detail
    assert ok or finding.exit_code == 8
