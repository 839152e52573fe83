"""Tables made from the files of runs: in the README, in notebooks, and on the command line."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import re
from pathlib import Path

from course_lib.files import write_text
from course_lib.recipes import NAMES, TITLES
from course_lib.runs import results

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
                  assets: Path | None = None) -> Table:
    """Every result on a data set in a profile, or those of `names`: baselines first, then by linear top-1."""
    found = [r for r in results(data, profile, assets) if r["name"] in (names or NAMES)]
    found.sort(key=lambda r: (r["recipe"]["method"] is not None, r["measures"]["linear_top1"]))
    rows = []
    for r in found:
        trained = r["recipe"]["method"] is not None
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


def fill_readme(root: Path, *, write: bool = True) -> list[str]:
    """Make the README's tables anew, between `<!-- table: NAME -->` and `<!-- end table -->`.

    Returns the names of the tables that differed from their files; with `write=False` nothing is changed.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    tables = {"results": lambda: results_table(assets=root / "assets"), "notebooks": lambda: notebooks_table(root)}
    differed = []

    def fill(match: re.Match) -> str:
        new = f"<!-- table: {match[1]} -->\n{tables[match[1]]()}\n<!-- end table -->"
        if new != match[0]:
            differed.append(match[1])
        return new

    text = re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end table -->", fill, text, flags=re.DOTALL)
    if differed and write:
        write_text(readme, text)
    return differed


def fill_notebooks(root: Path, *, write: bool = True) -> list[str]:
    """Make the tables that committed notebooks show anew.

    A cell that shows one begins with `# table`, and its last line is the call of `results_table` that makes it.
    Returns the names of the notebooks that differed from the files; with `write=False` nothing is changed.
    """
    differed = []
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
        if wrong:
            differed.append(path.relative_to(root).as_posix())
        if wrong and write:
            write_text(path, json.dumps(book, indent=1, ensure_ascii=False) + "\n")
    return differed
