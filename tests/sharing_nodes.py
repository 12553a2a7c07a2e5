"""Fills the arrays of a cache as one of two nodes that share its folder: ``sharing_nodes.py FOLDER RANK``.

Prints who filled which items, and the arrays' sum.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch.distributed as dist

from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import NodeGroup
from effnet_ft.distributed.shared_arrays import ArraySpec, open_or_fill
from effnet_ft.utils.array_cache import ArrayCache

ITEMS = 10


def plan() -> dict[str, ArraySpec]:
    return {"numbers": ArraySpec("key", (ITEMS,), "int64", "numbers")}


def fill(arrays: Mapping[str, np.ndarray], group: NodeGroup) -> None:
    share = group.share(ITEMS)
    arrays["numbers"][share.start : share.stop] = share
    print("filled", *share)


if __name__ == "__main__":
    folder, rank = sys.argv[1:]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=int(rank), world_size=2)
    collectives.socket.gethostname = lambda: f"node{rank}"  # type: ignore[assignment]
    found, computed = open_or_fill(ArrayCache(Path(folder)), plan, fill, None)
    print("sum", int(found["numbers"].sum()), "computed", computed)
    dist.barrier()
    dist.destroy_process_group()
