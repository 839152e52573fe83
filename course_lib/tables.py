"""Tables made from the files of runs: in the README, in notebooks, and on the command line."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from course_lib import runs, timing
from course_lib.evaluate import Difference, paired
from course_lib.evaluate.paired import one_decimal
from course_lib.files import write_all
from course_lib.recipes import NAMES, TITLES
from course_lib.runs import ASSETS, results

COLUMNS = {  # column -> how it is read from a result
    "linear top-1": lambda r: f"{r['measures']['linear_top1']:.1f} %",
    "above untrained": lambda r: r["above"],
    "kNN top-1": lambda r: f"{r['measures']['knn_top1']:.1f} %",
    "RankMe": lambda r: f"{r['measures']['rankme']:.0f}",
    "minutes": lambda r: r["minutes"],
    "epochs": lambda r: f"{r['recipe']['fit'].get('epochs', 0):g}",
}
BARE = ("above untrained", "minutes", "epochs")  # columns that say nothing of what was never trained
BEFORE_VAL = "† trained before val was set apart, so on val's pictures too."


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of words: as markdown in files (`str`), as a table in a notebook.

    numbers: whether all columns but the first hold numbers, which stand at the right. note: a line below it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True
    note: str = ""

    def __str__(self) -> str:
        rule = "---:" if self.numbers else "---"
        lines = [self.columns, ("---", *(rule,) * (len(self.columns) - 1)), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{text}\n\n{self.note}" if self.note else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        table = f"<table>{line(self.columns, 'th')}{''.join(line(r, 'td') for r in self.rows)}</table>"
        return f"{table}<p>{html.escape(self.note)}</p>" if self.note else table


def results_table(data: str = "cifar10", profile: str = "laptop", *, names: tuple[str, ...] | None = None,
                  assets: Path = ASSETS) -> Table:
    """Every result of the first seed on a data set in a profile, or those of `names`: baselines first, then by linear
    top-1. What a recipe is above its untrained encoder stands with its interval, paired on the pictures of test, where
    both results say which of them were right. Minutes are those of `timing`, where there are any: those that a run took
    depend on what else its machine did.
    """
    there = results(data, profile, assets)
    found = [r for r in there if r["name"] in (names or NAMES) and r["seed"] == 0 and r["measures"]]
    found.sort(key=lambda r: (bool(r["recipe"]["fit"]), r["measures"]["linear_top1"]))
    times, rows = timing.read(profile, assets), []
    columns = {column: show for column, show in COLUMNS.items() if column != "minutes" or times["seconds"]}
    for r in found:
        trained = bool(r["recipe"]["fit"])
        shown = r | {"above": above_untrained(r, there), "minutes": timing.minutes(r, times)}
        cells = (show(shown) if trained or c not in BARE else "" for c, show in columns.items())
        title = TITLES[r["name"]]
        rows.append((f"{title} †" if runs.saw_val(r) else title, *cells))
    notes = [BEFORE_VAL if any(map(runs.saw_val, found)) else "", timing.note(times)]
    return Table(("encoder", *columns), tuple(rows), note=" ".join(filter(None, notes)))


def above_untrained(result: dict, there: list[dict]) -> str:
    """Linear top-1 on test less that of the same encoder untrained, with its interval where bits tell it."""
    untrained = runs.floor(result, there)
    if untrained and result.get("right") and untrained.get("right"):
        return interval(paired(*(runs.bits([r], "linear", "test") for r in (result, untrained))))
    return f"{result['measures']['linear_top1'] - result['untrained']['linear_top1']:+.1f}"


def interval(difference: Difference) -> str:
    """A difference as a table's cell: "+5.6 (4.4 to 6.8)"."""
    return str(difference).replace(" points", "")


def comparison_table(base: str, names: tuple[str, ...], *, by: str = "linear", on: str = "val", data: str = "cifar10",
                     profile: str = "laptop", assets: Path = ASSETS) -> Table:
    """Recipes beside the one that they are compared with: top-1 as mean and deviation over seeds, the difference from
    `base` with its 95 % interval, paired on the same pictures, how many seeds, and epochs.

    by: "linear" or "knn". on: "val", or "test" for what is reported. Raises as `runs.compare`.
    """
    rows, alone = [], False
    for name in (base, *names):
        found = runs.measured(name, by, on, data, profile, assets)
        top1 = 100 * runs.bits(found, by, on).double().mean(dim=1)
        spread = f" ± {one_decimal(top1.std().item())}" if len(found) > 1 else ""
        cell = ""
        if name != base:
            difference = runs.compare(name, base, by=by, on=on, data=data, profile=profile, assets=assets)
            cell, alone = interval(difference), alone or not difference.counts_seeds
        epochs = found[0]["recipe"]["fit"].get("epochs")
        rows.append((TITLES[name], f"{one_decimal(top1.mean().item())}{spread} %", cell, str(len(found)),
                     "" if epochs is None else f"{epochs:g}"))
    measure = {"linear": "linear top-1", "knn": "kNN top-1"}[by]
    note = "Differences with their 95 % intervals, paired on the same pictures; ± is one deviation over seeds."
    if alone:
        note += " Where both have one seed, the spread between seeds is not counted."
    columns = ("encoder", f"{measure} on {on}", f"against {TITLES[base]}", "seeds", "epochs")
    return Table(columns, tuple(rows), note=note)


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
            differed += [f"{path.relative_to(root).as_posix()}: {name}".removesuffix(": ") for name in names]
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

    return readme, differed, re.sub(r"<!-- table: (\w+) -->.*?<!-- end table -->", replace, text, flags=re.DOTALL)


def filled_notebooks(root: Path) -> Iterator[tuple[Path, list[str], str]]:
    """Each notebook, [""] where a table that it shows differs from its files, and its text with them made anew.

    A cell that shows one begins with `# table`, and its last line is the call of `results_table` or `comparison_table`
    that makes it. Raises ValueError where it calls another function.
    """
    makers = {"results_table": results_table, "comparison_table": comparison_table}
    for path in sorted(root.glob("notebooks/**/*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        wrong = False
        for cell in book["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not source.startswith("# table"):
                continue
            call = ast.parse(source).body[-1].value  # cl.tables.results_table(...), of literals alone
            given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            maker = ast.unparse(call.func).rpartition(".")[2]
            if maker not in makers:
                raise ValueError(f"{path.name}: a cell that begins with `# table` must end with a call of "
                                 f"{' or '.join(makers)}, got {maker}")
            table = makers[maker](*map(ast.literal_eval, call.args), **given, assets=root / "assets")
            made = {"text/html": table._repr_html_(), "text/plain": str(table)}
            shown = [output for output in cell["outputs"] if "data" in output]
            if not shown:  # never run: it is shown all the same
                shown = [{"output_type": "display_data", "metadata": {}, "data": {}}]
                cell["outputs"] += shown
            for output in shown:
                if {k: "".join(v) for k, v in output["data"].items()} != made:
                    wrong = True
                    output["data"] = {k: v.splitlines(keepends=True) for k, v in made.items()}
        yield path, [""] if wrong else [], json.dumps(book, indent=1, ensure_ascii=False) + "\n"
