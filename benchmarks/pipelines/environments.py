"""An environment of its own for each peer, with the models' libraries of this one behind it."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REQUIREMENTS = {
    "faust_event": "",
    "faust_take": "",
    "faust_agents": "",
    "quix": "quixstreams==3.28.1",
    "bytewax_collect": "bytewax==0.21.1",
    "ray_serve": "ray[serve]==2.60.0",
    "ray_serve_chunks": "ray[serve]==2.60.0",
}


def interpreter(peer: str, directory: Path) -> Path:
    """A Python that can run the peer; made in `directory` where it is not there yet."""
    requirement = REQUIREMENTS[peer]
    if not requirement:
        return Path(sys.executable)
    place = directory / requirement.partition("==")[0].partition("[")[0]
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, requirement], check=True)
        here = sysconfig.get_paths()["purelib"]
        site = next((place / "lib").glob("python*/site-packages"))
        (site / "of_this_project.pth").write_text(f"{here}\n")
    return python
