"""A Ray cluster of two nodes on this machine, one of which is killed: the same set, byte for byte.

    python benchmarks/ray_two_nodes.py [synthesize | retrieve] [--images 120] [--shard-size 10]

One process synthesizes a set (or retrieves one, from 100 glyphs an image). A cluster of two nodes
with a core each makes it again; as soon as both nodes are at work and some shards are finished, one
node is killed without warning: while images are made, or while the gallery is embedded. Ray
listens on all network interfaces; where that must not be, run it without a network:

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

OF_THE_COMMAND = {"config.yaml", "run.json", "README.md", "contact_sheet.html"}
"""Files that tell how and where a set was made; logs tell when."""
GLYPHS_AN_IMAGE = 100
SOON_MISSED = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
"""A node that does not answer five times is given up: after 3 seconds instead of 20."""


def content(root: Path) -> dict[str, bytes]:
    """Every file of a set that tells what it holds."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    named = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {
        name: data
        for name, data in named.items()
        if name not in OF_THE_COMMAND and not name.endswith(".log")
    }


def make(command: str, asked: argparse.Namespace, out: Path, **executor: str) -> None:
    """Synthesize or retrieve a set."""
    import genkt

    words: dict[str, Any] = {"num_images": asked.images, "device": "cpu", "out": str(out)}
    words |= {"executor": executor} if executor else {}
    if command == "synthesize":
        genkt.synthesize(**words, shard_size=asked.shard_size)
        return
    glyphs = {"num_images": GLYPHS_AN_IMAGE * asked.images}
    size = GLYPHS_AN_IMAGE * asked.shard_size
    genkt.retrieve(**words, glyphs=glyphs, shard_size=size, store=str(out.with_suffix(".store")))


def main() -> int:
    """Make both sets and compare them; returns 0 where they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices = ["synthesize", "retrieve"]
    parser.add_argument("command", nargs="?", default="synthesize", choices=choices)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--shard-size", type=int, default=10)
    asked = parser.parse_args()
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as home:
        one, two = Path(home, "one"), Path(home, "two")
        make(asked.command, asked, one)
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": SOON_MISSED}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        node = cluster.add_node(num_cpus=1)
        finished: list[int] = []
        killer = threading.Thread(target=kill_at_work, args=(cluster, node, Path(home), finished))
        killer.start()
        make(asked.command, asked, two, name="ray", address=cluster.address)
        killer.join()
        cluster.shutdown()
        first, second, total = content(one), content(two), num_finished(Path(home))
    same = first == second
    print(
        f"killed a busy node at {finished[0]} of {total} shards; {len(second)} files, "
        + ("identical" if same else "NOT identical")
    )
    return 0 if same and finished[0] < total else 1


def num_finished(home: Path) -> int:
    """Shards of the second set, and of the embeddings it was found with."""
    made = list(home.glob("two/shards/*.json"))
    return len(made + list(home.glob("two.store/**/shards/*.json")))


def kill_at_work(cluster: Any, node: Any, home: Path, finished: list[int]) -> None:
    """Kill the node while both work; appends how many shards were finished then."""
    import ray

    while (
        not ray.is_initialized() or not num_finished(home) or ray.available_resources().get("CPU")
    ):
        time.sleep(0.01)
    finished.append(num_finished(home))
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    sys.exit(main())
