"""Run ``genkt`` or a script as it is, then print when its first optimizer step ended.

    python benchmarks/first_step.py genkt transfer ...
    python benchmarks/first_step.py PATH/TO/SCRIPT.py ...

For ``beside_timm.py``. The last line is JSON: the time of that step and the processor time so far.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

if __name__ == "__main__":
    first: dict[str, float] = {}

    def note(*_: Any) -> None:
        if not first:
            first.update(at=time.time(), cpu=time.process_time())

    register_optimizer_step_post_hook(note)
    target = sys.argv.pop(1)
    try:
        if target.endswith(".py"):
            runpy.run_path(target, run_name="__main__")
        else:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
    finally:
        print(f"\n{json.dumps(first)}")
