"""The command line: `python -m course_lib run`, `few`, `stages`, `measure`, `time`, `prune`, `tables`, `figures`, …"""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Annotated

import typer

from course_lib import badges as badge_tools
from course_lib import context, recipes, runs, timing
from course_lib import few as few_tools
from course_lib import stages as stage_tools
from course_lib import tables as table_tools
from course_lib.data import Dataset, DataUnavailable, load
from course_lib.data.public import PUBLIC, whereabouts
from course_lib.devices import autocast_dtype, memory, pick_device
from course_lib.files import write_atomically

ROOT = Path(__file__).parents[1]


class OneSentence(typer.core.TyperGroup):
    """Whatever a user can mend is said in one sentence, without the traceback that a mistake of ours would get."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, DataUnavailable, FloatingPointError) as error:
            typer.echo(f"course_lib: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(cls=OneSentence, add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None,
                  pretty_exceptions_enable=False)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help=f"What to train and measure: {', '.join(recipes.TITLES)}.")],
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="smoke, laptop or gpu; found out by default")] = "",
    seed: Annotated[int | None, typer.Option(help="by default every seed that the course's tables want")] = None,
    assets: Annotated[Path, typer.Option(help="where results and checkpoints go")] = runs.ASSETS,
) -> None:
    """Train, evaluate, and write one JSON and one checkpoint a method. A killed run goes on where it stopped."""
    profile = profile or context.find_profile()[0]
    todo = [runs.Run(name, data, profile, one, assets)  # a wrong name stops here, before hours of work
            for name in names for one in ([seed] if seed is not None else recipes.seeds(name))]
    pictures = pictures_of(data, profile)
    for each in todo:
        say(each.train(pictures))


@app.command()
def few(
    names: Annotated[list[str], typer.Argument(help="Runs to measure with few labels; supervised learns from them.")],
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="the profile they were trained in; found out by default")] = "",
    draws: Annotated[int, typer.Option(help="how many draws of labelled pictures")] = few_tools.DRAWS,
    assets: Annotated[Path, typer.Option(help="where results and checkpoints are")] = runs.ASSETS,
) -> None:
    """Measure with 1, 10, 100 and 1,000 labels a class. A killed one goes on with the next draw."""
    profile = profile or context.find_profile()[0]
    for name in names:
        few_tools.check(name, profile)  # a wrong name stops here, before hours of work
    pictures = pictures_of(data, profile)
    for name in names:
        found = few_tools.measure(runs.Run(name, data, profile, assets=assets), pictures, draws=draws)
        typer.echo(f"{name}\n{found}")


@app.command()
def stages(
    names: Annotated[list[str], typer.Argument(help="Runs whose encoders are read layer by layer.")],
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="the profile they were trained in; found out by default")] = "",
    seed: Annotated[int | None, typer.Option(help="by default every seed that the course's tables want")] = None,
    assets: Annotated[Path, typer.Option(help="where results and checkpoints are")] = runs.ASSETS,
) -> None:
    """Measure what a linear probe reads from each stage, on val, before `prune` deletes weights."""
    profile = profile or context.find_profile()[0]
    todo = [runs.Run(name, data, profile, one, assets)  # a wrong name stops here, before hours of work
            for name in names for one in ([seed] if seed is not None else recipes.seeds(name))]
    pictures = pictures_of(data, profile)
    for each in todo:
        found = stage_tools.measure(each, pictures)
        top1 = "  ".join(f"{stage} {100 * r.double().mean():.1f}" for stage, r in found.items())
        typer.echo(f"{each.name} (seed {each.seed})  {top1}")


@app.command()
def measure(
    names: Annotated[list[str] | None, typer.Argument(help="Runs to measure anew; all of them by default.")] = None,
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="the profile they were trained in")] = "laptop",
    assets: Annotated[Path, typer.Option(help="where results and checkpoints are")] = runs.ASSETS,
) -> None:
    """Measure checkpoints anew, as after a change to the evaluator, and rewrite their results. Nothing is trained."""
    for name in names or ():
        recipes.recipe(name, profile)  # a wrong name stops here
    # Without names, what can be measured: of most variants the result alone is kept.
    found = [result for result in runs.results(data, profile, assets)
             if (result["name"] in names if names else result["files"] or not result["recipe"]["fit"])]
    if not found:
        raise ValueError(f"there is no such result on {data} in profile {profile}: make it first, "
                         "with `python -m course_lib run NAME`")
    pictures = pictures_of(data, profile)
    # Baselines first: the others' results repeat what these measure.
    for result in sorted(found, key=lambda result: bool(result["recipe"]["fit"])):
        say(runs.Run(result["name"], data, profile, result["seed"], assets).measure(pictures))


@app.command()
def time(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes to time; all that train by default.")] = None,
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="smoke, laptop or gpu; found out by default")] = "",
    assets: Annotated[Path, typer.Option(help="where the times go")] = runs.ASSETS,
) -> None:
    """Time some steps of each recipe, one after another, for the tables' minutes. Let the machine do nothing else."""
    profile = profile or context.find_profile()[0]
    names = names or [name for name in recipes.NAMES if recipes.recipe(name, profile).trained]
    for name in names:
        recipes.recipe(name, profile)  # a wrong name stops here
    found = timing.measure(names, pictures_of(data, profile), profile, assets=assets)
    for name, each in found["seconds"].items():
        typer.echo(f"{name:20} {1000 * each:.3g} ms a picture")


@app.command()
def prune(
    assets: Annotated[Path, typer.Option(help="where results and checkpoints are")] = runs.ASSETS,
) -> None:
    """Delete the weights that the course does not ship, as recipes say. Results stay."""
    gone = runs.prune(assets)
    left = sum(path.stat().st_size for path in assets.rglob("*") if path.is_file())
    typer.echo(f"deleted {len(gone)} files of weights; {left / 1e6:.1f} MB are left in {assets.name}/")


def pictures_of(data: str, profile: str) -> Dataset:
    """The data set as a profile takes it: a part of it in smoke."""
    return load(data, size=recipes.SIZE, limit=1000 if profile == "smoke" else None)


def say(result: dict) -> None:
    """Print what a run measured, in one line."""
    measures = "  ".join(f"{k} {v:.1f}" for k, v in result["measures"].items())
    typer.echo(f"{result['name']} (seed {result['seed']})  {result['seconds']:.0f} s  {measures}")


@app.command()
def tables(
    check: Annotated[bool, typer.Option("--check", help="change nothing; fail where table and files disagree")] = False,
) -> None:
    """Make every table in the README and in the notebooks anew from the files of the runs."""
    differed = table_tools.fill(ROOT, write=not check)
    for name in differed:
        typer.echo(f"{name} {'differs from its files' if check else 'made anew'}")
    if check and differed:
        raise typer.Exit(1)


@app.command()
def data(name: str, size: Annotated[int | None, typer.Option(help="pixels")] = None) -> None:
    """Fetch a data set and say what is in it."""
    start = clock.perf_counter()
    found = load(name, size=size)
    typer.echo(f"{found!r}\nin {clock.perf_counter() - start:.1f} s; classes: {', '.join(found.classes)}")


@app.command()
def badges(address: Annotated[str, typer.Argument(help="https://github.com/OWNER/NAME")] = "") -> None:
    """Bring every Colab badge and clone cell into line with the repository's address."""
    for path in badge_tools.rewrite_badges(ROOT, address or None):
        typer.echo(f"rewrote {path}")
    if badge_tools.is_placeholder(badge_tools.repository(ROOT)):
        typer.echo("the address is still a placeholder, so no badge works yet: give yours, https://github.com/OWNER/NAME")


@app.command()
def figures(
    data: Annotated[str, typer.Option(help="a data set, as in course_lib.load")] = "cifar10",
    profile: Annotated[str, typer.Option(help="the profile whose checkpoints are shown")] = "laptop",
) -> None:
    """Draw the README's pictures anew from the shipped checkpoints."""
    from course_lib import viz
    from course_lib.data import toybox

    pictures = load(data, size=recipes.SIZE)
    encoders = {recipes.TITLES[name]: runs.Run(name, data, profile).encoder()
                for name in ("raw_pixels", "untrained_convnet", "rotation", "simclr")}
    drawn = {
        "overview": viz.side_by_side(encoders, pictures.test, queries=4, k=5,
                                     title="The same pictures and their nearest neighbours, as four encoders see them"),
        "toybox": viz.grid(toybox.draw(40, size=64), columns=10, title="Toybox: a small painted world"),
    }
    for name, figure in drawn.items():
        path = runs.ASSETS / "figures" / f"{name}.png"
        write_atomically(path, lambda temporary, figure=figure: temporary.write_bytes(viz.style.png(figure)))
        typer.echo(f"drew {path.relative_to(ROOT)}")


@app.command()
def doctor() -> None:
    """Device, versions, memory, where the data is, and which profile would be chosen, and why."""
    device = pick_device()
    profile, why = context.find_profile()
    for name, value in runs.versions().items():
        typer.echo(f"{name:12} {value}")
    typer.echo(f"{'device':12} {device}, products in {str(autocast_dtype('auto', device)).removeprefix('torch.')}")
    typer.echo(f"{'memory':12} {memory(device)}")
    typer.echo(f"{'profile':12} {profile}: {why}; {context.PROFILES[profile]}")
    typer.echo(f"{'toybox':12} always here: the library draws it")
    for name in PUBLIC:
        typer.echo(f"{name:12} {whereabouts(name)}")
