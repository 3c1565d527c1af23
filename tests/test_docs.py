"""Commands, settings, variants, links and make targets in the documentation exist.

Commands are not run and need no weights: their flags are parsed, their configs loaded, and the settings checked.
"""

import ast
import builtins
import collections
import importlib
import json
import re
from pathlib import Path

import pytest

from codegraph_jax.commands.launch import task_settings
from codegraph_jax.commands.registry import TASKS
from codegraph_jax.core.errors import UserError
from tests.support import ROOT
from tests.support.documented import CONFIGS, PAGES, check_command, commands_in, config_name

FOLDERS = ("codegraph_jax", "contrastive_jax", "benchmarks", "studies", "configs", "tests")


def documented_commands():
    for page in [*PAGES, *CONFIGS]:
        for name, words in commands_in(page.read_text(encoding="utf-8")):
            yield pytest.param(name, words, id=f"{page.name}: {' '.join([name, *words])[:90]}")


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name,words", list(documented_commands()))
def test_commands_parse_and_their_settings_pass(name, words):
    check_command(name, words)


def test_every_config_states_its_command():
    for config in CONFIGS:
        stated = [config_name(*command) for command in commands_in(config.read_text(encoding="utf-8"))]
        assert config.stem in [Path(name.partition(":")[0]).stem for name in stated], f"{config.name} states no command"
    assert len(list(documented_commands())) > 2 * len(CONFIGS), "the pages have commands too"


@pytest.mark.parametrize(
    "command",
    (
        "--config=configs/absent.py",
        "--config=configs/folder.py:absent",
        "--config=configs/folder.py --config.data.rooot=x",
        "--config=configs/folder.py --config.precision=float8",
        "--config=configs/folder.py --config.threshold.rule=rate:200%",
        "--config=configs/folder.py --no_such_flag=1",
    ),
)
def test_wrong_commands_are_noticed(command):
    with pytest.raises(UserError):
        check_command("", command.split())


def test_settings_on_the_pages_have_flags():
    known = {path for task in TASKS for path in task_settings(task)}
    groups = {path.rpartition(".")[0] for path in known}
    for page in [*PAGES, *CONFIGS]:
        named = re.findall(r"--(?:no)?config\.([a-z_.]*[a-z])", page.read_text(encoding="utf-8"))
        assert set(named) <= known | groups, f"{page.name}: {sorted(set(named) - known - groups)}"


def test_commands_over_several_lines_are_one():
    text = "    python main.py --config=configs/folder.py \\\n        --config.data.root=/a\n"
    assert commands_in(text) == [("", ["--config=configs/folder.py", "--config.data.root=/a"])]
    assert commands_in("`python main.py --config=configs/demo.py`. No labels") == [("", ["--config=configs/demo.py"])]
    assert commands_in("python main.py --config=configs/benchmark.py     (all parts)") == [
        ("", ["--config=configs/benchmark.py"])
    ]


def anchors(page):
    """The anchor of a heading of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        assert there.is_relative_to(ROOT), f"{page.name}: {target} leaves the repository"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`make ([\w-]+)`", text) + re.findall(r"^\s*make ([\w-]+)", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"`((?:examples|{'|'.join(FOLDERS)})/[\w/.]+\.py)", text):
        assert (ROOT / name).is_file(), f"{page.name}: {name}"
    written = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"`(test_\w+)`", text)):
        assert f"def {name}(" in written, f"{page.name}: {name}"


CITATION = re.compile(r'((?:[\w-]+/)*\w+\.md)(?: sections? ((?:[\d.]+(?:,| and|) ?)+))?(?:,\s+(?:# )?"([^"]+)")?')
"""A page by its path, and perhaps its sections, by number or by title: `docs/method.md section 4.2`, `docs/method.md
sections 4.3 and 4.4`, `benchmarks/log/line.md, "Compact bank"`."""

WRITTEN = {"table.md", "reproduce.md"}
"""Pages that commands write."""
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_pages_that_the_code_cites_exist_with_their_sections():
    cited = 0
    for source in SOURCES:
        if source == Path(__file__):
            continue
        for name, sections, title in CITATION.findall(source.read_text(encoding="utf-8")):
            if name in WRITTEN:
                continue
            page = next((p for p in (ROOT / name, ROOT / "docs" / name) if p in PAGES), None)
            assert page, f"{source.relative_to(ROOT)} cites {name}"
            text = page.read_text(encoding="utf-8")
            if title:
                titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
                assert " ".join(title.split()) in titles, f"{source.relative_to(ROOT)} cites {name}, {title!r}"
                cited += 1
            numbers = set(re.findall(r"^#+ ([\d.]+) ", text, re.MULTILINE))
            for section in re.findall(r"\d+(?:\.\d+)*", sections):
                assert section in numbers, f"{source.relative_to(ROOT)} cites {name} section {section}"
                cited += 1
    assert cited > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_exist(page):
    files = [str(p.relative_to(ROOT)) for p in SOURCES] + ["main.py"]
    for name in re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert any(file == name or file.endswith(f"/{name}") for file in files), f"{page.name}: {name}"


CLAUSE = re.compile(r"(?:^|[.:;,]\s+|\band\s+)(?:what|whatever|whoever)\b|(?:^|[.:;]\s+)who\b", re.IGNORECASE)
"""A clause in place of a noun, such as "what is not ours"."""


def test_docstrings_and_names_of_tests_have_nouns_in_place_of_clauses():
    """Docstrings of all modules; in tests also those of functions, and the names of tests."""
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        nodes = [tree]
        if source.is_relative_to(ROOT / "tests"):
            nodes += [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for node in nodes:
            found = CLAUSE.search(ast.get_docstring(node) or "")
            assert not found, f"{source.relative_to(ROOT)}, line {getattr(node, 'lineno', 1)}: {found}"
            assert not re.match(r"test_\w*(what|whoever)", getattr(node, "name", "")), node.name


def test_clauses_are_found():
    clauses = (
        "What is kept.",
        "Banks: what a pool keeps.",
        "Photos, whatever their size.",
        "Keys, and what they mean.",
    )
    assert all(CLAUSE.search(text) for text in clauses)
    assert not CLAUSE.search("Raises an error that says what to do; root, who may write everywhere.")


YOURS = {"images", "layer_a", "layer_b", "others", "outliers", "pooled", "tf_dataset", "torch_dataset"}
"""Names on the pages that stand for the reader's own data."""
SECTIONS = {
    f"{page.name}: {section.splitlines()[0]}": "".join(re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.M))
    for page in PAGES
    for section in re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if "\n```python\n" in section
}
"""The Python code of each section."""


@pytest.mark.parametrize("section", SECTIONS)
def test_python_on_the_pages_has_its_names(section):
    tree = ast.parse(SECTIONS[section])
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    known = {*YOURS, *dir(builtins), *(node.id for node in names if isinstance(node.ctx, ast.Store))}
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    known |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in FOLDERS:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
    assert not {node.id for node in names} - known


def test_python_is_found_on_the_pages():
    assert {name.partition(":")[0] for name in SECTIONS} >= {
        "README.md",
        "research.md",
        "oecl.md",
        "results.md",
        "commands.md",
    }


def words(text):
    return [word.strip(";:,.") for word in text.split()]


def texts_of_the_source():
    """The texts in the code as lists of words, with `*` for each value that is filled in."""
    for source in SOURCES:
        if source.is_relative_to(ROOT / "codegraph_jax") or source.is_relative_to(ROOT / "contrastive_jax"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield words("".join(part.value if isinstance(part, ast.Constant) else "*" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield words(re.sub(r"%[.,\d]*[dsrgf]", "*", node.value).replace("%%", "%"))
    for page in (ROOT / "codegraph_jax").glob("*/texts.en.json"):
        yield from (words(re.sub(r"\{\w+\}", "*", text)) for text in json.loads(page.read_text()).values())


def holds(text, part):
    """True if words follow each other in a text, most of them literally; a value at its end may be several words."""
    for start in range(len(text)):
        there = text[start : start + len(part)]
        literal = sum(a == b for a, b in zip(there, part))
        if literal * 2 < len(there) or (len(there) < len(part) and not (literal > 2 and there[-1].endswith("*"))):
            continue
        if all(a == b or re.fullmatch(re.escape(a).replace(r"\*", ".*"), b) for a, b in zip(there, part)):
            return True
    return False


def test_messages_quoted_in_troubleshooting_are_those_of_the_program():
    texts_with = collections.defaultdict(list)
    for text in texts_of_the_source():
        for word in set(text):
            texts_with[word].append(text)
    rows = re.findall(
        r"^\| (`.*?`) \|", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    messages = [message for row in rows for message in re.findall(r"`(.*?)`", row)]
    assert len(messages) > 60
    for message in messages:
        # words with an ellipsis stand for any text, and a message may be put together of several texts
        for part in re.split(r"\S*\.\.\.\S*|[;:] ", message):
            said = words(part)
            known = len(said) < 2 or any(holds(text, said) for word in said for text in texts_with[word])
            assert known, f"{message}: {part}"
