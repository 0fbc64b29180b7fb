"""What ``from genkt.execution import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .ranks import (
    Processes as Processes,
)
from .run_tasks import (
    run_tasks as run_tasks,
)
from .tasks import (
    ExecutorSettings as ExecutorSettings,
    ShardTask as ShardTask,
)
