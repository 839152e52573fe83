"""Self-supervised learning, to read and to run.

    import course_lib as cl

    data   = cl.load("cifar10")                        # pictures: .pretrain (no labels), .train, .val, .test
    method = cl.methods.SimCLR(cl.nets.convnet())      # an encoder and a loss that trains it
    run    = cl.fit(method, data.pretrain, epochs=20)  # History: every logged number
    report = cl.evaluate(method.encoder, data)         # kNN and linear accuracy, signs of collapse
    cl.viz.neighbours(method.encoder, data.test)       # a figure
"""

from importlib import import_module

from course_lib import augment, evaluate, methods, nets, parts
from course_lib.context import Context, setup
from course_lib.data import Batch, Dataset, Images, load
from course_lib.evaluate import Report, claim
from course_lib.methods import Method
from course_lib.train import History, fit

__all__ = ["Batch", "Context", "Dataset", "History", "Images", "Method", "Report", "augment", "check", "claim",
           "evaluate", "few", "fit", "load", "methods", "nets", "parts", "recipes", "runs", "setup", "stages", "tables",
           "viz"]

_ON_DEMAND = ("check", "few", "recipes", "runs", "stages", "tables", "viz")


def __getattr__(name: str):
    # These bring matplotlib and files along, which a training script need not wait for.
    if name in _ON_DEMAND:
        return import_module(f"course_lib.{name}")
    raise AttributeError(f"module 'course_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
