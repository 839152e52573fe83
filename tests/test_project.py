"""The project as a whole: its files agree with each other, and the library keeps to its own rules."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from course_lib.badges import badge_markdown, clone_cell, repository, rewrite_badges

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIBRARY = sorted((ROOT / "course_lib").rglob("*.py"))
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = LESSONS + sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))

TOP_LEVEL = {"notebooks", "course_lib", "assets", "tests", "environment.yml", "README.md", "pyproject.toml", "Makefile",
             "LICENSE", ".ci", ".gitignore"}
CARD = ("**Question.**", "**Time.**", "**Before.**", "**After.**")


def name(path: Path) -> str:
    """A file as it is called in messages: its path from the project's root."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tracked() -> list[Path]:
    """Every file that is, or is about to be, under version control."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project cannot be told")
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    return [ROOT / path for path in listed.split("\0") if path and (ROOT / path).is_file()]


# --- packages ---------------------------------------------------------------------------------------------------------

def requirements(*extras: str) -> dict[str, str]:
    """Package -> range for the library and `extras`, with the extras they include."""
    found = {}
    optional = PYPROJECT["project"]["optional-dependencies"]
    lines = itertools.chain(PYPROJECT["project"]["dependencies"], *(optional[extra] for extra in extras))
    for requirement in map(Requirement, lines):
        if requirement.name == "course_lib":
            found |= requirements(*requirement.extras)
        else:
            found[requirement.name] = str(requirement.specifier)
    return found


def test_environment_yml_equals_pyproject():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = {r.name: str(r.specifier) for r in (Requirement(line) for line in listed if isinstance(line, str))}
    assert conda.pop("pip") == ""
    assert {"pip": ["-e ."]} in listed
    wanted = requirements("test") | {"python": PYPROJECT["project"]["requires-python"]}
    wanted["pytorch"] = wanted.pop("torch")
    assert conda == wanted


def test_every_package_the_library_imports_is_declared_and_the_other_way_round():
    package = {"PIL": "pillow", "sklearn": "scikit-learn", "umap": "umap-learn", "IPython": "ipywidgets"}
    imported = {module.partition(".")[0] for path in LIBRARY for module in imports(path)}
    imported = {package.get(top, top) for top in imported - set(sys.stdlib_module_names) - {"course_lib"}}
    undeclared, unused = imported - set(requirements("viz")), set(requirements()) - imported
    assert not undeclared, "imported, but neither a dependency nor in the extra viz"
    assert not unused, "dependencies that nothing imports"


def test_no_lock_file_and_no_address_of_a_package_index():
    address = re.compile(rb"pypi[.]org|pythonhosted[.]org|pytorch[.]org/whl|conda[.]anaconda[.]org|index-ur[l]|"
                         rb"INDEX_UR[L]|find-link[s]|FIND_LINK[S]|tool[.]uv[.]index")
    found = [f"{name(path)}: {match[0].decode()}" for path in tracked() if (match := address.search(path.read_bytes()))]
    assert not found
    assert not [name(path) for path in tracked() if path.suffix == ".lock" or path.name.startswith("requirements")]


def test_only_the_agreed_entries_stand_at_the_top():
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


# --- the README -------------------------------------------------------------------------------------------------------

def test_readme_mentions_only_what_exists():
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link and not link.startswith("#")]
    missing = [link for link in links if not (ROOT / link.partition("#")[0]).exists()]
    missing += [n for n in re.findall(r"\d\d_\w+\.ipynb", README) if not (ROOT / "notebooks" / n).exists()]
    assert not missing, "the README shows or links to what is not there"


def test_readme_names_only_commands_that_exist():
    from course_lib.cli import app

    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test", "lab", "notebooks", "bench"} <= targets
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)) <= targets
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    assert set(re.findall(r"python -m course_lib ([a-z]+)", README)) <= commands


def test_every_badge_and_clone_command_shows_the_one_address(tmp_path):
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *NOTEBOOKS):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    changed = [path.relative_to(tmp_path).as_posix() for path in rewrite_badges(tmp_path)]
    assert not changed, "run `python -m course_lib badges`: these show another address than pyproject.toml"


# --- the notebooks ----------------------------------------------------------------------------------------------------

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=name)


def cells(path: Path, kind: str = "") -> list[dict]:
    """The cells of a notebook whose type starts with `kind`, each with its source as one string."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"].startswith(kind)]


def test_make_demo_finds_the_notebook_and_the_parameter_it_sets():
    lesson = ROOT / "notebooks" / "00_start_here.ipynb"
    tagged = [cell["source"] for cell in cells(lesson, "code") if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1, "papermill wants one cell with the tag `parameters`"
    assert re.search(r"^DATASET\b.*=", tagged[0], re.MULTILINE)


@each_notebook
def test_a_notebook_is_small(path):
    assert path.stat().st_size < 1_000_000
    long = {f"code cell {i}": lines for i, cell in enumerate(cells(path, "code"))
            if (lines := len(cell["source"].splitlines())) > 20}
    assert not long, "a code cell has at most 20 lines"


@each_notebook
def test_a_notebook_opens_on_colab_and_sets_itself_up(path):
    address = repository(ROOT)
    assert badge_markdown(name(path), address) in cells(path)[0]["source"], "the first cell lacks this notebook's badge"
    code = [cell["source"] for cell in cells(path, "code")]
    assert code[0] == clone_cell(address), "the first code cell is not the clone cell"
    assert any("cl.setup(" in source for source in code), "no cell calls cl.setup()"


@each_lesson
def test_a_lesson_has_the_card(path):
    first = cells(path)[0]
    assert first["cell_type"] == "markdown" and first["source"].startswith("# ")
    assert [label for label in CARD if label not in first["source"]] == [], "the card lacks these"


@each_lesson
def test_a_lesson_has_exercises_and_a_notebook_of_solutions(path):
    titles = [cell["source"] for cell in cells(path, "markdown") if re.match(r"#+ Exercise\b", cell["source"])]
    assert len(titles) >= 3, "wanted three cells that start with `### Exercise`"
    assert (path.parent / "solutions" / path.name).exists()


@each_lesson
def test_a_lesson_was_committed_after_one_clean_run(path):
    code = [cell for cell in cells(path, "code") if cell["source"].strip()]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run `make notebooks`"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    assert "step/s" not in json.dumps(outputs), "an output holds a progress bar: run `make notebooks`"
    paths = re.search(r"(?<![\w.:/])/(home|root|Users|tmp|var|work|opt)/[\w./-]+", json.dumps(outputs))
    assert not paths, f"an output shows a path of the machine that ran the notebook: {paths[0]}"


def printed(cell: dict) -> list[str]:
    """The lines of text that a code cell shows."""
    texts = [text for output in cell["outputs"]
             for text in (output.get("text", ""), output.get("data", {}).get("text/plain", ""))]
    return [line for text in texts for line in "".join(text).splitlines()]


def calls(source: str, function: str) -> bool:
    """Whether a cell calls a function of this name, as `claim(...)` or `cl.claim(...)`."""
    return re.search(rf"(?<!\w){function}\(", re.sub(r"#.*", "", source)) is not None


def broken_claims(path: Path) -> list[str]:
    """What cells that claim show with ✗, and those that call `claim` and show no verdict. A function of the notebook
    that calls `claim` claims where it is called, and may say that nothing is decided."""
    code = [(outside_functions(cell["source"]), cell) for cell in cells(path, "code")]
    own = [name for _, cell in code for name, body in FUNCTION.findall(cell["source"] + "\n") if calls(body, "claim")]
    claiming = [cell for source, cell in code if any(calls(source, name) for name in ("claim", *own))]
    silent = [f"no verdict: {cell['source']}" for source, cell in code if calls(source, "claim")
              and not any(line[:2] in ("✓ ", "✗ ") for line in printed(cell))]
    return silent + [line for cell in claiming for line in printed(cell) if line.startswith("✗")]


FUNCTION = re.compile(r"^def (\w+)(.*\n(?:[ \t]+.*\n|\n)*)", re.MULTILINE)


def outside_functions(source: str) -> str:
    """A cell's code without its functions, which print nothing where they are defined."""
    return FUNCTION.sub("", source + "\n")


@each_notebook
def test_every_claim_of_a_notebook_is_borne_out(path):
    assert broken_claims(path) == [], "the text claims what these numbers do not bear out"


@pytest.mark.parametrize(("source", "output", "found"), [
    ("cl.claim('a beats b', cl.runs.compare('a', 'b'))", "✗ a beats b: +0.1 points (-0.9 to 1.1)", 1),
    ("from course_lib import claim\nclaim('a', 1 < 2)", "✓ a: fine\n✗ b: not", 1),
    ("cl.claim('a beats b', cl.runs.compare('a', 'b'))", "✓ a beats b: +5.6 points (4.4 to 6.8)", 0),
    ("cl.claim('a beats b', cl.runs.compare('a', 'b'))", "", 1),
    ("check.rebalance(mine)", "✗ the common bins get the larger weights", 0),
    ("x = 1  # cl.claim(...)", "✗ something else", 0),
    ("def told(what):\n    cl.claim('a', what)\n\n\ntold(1 < 2)", "✗ a: no", 1),
    ("def told(what):\n    cl.claim('a', what)\n\n\ntold(1 < 2)", "undecided: a", 0),
    ("def told(what):\n    cl.claim('a', what)", "", 0),
])
def test_a_claim_that_is_not_borne_out_is_found(source, output, found, tmp_path):
    book = tmp_path / "one.ipynb"
    streams = [{"output_type": "stream", "text": output.splitlines(keepends=True)}]
    book.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source, "outputs": streams}]}))
    assert len(broken_claims(book)) == found


@each_lesson
def test_every_checker_passes_in_the_solutions(path):
    """What the committed outputs say, in a lesson's solutions and, for as many exercises, in the lesson itself."""
    def verdicts(notebook):
        checkers = [cell for cell in cells(notebook, "code") if not calls(cell["source"], "claim")]
        return [line for cell in checkers for line in printed(cell) if line[:2] in ("✓ ", "✗ ", "… ")]

    solved = verdicts(path.parent / "solutions" / path.name)
    assert solved and len(solved) <= len(verdicts(path)), "each exercise ends with a checker, here and in the solutions"
    assert [line for line in solved if line[0] != "✓"] == []


@each_lesson
def test_every_picture_in_a_lesson_is_described(path):
    shown = [output for cell in cells(path, "code") for output in cell["outputs"]
             if "image/png" in output.get("data", {})]
    assert shown, "a lesson without a single picture"
    silent = [output for output in shown if not output["metadata"].get("image/png", {}).get("alt")]
    assert not silent, f"{len(silent)} pictures have no words for a screen reader: show figures of course_lib.viz"


# --- the library ------------------------------------------------------------------------------------------------------

def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it, by its full name; `from a import b` gives `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).parts[:-node.level] if node.level else ()
            module = ".".join([*here, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


# Which parts of the library a part must not import: imports only ever point down.
ABOVE_METHODS = {"train", "evaluate", "viz", "check", "recipes", "cli"}
FORBIDDEN = {
    **dict.fromkeys(("data", "augment", "nets"), ABOVE_METHODS | {"methods", "parts"}),
    "parts": ABOVE_METHODS | {"methods"},
    "methods": ABOVE_METHODS,
    "train": {"methods", "evaluate", "viz", "check", "recipes", "cli"},
    "optim": ABOVE_METHODS | {"methods"},
    "evaluate": {"methods", "viz", "check", "recipes", "cli"},
    "viz": {"methods", "train", "check", "recipes", "cli"},
    "check": {"recipes", "cli"},
    "recipes": {"cli"},
}


def test_imports_only_point_down():
    wrong = {}
    for path in LIBRARY:
        part = path.relative_to(ROOT / "course_lib").with_suffix("").parts[0]
        forbidden = {f"course_lib.{other}" for other in FORBIDDEN.get(part, ())} | {"notebooks", "tests"}
        # methods.base says what every method is; a part that knows no method by name may know that.
        modules = {module for module in imports(path) if not module.startswith("course_lib.methods.base")}
        wrong[name(path)] = [m for m in modules for other in forbidden if f"{m}.".startswith(f"{other}.")]
    assert not {path: modules for path, modules in wrong.items() if modules}


def test_a_method_fits_on_a_screen_or_two():
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines())
             for path in LIBRARY if path.is_relative_to(ROOT / "course_lib" / "methods")}
    assert lines
    assert not {path: count for path, count in lines.items() if count > 160}


def test_everything_public_says_what_it_is():
    silent = {}
    for path in LIBRARY:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        silent[name(path)] = [node.name for node in public if node.name[0] != "_" and not ast.get_docstring(node)]
        if tree.body and not ast.get_docstring(tree):
            silent[name(path)].insert(0, "the module")
    assert not {path: names for path, names in silent.items() if names}, "these have no docstring"


def test_importing_the_library_costs_nothing_beyond_torch():
    script = ("import sys, torch; before = set(sys.modules); import course_lib; new = set(sys.modules) - before; "
              "print(*{'matplotlib', 'umap', 'sklearn', 'scipy', 'torchvision', 'PIL', 'pandas'} & new)")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), "import course_lib brings these with it"
