"""README.md and docs/: their snippets run, their options exist, their tables name everything."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
import yaml
from docs_tools import ROOT, tool

from genkt.cli.main import COMMANDS
from genkt.config.read_config import read_config
from genkt.config.recipe_settings import StagedRecipe
from genkt.config.transfer_settings import TransferConfig
from genkt.methods.build import METHODS
from genkt.settings.words import Words

snippets = tool("snippets")
settings_pages = tool("settings_pages")

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = snippets.pages()
_PATH = re.compile(r"[` ]((?:genkt|configs|tools|benchmarks|tests|docs|checkpoints)/[\w./-]*\w)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)?(?:#[^)]*)?\)")


def names_in(page: str) -> list[str]:
    """The first column of the first table of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    table = text.partition("\n| ")[2].partition("\n\n")[0]
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_tables_name_every_method_recipe_experiment_and_transfer_set() -> None:
    assert sorted(names_in("methods.md")) == sorted(METHODS)
    assert sorted(names_in("recipes.md")) == Words().choices("recipe")
    assert sorted(names_in("papers.md")) == Words().choices("experiment")
    assert sorted(names_in("transfer-sets.md")) == Words().choices("transfer_set")
    counted = re.search(r"\[(\d+) methods\].*\[(\d+) recipes\]", README)
    assert counted is not None
    assert [int(number) for number in counted.groups()] == [
        len(METHODS),
        len(Words().choices("recipe")),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_are_sound(page: Path, tmp_path: Path) -> None:
    """Options that exist, Python that runs; make docs checks more (see ``tools/snippets.py``)."""
    snippets.make_world(tmp_path)
    assert snippets.page_faults(page, tmp_path, slow=False) == []


def test_every_python_block_says_whether_it_runs() -> None:
    blocks = [block for page in PAGES for block in snippets.blocks(page)]
    python = [block for block in blocks if block.language == "python"]
    assert [str(b) for b in python if len({"run", "slow", "shown"} & set(b.marks)) != 1] == []
    assert sum("run" in block.marks for block in python) >= 5


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("genkt transfer method.betta=3", "method.betta"),
        ("genkt transfer method=aftt", "method=aftt"),
        ("genkt transfer ... train.precision=bf17", "train.precision"),
        ("torchrun --nproc-per-node 2 -m genkt retrieve gallry=x", "gallry"),
        ("genkt compare studdy=methods", "studdy"),
        ("genkt teach data=digits", "teach"),
        ("python tools/nothing.py", "tools/nothing.py"),
        ('pip install "genkt[nothing]"', "nothing"),
    ],
)
def test_a_stale_option_is_found(line: str, fault: str) -> None:
    block = snippets.Block(ROOT / "README.md", 1, "sh", (), f"{line}\n")
    (found,) = snippets.shell_faults(block, slow=False)
    assert fault in found


def test_python_that_fails_or_imports_nothing_is_found(tmp_path: Path) -> None:
    for text, word in (
        ("import genkt\ngenkt.tranfer()\n", "tranfer"),
        ("from genkt.io import nothing\n", "nothing"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("(\n", "never closed"),
    ):
        page = tmp_path / "page.md"
        page.write_text(f"```python run\n{text}```\n")
        block = snippets.Block(ROOT / "README.md", 1, "python", ("run",), text)
        found = snippets.import_faults(block) or snippets._run_python(block, {})
        assert word in found[0]


def test_every_link_leads_somewhere() -> None:
    generated = {f"configuration/{name}" for name in settings_pages.names()}
    lost = []
    for page in PAGES:
        for target in filter(None, _LINK.findall(page.read_text(encoding="utf-8"))):
            place = (page.parent / target).resolve()
            if not place.exists() and place.relative_to(DOCS).as_posix() not in generated:
                lost.append(f"{page.relative_to(ROOT)}: {target}")
    assert lost == []


def test_every_path_that_is_named_is_there() -> None:
    """Of files and folders of the repository; those of examples and patterns are no such."""
    lost = []
    for page in PAGES:
        for path in _PATH.findall(page.read_text(encoding="utf-8")):
            example = any(word in path for word in ("centred", "named", "NAME"))
            if not example and not (ROOT / path).exists():
                lost.append(f"{page.relative_to(ROOT)}: {path}")
    assert lost == []


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    nav = re.findall(r"[\w/-]+\.md", text)
    own = {path.relative_to(DOCS).as_posix() for path in PAGES if path.is_relative_to(DOCS)}
    assert sorted(nav) == sorted(
        own
        | {"index.md", "changelog.md"}
        | {f"configuration/{name}" for name in settings_pages.names()}
    )


def test_the_reference_names_what_exists() -> None:
    """Objects and modules that mkdocstrings shows."""
    names = [
        name
        for page in sorted((DOCS / "api").glob("*.md"))
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 30
    assert [name for name in names if pkgutil.resolve_name(name).__doc__ is None] == []


def test_the_configuration_reference_holds_every_setting() -> None:
    page = settings_pages.command_page("transfer")
    row = next(line for line in page.splitlines() if line.startswith("| `train.warmup`"))
    assert row == "| `train.warmup` | `0.1` | number 0 .. 1 | share of the steps |"
    assert "| `device` | `auto` | auto, cpu, cuda |  |" in page
    pages = {group: settings_pages.group_page(group, hint) for group, hint in GROUPS.items()}
    assert "| `method.mu_lr` | `0.01` | number above 0, at most 1000 |" in pages["method"]
    assert "## do: soup" in pages["recipe"]
    for command in COMMANDS:
        for key, default in yaml_leaves(command):
            text = settings_pages.command_page(command)
            assert f"| `{key}` | {f'`{default}`' if default else ''} |" in text, (command, key)


GROUPS = settings_pages.groups()


def yaml_leaves(command: str) -> list[tuple[str, str]]:
    """(dotted key, default as written) of a command's own file."""
    path = settings_pages.CONFIGS / f"{command}.yaml"
    said = settings_pages.written(path)
    own = set(yaml.safe_load(path.read_text(encoding="utf-8"))) - {"defaults"}
    return [(key, text) for key, text in said.defaults.items() if key.split(".")[0] in own]


def test_the_recipe_of_ones_own(tmp_path: Path) -> None:
    (block,) = [b for b in snippets.blocks(DOCS / "recipes.md") if b.file is not None]
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(block.text, encoding="utf-8")
    words = ["recipe=mine", "--config-dir", str(tmp_path)]
    recipe = read_config(TransferConfig, "transfer", words).recipe
    assert isinstance(recipe, StagedRecipe)
    assert list(recipe.stages) == ["adapt", "features", "distil", "finetune", "surest"]
    assert recipe.adaptation == "better"
    own = {name: stage.method.name for name, stage in recipe.distils.items() if stage.method}
    assert own == {"features": "aft", "surest": "kl_dp"}
