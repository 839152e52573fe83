"""evaluate() from pictures to Report."""

import dataclasses

import pytest
import torch
from torch import nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import (
    RawPixels,
    Report,
    evaluate,
    features,
    few_label,
    knn,
    knn_scores,
    linear_probe,
    quick,
    rankme,
)
from course_lib.evaluate import report as report_module


def dataset(classes=7):
    draw = torch.Generator().manual_seed(0)
    looks = torch.rand(classes, 3, 4, 4, generator=draw)

    def part(n):
        y = torch.randint(classes, (n,), generator=draw)
        x = 0.2 * looks[y] + 0.8 * torch.rand(n, 3, 4, 4, generator=draw)
        return Images((255 * x).to(torch.uint8), y, tuple("abcdefghij"[:classes]))

    train = part(150)
    return Dataset("dots", train.without_labels(), train, part(60), part(80))


@pytest.fixture(scope="module")
def report():
    return evaluate(RawPixels(4), dataset(), name="raw pixels")


def test_the_measures_are_those_of_their_functions(report):
    data = dataset()
    train, val, test = (features(RawPixels(4), p) for p in (data.train, data.val, data.test))
    near, near_val = (knn(train, data.train.y, z, y, k=20) for z, y in ((test, data.test.y), (val, data.val.y)))
    linear = linear_probe(train, data.train.y, val, data.val.y, test, data.test.y)
    assert list(report.measures) == [
        "knn_top1", "knn_top5", "knn_val", "linear_top1", "linear_top5", "linear_val", "rankme", "uniformity",
        "feature_std"]
    assert report.measures["knn_top1"] == near["top1"] and report.measures["knn_top5"] == near["top5"]
    assert report.measures["linear_top1"] == linear.top1 and report.measures["linear_top5"] == linear.top5
    assert report.measures["knn_val"] == near_val["top1"]
    assert report.measures["linear_val"] == linear.val_top1[linear.l2]
    assert report.measures["rankme"] == rankme(test)
    assert report.row() == {"name": "raw pixels on dots", **report.measures}


def test_who_was_right_is_kept_for_each_picture(report):
    data = dataset()
    train, val, test = (features(RawPixels(4), p) for p in (data.train, data.val, data.test))
    probe = linear_probe(train, data.train.y, val, data.val.y, test, data.test.y).probe
    assert list(report.right) == ["knn_val", "knn_test", "linear_val", "linear_test"]
    assert torch.equal(report.right["linear_test"], probe.scores(test).argmax(1) == data.test.y)
    votes = knn_scores(train, data.train.y, val, classes=7)
    assert torch.equal(report.right["knn_val"], votes.argmax(1) == data.val.y)
    for key, measure in (("knn_val", "knn_val"), ("knn_test", "knn_top1"), ("linear_val", "linear_val"),
                         ("linear_test", "linear_top1")):
        assert report.right[key].dtype == torch.bool
        assert 100 * report.right[key].double().mean() == pytest.approx(report.measures[measure])
    assert "tensor" not in repr(report)


def test_no_label_of_val_reaches_the_bank_or_the_probe():
    data = dataset()
    other = dataclasses.replace(data, val=dataclasses.replace(data.val, y=data.val.y.flip(0)))
    first, second = evaluate(RawPixels(4), data), evaluate(RawPixels(4), other)
    assert torch.equal(first.right["knn_test"], second.right["knn_test"])
    assert not torch.equal(first.right["knn_val"], second.right["knn_val"])


def test_each_picture_is_encoded_once(monkeypatch):
    seen = []

    def counted(encoder, images, **settings):
        seen.append(len(images))
        return features(encoder, images, **settings)

    monkeypatch.setattr(report_module, "features", counted)
    evaluate(RawPixels(4), dataset())
    assert seen == [150, 60, 80]


def test_text_and_html_show_numbers_and_protocol(report):
    top1 = f"{report.measures['knn_top1']:.1f} %"
    for text in (str(report), report._repr_html_()):
        assert "raw pixels on dots" in text and top1 in text
        assert "bank of 150 train pictures, on 80 test and 60 val pictures" in text
        assert "L2 strength" in text and "no fit on val; test scored once" in text
    odd = dataclasses.replace(report, name="<b>")
    assert "&lt;b&gt;" in odd._repr_html_()


def test_five_classes_or_fewer_say_what_top5_is():
    small = evaluate(RawPixels(4), dataset(classes=4))
    assert small.measures["knn_top5"] == small.measures["linear_top5"] == 100
    assert small.protocol["top-5"] == "100 by definition: there are 4 classes"
    assert small.name == "RawPixels on dots"


def test_six_classes_or_more_say_nothing_of_it(report):
    assert "top-5" not in report.protocol


def test_the_protocol_confesses(monkeypatch):
    def short(*parts, **settings):
        return dataclasses.replace(linear_probe(*parts, **settings, max_iter=1), at_end="weakest")

    monkeypatch.setattr(report_module, "linear_probe", short)
    linear = evaluate(RawPixels(4), dataset()).protocol["linear"]
    assert "NOT CONVERGED" in linear and "the weakest of the grid" in linear


def test_a_collapsed_encoder_gets_a_report():
    class Dead(nn.Module):
        def forward(self, x):
            return x.new_zeros(len(x), 6)

    measures = evaluate(Dead(), dataset()).measures
    assert measures["rankme"] == 0 and measures["feature_std"] == 0 and measures["uniformity"] == 0
    assert measures["linear_top1"] < 35


def test_the_encoder_is_left_as_it_was():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first = evaluate(net, dataset())
    assert net.training and all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert evaluate(net, dataset()).measures == first.measures


def test_a_report_cannot_be_altered():
    report = Report("a", {}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.name = "b"


def test_a_data_set_smaller_than_k_is_refused_in_words():
    data = dataset()
    tiny = Dataset("tiny", data.pretrain, data.train[:10], data.val[:5], data.test)
    with pytest.raises(ValueError, match="k must lie between 1 and the 10 neighbours that there are, got 20"):
        evaluate(RawPixels(4), tiny)


@pytest.mark.parametrize("measure", [evaluate, quick, few_label])
def test_pictures_without_classes_are_refused_in_words(measure):
    plain = dataset().pretrain
    with pytest.raises(ValueError, match="tells classes apart, and the pictures of plain have none: put them in one"):
        measure(RawPixels(4), Dataset("plain", plain, plain, plain, plain))


def test_bad_input():
    method = nn.Module()
    method.encoder, method.loss = RawPixels(4), lambda batch: 0
    with pytest.raises(TypeError, match=r"got the whole method Module: give method\.encoder"):
        evaluate(method, dataset())
    with pytest.raises(TypeError, match=r"a Dataset with train, val and test, got Images: give what cl\.load returned"):
        evaluate(RawPixels(4), dataset().test)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got Dataset"):
        evaluate(dataset(), RawPixels(4))
