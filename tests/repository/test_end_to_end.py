"""From nothing to a student: prime a generator, synthesize a transfer set, distil on it."""

from __future__ import annotations

from pathlib import Path

from prime_cases import prime_words
from tiny import run, transfer_words

from genkt.io import read_json
from genkt.transfer_set.composition import read_transfer_set


def test_prime_then_synthesize_then_transfer(tmp_path: Path) -> None:
    generator = tmp_path / "prime" / "generator"
    primed = run("prime", *prime_words(tmp_path / "prime"))
    assert primed.code == 0, primed.err
    made = run(
        "synthesize", f"images=[{tmp_path / 'upstream'}]", f"generator={generator}",
        "num_images=12", "shard_size=5", "device=cpu", f"out={tmp_path / 'set'}",
    )  # fmt: skip
    assert made.code == 0, made.err
    found = read_transfer_set(tmp_path / "set")
    assert len(found.images) == 12 and found.images.load(0).size == (16, 16)
    distilled = run(
        *transfer_words(
            tmp_path, "transfer_set=saved", f"transfer_set.root={tmp_path / 'set'}",
            "method=logit_kd",
        )
    )  # fmt: skip
    assert distilled.code == 0, distilled.err
    report = read_json(tmp_path / "run" / "report.json")
    assert "synthesized" in str(report["transfer_set"])


def test_each_draw_makes_its_own_set_in_one_command(tmp_path: Path) -> None:
    primed = run("prime", *prime_words(tmp_path / "prime"))
    assert primed.code == 0, primed.err
    words = transfer_words(
        tmp_path, "transfer_set=digg", f"transfer_set.generator={tmp_path / 'prime' / 'generator'}",
        "transfer_set.num_images=6", "method=logit_kd", "data.labels_per_class=2", "draws=2",
    )  # fmt: skip
    ran = run(*words)
    assert ran.code == 0, ran.err
    for draw in ("0", "1"):
        assert len(read_transfer_set(tmp_path / "run" / "transfer_sets" / draw).images) == 6
    again = run(*words)  # a finished run is opened, not repeated
    assert again.code == 0, again.err
