"""Of several nodes that share a cache folder, one fills the arrays and the others open them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "sharing_nodes.py"


def test_nodes_that_share_a_folder_do_not_wait_for_each_other_forever(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    nodes = [
        subprocess.Popen([sys.executable, SCRIPT, tmp_path, str(rank)], stdout=pipe, stderr=pipe, text=True)
        for rank in range(2)
    ]
    try:
        outputs = [node.communicate(timeout=60) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    assert [node.returncode for node in nodes] == [0, 0], outputs
    filler = "filled 0 1 2 3 4 5 6 7 8 9\nsum 45 computed True\n"
    assert sorted(out for out, _ in outputs) == [filler, "sum 45 computed False\n"]
