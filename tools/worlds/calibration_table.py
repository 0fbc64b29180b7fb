"""What was measured in the worlds, as tables in Markdown, and which values generalise.

A value is chosen on the validation images of all worlds but one; its price in that world is the
test accuracy that its best value (on validation images too) would have had more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worlds.calibration import Cell

Worlds = Mapping[str, Sequence[Cell]]
"""World -> its runs."""


@dataclass(frozen=True)
class Question:
    """A question to the runs.

    Args:
        title: of its table.
        keys: the settings that vary.
        fixed: those that are held, and at what; ``best_rate``: rate and temperature are those
            that the world's first phase chose.
        method: of the runs.
    """

    title: str
    keys: tuple[str, ...]
    fixed: Mapping[str, float]
    method: str = "logit_kd"


QUESTIONS = (
    Question("Rate and temperature, 240 steps, no fine-tuning", ("rate", "temperature"),
             {"steps": 240, "labelled": 20, "finetune_steps": 0}),
    Question("Rate, 1000 steps", ("rate",),
             {"steps": 1000, "labelled": 20, "finetune_steps": 0, "temperature": 2}),
    Question("Rate and steps", ("rate", "steps"),
             {"labelled": 20, "finetune_steps": 0, "temperature": 2}),
    Question("Labelled rows of 128, 1000 steps", ("labelled",),
             {"steps": 1000, "finetune_steps": 0, "best_rate": 1}),
    *(Question(f"Fine-tuning after {steps} steps: steps and rate",
               ("finetune_steps", "finetune_rate"),
               {"labelled": 20, "best_rate": 1, "steps": steps}) for steps in (240, 1000)),
    Question("Plain fine-tuning", ("rate", "steps"), {}, "stl"),
)  # fmt: skip

Value = tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """What worlds say to a question.

    Args:
        test, validation: value -> world -> accuracy; a value is here if two worlds have it.
    """

    test: dict[Value, dict[str, float]]
    validation: dict[Value, dict[str, float]]

    @property
    def worlds(self) -> list[str]:
        """Those that were asked."""
        return list(dict.fromkeys(world for own in self.test.values() for world in own))

    @property
    def far(self) -> list[str]:
        """Those that have half of the values or more: they have a say in what is chosen."""
        return [
            world
            for world in self.worlds
            if 2 * sum(world in own for own in self.test.values()) >= len(self.test)
        ]

    def best(self, world: str) -> Value:
        """What its own validation images choose."""
        return max(
            (value for value, own in self.validation.items() if world in own),
            key=lambda value: self.validation[value][world],
        )

    def chosen_without(self, world: str) -> Value | None:
        """The value with the least mean loss on validation images of the other worlds.

        Only values that this world and all others that are ``far`` have count; None: there is none.
        """
        others = [each for each in self.far if each != world]
        full = [value for value, own in self.test.items() if {*others, world} <= {*own}]
        if not others or not full:
            return None
        return min(full, key=lambda value: sum(self._loss(value, each) for each in others))

    def _loss(self, value: Value, world: str) -> float:
        return self.validation[self.best(world)][world] - self.validation[value][world]

    def price(self, world: str) -> float | None:
        """Test accuracy that a world loses by the value of the others; below 0: it gains."""
        value = self.chosen_without(world)
        return None if value is None else self.test[self.best(world)][world] - (
            self.test[value][world]
        )  # fmt: skip


def answer(worlds: Worlds, question: Question) -> Answer:
    """The runs that a question is about; of equal ones the last."""
    found: dict[str, dict[Value, dict[str, float]]] = {"test": {}, "validation": {}}
    for name, cells in worlds.items():
        for cell in cells:
            if not _asked(cell, question, cells):
                continue
            value = tuple(float(cell[key]) for key in question.keys)
            for measure, table in found.items():
                table.setdefault(value, {})[name] = float(cell[measure])
    shared = [value for value, own in sorted(found["test"].items()) if len(own) > 1]
    return Answer(*({value: found[each][value] for value in shared} for each in found))


def _asked(cell: Cell, question: Question, cells: Sequence[Cell]) -> bool:
    if f"method={question.method} " not in f"{cell['key']} ":
        return False
    fixed = dict(question.fixed)
    if fixed.pop("best_rate", None):
        asked = next((each for each in cells if each["phase"] == "finetune"), None)
        if asked is None:
            return False
        fixed |= {key: float(asked[key]) for key in ("rate", "temperature")}
    return all(float(cell[key]) == value for key, value in fixed.items())


def table(worlds: Worlds) -> str:
    """All questions, one table each: a row a value, a column a world, percents."""
    lines = [_teachers(worlds)]
    for question in QUESTIONS:
        found = answer(worlds, question)
        if found.test:
            lines += ["", f"## {question.title}", "", *_rows(question, found)]
    return "\n".join(lines)


def _teachers(worlds: Worlds) -> str:
    shown = [
        f"{name} {float(next(c['teacher'] for c in cells if 'teacher' in c)):.1%}"
        for name, cells in worlds.items()
        if any("teacher" in cell for cell in cells)
    ]
    return "Test accuracy of the teachers as they teach: " + ", ".join(shown)


def _rows(question: Question, found: Answer) -> list[str]:
    names = found.worlds
    rows = [[" / ".join(question.keys), *names], ["---"] * (len(names) + 1)]
    for value, own in found.test.items():
        marks = [f"{100 * own[name]:.1f}" + "*" * (found.best(name) == value) if name in own else ""
                 for name in names]  # fmt: skip
        rows.append([_shown(value), *marks])
    chosen = [found.chosen_without(name) for name in names]
    prices = [found.price(name) for name in names]
    rows.append(["chosen on the others", *("" if v is None else _shown(v) for v in chosen)])
    rows.append(["its price", *("" if p is None else f"{100 * p:.1f}" for p in prices)])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _shown(value: Value) -> str:
    return " / ".join(f"{each:g}" for each in value)
