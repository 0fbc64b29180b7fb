"""A Ray cluster of two nodes on this machine, one of which is killed: the same set, byte for byte.

    python benchmarks/ray_two_nodes.py [--images 120] [--shard-size 10]

One process synthesizes a set. A cluster of two nodes with a core each makes it again; as soon as
both nodes are at work and some shards are finished, one node is killed without warning. Ray listens
on all network interfaces; where that must not be, run it without a network:

    unshare -rn sh -c "ip link set lo up; python benchmarks/ray_two_nodes.py"
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

OF_THE_COMMAND = {"config.yaml", "run.json", "README.md", "contact_sheet.html", "synthesize.log"}
"""Files that tell how, where and when a set was made."""


def content(root: Path) -> dict[str, bytes]:
    """Every file of a set that tells what it holds."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    named = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {name: data for name, data in named.items() if name not in OF_THE_COMMAND}


def main() -> int:
    """Make both sets and compare them; returns 0 where they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--shard-size", type=int, default=10)
    asked = parser.parse_args()
    from ray.cluster_utils import Cluster

    import genkt

    with tempfile.TemporaryDirectory() as home:
        words: dict[str, Any] = {
            "num_images": asked.images, "shard_size": asked.shard_size, "device": "cpu",
        }  # fmt: skip
        genkt.synthesize(**words, out=f"{home}/one")
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        node = cluster.add_node(num_cpus=1)
        finished: list[int] = []
        killer = threading.Thread(
            target=kill_at_work, args=(cluster, node, Path(home, "two", "shards"), finished)
        )
        killer.start()
        executor = {"name": "ray", "address": cluster.address}
        genkt.synthesize(**words, out=f"{home}/two", executor=executor)
        killer.join()
        cluster.shutdown()
        one, two = content(Path(home, "one")), content(Path(home, "two"))
    total = -(-asked.images // asked.shard_size)
    same = one == two
    print(
        f"killed a busy node at {finished[0]} of {total} shards; {len(two)} files, "
        + ("identical" if same else "NOT identical")
    )
    return 0 if same and finished[0] < total else 1


def kill_at_work(cluster: Any, node: Any, shards: Path, finished: list[int]) -> None:
    """Kill the node while both work; appends how many shards were finished then."""
    import ray

    def done() -> int:
        return len(list(shards.glob("*.json")))

    while not ray.is_initialized() or not done() or ray.available_resources().get("CPU"):
        time.sleep(0.01)
    finished.append(done())
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    sys.exit(main())
