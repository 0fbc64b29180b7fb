"""A text stays as it was typed, wherever it is typed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from refusals import refused
from tiny import run

from genkt.cli.app import run_command, values_of
from genkt.cli.positional import with_positionals
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.config.cache_settings import CacheConfig
from genkt.config.command_settings import EvaluateConfig, InspectConfig, PredictConfig
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.io import write_text
from genkt.settings.assignments import Assignment, assignments
from genkt.settings.written import as_values, kept, read_yaml, write_yaml
from genkt.types import UserError

LOOK_LIKE_OTHERS = [
    "2024_11_30", "2024-11-30", "1e3", "1_000", "0x10", "010", "1:30", "yes", "no", "on", "off",
    "True", "NULL", "~name", "nan", ".inf", "1.", "1.50", " 1 ", "+1", "[a]", "{a: b}", "[", "}",
    "a,b", "a=b", "a:b", "a # b", "it's", 'a"b', "a\\", "\\", "${oc.env:HOME}", "${", "\\${a}",
    "a b\\${x}${y", "日本", "int(3)", "choice(a,b)", "%1", "@x", "!x", "&x", "*x", "- a", "? a",
    "\ue000[1]", "${a", "}${", "a: b", "|", ">",
]  # fmt: skip
TEXTS = st.sampled_from(LOOK_LIKE_OTHERS) | st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1
)


def typed(text: str) -> None:
    """What is not taken as it is: nothing at all, null, a value to come, a text in quotes."""
    assume(text.strip() and text not in ("null", "???"))
    stripped = text.strip()
    assume(not (stripped[0] == stripped[-1] and stripped[0] in "'\"" and len(stripped) > 1))
    assume(not text.startswith("~/"))


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_a_text_on_the_command_line_arrives_as_it_is(text: str) -> None:
    typed(text)
    config = read_config(InspectConfig, "inspect", [f"set={text}", f"out={text}"])
    assert (config.set, config.out) == (text, text)


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS)
def test_a_bare_word_and_a_python_value_arrive_as_they_are(text: str, other: str) -> None:
    typed(text)
    typed(other)
    assume("=" not in text + other and not (text + other).startswith("-") and other[0] != "-")
    words = with_positionals([text, other, text], "run", "images")
    config = read_config(PredictConfig, "predict", words)
    assert (config.run, config.images) == (text, [other, text])
    said = assignments({"run": text, "images": [other]})
    config = read_config(PredictConfig, "predict", said)
    assert (config.run, config.images) == (text, [other])


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.recursive(TEXTS | st.integers() | st.booleans() | st.none(), st.lists))
def test_a_file_of_settings_reads_as_it_was_written(text: str, value: Any) -> None:
    assume("???" not in json.dumps(["a", text, value]))
    written = {"out": text, "several": [text, value]}
    with tempfile.TemporaryDirectory() as folder:
        path = write_text(Path(folder) / "x.yaml", write_yaml(written))
        found = OmegaConf.to_container(OmegaConf.create(read_yaml(path)), resolve=True)
    assert as_values(kept(found)) == written


NOT_PLAIN = {"[a]", "{a: b}", "\\${a}", "|", ">", "a b\\${x}${y"}
"""Something else in a file of YAML."""


@pytest.mark.parametrize("text", [text for text in LOOK_LIKE_OTHERS if text not in NOT_PLAIN])
def test_a_file_of_the_users_keeps_texts_and_numbers(text: str, tmp_path: Path) -> None:
    lines = [f"set: {json.dumps(text)}", f"out: {text}", "check: yes", "examples: 0x10"]
    try:
        (tmp_path / "a.yaml").write_text("\n".join(lines), encoding="utf-8")
        read_yaml(tmp_path / "a.yaml")
    except UserError:  # no plain text in YAML
        (tmp_path / "a.yaml").write_text("\n".join([lines[0], "out: ~", *lines[2:]]))
    words = ["--config-dir", str(tmp_path), "--config-name", "a"]
    if "${" in text:
        with pytest.raises(UserError):
            read_config(InspectConfig, "inspect", words)
        return
    found = read_config(InspectConfig, "inspect", words)
    assert found.set == text and found.out in (text, None, text.strip(), text.partition(" #")[0])
    assert found.check is True and found.examples == 16


@pytest.mark.parametrize("text", ["1e3", "010", "2024_11_30", "yes", "NULL"])
def test_a_list_and_a_sweep_keep_texts(text: str) -> None:
    config = read_config(PredictConfig, "predict", ["run=r", f"images=[{text}, '{text}',a]"])
    assert config.images == [text, text, "a"]
    jobs = [["set=s", job] for job in values_of(Assignment("out", f"{text},a=b"))]
    assert [read_config(InspectConfig, "inspect", job).out for job in jobs] == [text, "a=b"]


def test_a_sweep_runs_on_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through hydra, job by job."""
    monkeypatch.chdir(tmp_path)
    found = []

    def task(config: EvaluateConfig) -> float:
        found.append((config.output, config.seed))
        return 0.0

    words = ["-m", "model=embedded", "data=digits", "output=1e3,0x10,a=b,${x}", "seed=+1,2"]
    run_command(EvaluateConfig, "evaluate", words, task)
    assert found == [(text, seed) for text in ("1e3", "0x10", "a=b", "${x}") for seed in (1, 2)]


def test_a_sweep_goes_over_choices_and_open_mappings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []

    def task(config: TransferConfig) -> None:
        found.append((config.method.name, config.student.args, config.student.model, config.seed))

    words = ["-m", "method=stl,aft", "student=resnet18", "student.args.a=1,2", "+student.args.b=x"]
    run_command(TransferConfig, "transfer", [*words, "seed=7"], task)
    args = [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    assert found == [(name, each, "resnet18", 7) for name in ("stl", "aft") for each in args]


def test_null_is_none_where_it_may_be_and_quotes_make_it_a_text() -> None:
    read = lambda *words: read_config(InspectConfig, "inspect", ["set=s", *words])  # noqa: E731
    assert read("out=null").out is None and read("out='null'").out == "null"
    assert read("out=NULL").out == "NULL" and read("out='a b'").out == "a b"
    ran = run("inspect", "set=null")
    assert ran.code == 2 and "set: expected a text, got null" in ran.err


@pytest.mark.parametrize("empty", ["''", '"  "'])
def test_an_empty_text_is_refused(empty: str) -> None:
    ran = run("inspect", "set=s", f"out={empty}")
    assert ran.code == 2 and "out: expected a text that is not empty" in ran.err


def test_numbers_stay_numbers() -> None:
    words = ["data=digits", "teacher=embedded", "batch_size=1_0", "seed=+7"]
    config = read_config(CacheConfig, "cache", words)
    assert (config.batch_size, config.seed) == (10, 7)


def test_a_sweep_has_its_folder_where_out_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []

    def task(config: AnalyzeConfig) -> None:
        found.append(config.out)

    words = ["-m", "models=[embedded]", "data=digits", "out=1e3,a", "seed=1"]
    run_command(AnalyzeConfig, "analyze", words, task)
    assert [Path(str(out)).relative_to(tmp_path) for out in found] == [Path("1e3/0"), Path("a/1")]


def test_a_resolver_in_a_file_is_refused_and_a_reference_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    words = ["--config-dir", str(tmp_path), "--config-name", "a"]
    for secret in ("${oc.env:HOME}", "${${out}:HOME}", "a ${oc.decode:1}"):
        path.write_text(f"set: '{secret}'\nout: x\ncheck: false\nexamples: 0\n")
        with refused("set", "${KEY}"):
            read_config(InspectConfig, "inspect", words)
    path.write_text("set: '${out}/b'\nout: x\ncheck: false\nexamples: 0\n")
    assert read_config(InspectConfig, "inspect", words).set == "x/b"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("set: s\nout: [a\n", "a.yaml, line 3: expected YAML"),
        ("set: s\nset: t\n", 'a.yaml, line 2: expected YAML: the key "set" stands twice'),
        ("- a\n", "a.yaml: expected settings, key: value, got a list"),
        ("set: s\nout: x\nchek: true\ncheck: true\nexamples: 1\n", "chek: unknown setting. Did"),
    ],
)
def test_faults_of_a_file_say_where(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    ran = run("inspect", "--config-dir", str(tmp_path), "--config-name", "a")
    assert ran.code == 2 and len(ran.lines) == 1 and expected in ran.err, ran.err
