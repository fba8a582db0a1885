"""A disk that fills up, or output that cannot be written: an error, and the good result stays."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

LIMIT_BYTES = 2000

SETUP = """
import resource, sys, traceback
from pathlib import Path
import numpy as np, torch
import splathead.images
"""

ATTEMPT = """
path = Path(sys.argv[1]) / {name!r}
try:
{body}
except Exception as error:
    print({name!r}, type(error).__name__, error)
"""

WRITERS = {
    "image.png": """
from splathead.images import write_png
write_png(path, np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))""",
    "maps.npz": "from splathead.images import save_maps; save_maps(path, {'alpha': np.ones((99, 99), np.float32)})",
    "data.json": "from splathead.images import write_json; write_json(path, list(range(5000)))",
    "gaussians.ply": """
from splathead.gaussians import Gaussians
from splathead.ply import save_gaussians_ply
rand = torch.rand
save_gaussians_ply(path, Gaussians(rand(99, 3), rand(99, 3), rand(99, 4), rand(99), rand(99, 1, 3)))""",
    "results.csv": """
from splathead.results import ResultRow, write_results
write_results(path, [ResultRow(experiment=f"e{i}", method="m", metric="seconds", unit="s", value=1.0) for i in range(200)])""",
    "mesh.ply": """
import trimesh
from splathead.fusion.files import save_mesh
from splathead.fusion.surface import FusedMesh
ball = trimesh.creation.icosphere(4)
save_mesh(path, FusedMesh(ball.vertices, ball.faces, np.zeros((len(ball.vertices), 3), np.uint8)), scale="metric")""",
    "weights.safetensors": """
from splathead.checkpoints import save_weights
save_weights(path, {"w": torch.rand(5000)}, {})""",
}


def test_running_out_of_space_keeps_the_good_files(tmp_path):
    for name in WRITERS:
        (tmp_path / name).write_bytes(b"good")
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES}))\n"
    attempts = [ATTEMPT.format(name=name, body=textwrap.indent(body.strip(), "    ")) for name, body in WRITERS.items()]
    script = SETUP + limit + "".join(attempts)
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-800:]
    for name, line in zip(WRITERS, result.stdout.splitlines(), strict=True):
        assert line.startswith(name) and "too large" in line, line  # EFBIG stands for ENOSPC here
    for path in tmp_path.iterdir():
        assert path.name in WRITERS, f"{path.name}: a temporary file was left behind"
        assert path.read_bytes() == b"good", path.name


def test_the_limit_is_what_fails():
    assert LIMIT_BYTES < 4096
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY or soft > LIMIT_BYTES


def test_scripts_turn_it_into_one_clear_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("runs_dir: /proc/nothing-can-be-made-here\n")
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, str(root / "scripts" / "01_collect_heads.py"), "--config", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "error:" in result.stderr and "/proc/nothing-can-be-made-here" in result.stderr and "Traceback" not in result.stderr
