"""The package is its own function: cl.evaluate(encoder, data) and cl.evaluate.quick(encoder, data)."""

import importlib
import inspect
import pickle
import subprocess
import sys
import types

import pytest
import torch

import course_lib as cl
from course_lib.data.types import Dataset, Images
from course_lib.evaluate import RawPixels, Report, evaluate, quick
from course_lib.evaluate.report import evaluate as defined

package = importlib.import_module("course_lib.evaluate")


@pytest.fixture(scope="module")
def data():
    draw = torch.Generator().manual_seed(0)
    parts = [Images(torch.randint(256, (n, 3, 4, 4), generator=draw, dtype=torch.uint8), torch.arange(n) % 3,
                    tuple("abc")) for n in (60, 30, 30)]
    return Dataset("noise", parts[0].without_labels(), *parts)


def test_the_package_is_a_package_and_can_be_called(data):
    assert isinstance(package, types.ModuleType) and inspect.ismodule(package)
    report = package(RawPixels(4), data, name="pixels", batch_size=7)
    assert isinstance(report, Report) and report.name == "pixels on noise"
    assert report.measures == evaluate(RawPixels(4), data, batch_size=7).measures
    assert package.knn and package.evaluate is evaluate is defined and package.quick is quick
    asked, taken = (inspect.signature(f).parameters.values() for f in (package, evaluate))
    assert [(p.name, p.kind, p.default) for p in asked] == [(p.name, p.kind, p.default) for p in taken]
    assert package.__doc__.startswith("How good is an encoder")


def test_batch_size_is_passed_on(data, monkeypatch):
    seen = []
    monkeypatch.setattr(package, "evaluate", lambda *args, **options: seen.append((args, options)))
    package("encoder", data, name="n", batch_size=3)
    assert seen == [(("encoder", data), {"name": "n", "batch_size": 3})]


def test_what_it_holds_can_be_pickled_and_it_can_be_reloaded():
    assert pickle.loads(pickle.dumps(evaluate)) is evaluate
    code = ("import importlib, course_lib; m = importlib.import_module('course_lib.evaluate'); "
            "assert callable(importlib.reload(m)); assert callable(m) and m.knn")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_way_to_import_it():
    import course_lib.evaluate as ev

    assert cl.evaluate is ev is package, "course_lib binds another thing to the name evaluate than the package"
    assert ev.knn is package.knn
