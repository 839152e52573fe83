"""Tables made from the files of runs: in the README, in notebooks, and on the command line."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from course_lib.files import write_all
from course_lib.recipes import NAMES, TITLES
from course_lib.runs import ASSETS, results

COLUMNS = {  # column -> how it is read from a result
    "linear top-1": lambda r: f"{r['measures']['linear_top1']:.1f} %",
    "above untrained": lambda r: f"{r['measures']['linear_top1'] - r['untrained']['linear_top1']:+.1f}",
    "kNN top-1": lambda r: f"{r['measures']['knn_top1']:.1f} %",
    "RankMe": lambda r: f"{r['measures']['rankme']:.0f}",
    "minutes": lambda r: f"{r['seconds'] / 60:.1f}",
    "epochs": lambda r: f"{r['recipe']['fit'].get('epochs', 0):g}",
}
BARE = ("above untrained", "minutes", "epochs")  # columns that say nothing of what was never trained


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of words: as markdown in files (`str`), as a table in a notebook.

    numbers: whether all columns but the first hold numbers, which stand at the right.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True

    def __str__(self) -> str:
        rule = "---:" if self.numbers else "---"
        lines = [self.columns, ("---", *(rule,) * (len(self.columns) - 1)), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        return f"<table>{line(self.columns, 'th')}{''.join(line(r, 'td') for r in self.rows)}</table>"


def results_table(data: str = "cifar10", profile: str = "laptop", *, names: tuple[str, ...] | None = None,
                  assets: Path = ASSETS) -> Table:
    """Every result of the first seed on a data set in a profile, or those of `names`: baselines first, then by linear
    top-1."""
    found = [r for r in results(data, profile, assets)
             if r["name"] in (names or NAMES) and r["seed"] == 0 and r["measures"]]
    found.sort(key=lambda r: (bool(r["recipe"]["fit"]), r["measures"]["linear_top1"]))
    rows = []
    for r in found:
        trained = bool(r["recipe"]["fit"])
        rows.append((TITLES[r["name"]], *(show(r) if trained or c not in BARE else "" for c, show in COLUMNS.items())))
    return Table(("encoder", *COLUMNS), tuple(rows))


def notebooks_table(root: Path) -> Table:
    """The notebooks that exist, each with the question of its first cell and its badge."""
    rows = []
    for path in sorted(root.glob("notebooks/[0-9]*.ipynb")):
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        text = first if isinstance(first, str) else "".join(first)
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        question = re.search(r"\*\*(?:The )?[Qq]uestion[.:]?\*\*:?\s*(.+)", text)
        badge = re.search(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", text)
        if not (title and question and badge):
            raise ValueError(f"{path.name}: its first cell must have a title, **Question.** and a Colab badge")
        rows.append((f"[{title[1].strip()}](notebooks/{path.name})", question[1].strip(), badge[0]))
    return Table(("notebook", "the question it answers", ""), tuple(rows), numbers=False)


def fill(root: Path, *, write: bool = True) -> list[str]:
    """Make every table in the README and in committed notebooks anew from the files of the runs.

    Returns which differed from those files. With `write=False` nothing is changed. All texts are made before the first
    is written, so whatever is wrong with one of them leaves all as they were.
    Raises ValueError for marks that do not pair or a table that is not known, and OSError where a file cannot be
    written.
    """
    differed, texts = [], {}
    for path, names, text in (filled_readme(root), *filled_notebooks(root)):
        if names:
            differed += [f"{path.relative_to(root).as_posix()}{': ' * bool(name)}{name}" for name in names]
            texts[path] = text.encode()
    if write:
        write_all(texts)
    return differed


def filled_readme(root: Path) -> tuple[Path, list[str], str]:
    """The README, the names of its tables that differ from their files, and its text with them made anew.

    A table stands between `<!-- table: NAME -->` and `<!-- end table -->`.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    tables = {"results": lambda: results_table(assets=root / "assets"), "notebooks": lambda: notebooks_table(root)}
    differed = []
    marks = re.findall(r"<!-- (?:table: (\w+)|(end table)) -->", text)
    for i, (name, end) in enumerate(marks):
        if bool(end) != bool(i % 2) or (name and name not in tables) or (name and i + 1 == len(marks)):
            raise ValueError(f"{readme} has <!-- {'end table' if end else f'table: {name}'} --> where it does not fit: "
                             f"write <!-- table: NAME --> and <!-- end table --> in pairs, NAME of {', '.join(tables)}")

    def replace(match: re.Match) -> str:
        new = f"<!-- table: {match[1]} -->\n{tables[match[1]]()}\n<!-- end table -->"
        if new != match[0]:
            differed.append(match[1])
        return new

    return readme, differed, re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end table -->", replace, text, flags=re.DOTALL)


def filled_notebooks(root: Path) -> Iterator[tuple[Path, list[str], str]]:
    """Each notebook, [""] where a table that it shows differs from its files, and its text with them made anew.

    A cell that shows one begins with `# table`, and its last line is the call of `results_table` that makes it.
    """
    for path in sorted(root.glob("notebooks/**/*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        wrong = False
        for cell in book["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not source.startswith("# table"):
                continue
            call = ast.parse(source).body[-1].value  # cl.tables.results_table(...), of literals alone
            given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            table = results_table(*map(ast.literal_eval, call.args), **given, assets=root / "assets")
            made = {"text/html": table._repr_html_(), "text/plain": str(table)}
            for output in cell["outputs"]:
                if "data" in output and {k: "".join(v) for k, v in output["data"].items()} != made:
                    wrong = True
                    output["data"] = {k: v.splitlines(keepends=True) for k, v in made.items()}
        yield path, [""] * wrong, json.dumps(book, indent=1, ensure_ascii=False) + "\n"
