"""factor_probe(): what is there is found, what is not there is not."""

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from course_lib.evaluate import factor_probe, factor_scores, paired_scores


def world(n, seed):
    draw = torch.Generator().manual_seed(seed)
    factors = {
        "shape": torch.randint(3, (n,), generator=draw),
        "size": torch.rand(n, generator=draw),
        "hidden_kind": torch.randint(3, (n,), generator=draw),
        "hidden_size": torch.rand(n, generator=draw),
    }
    plain = torch.cat([torch.nn.functional.one_hot(factors["shape"], 3).float(), factors["size"][:, None]], dim=1)
    mix = torch.randn(4, 16, generator=torch.Generator().manual_seed(9))
    return plain @ mix + 0.02 * torch.randn(n, 16, generator=draw), factors


def test_what_is_in_the_features_is_read_and_what_is_not_is_not():
    scores = factor_probe(*world(800, 0), *world(800, 1))
    assert scores["shape"] > 99 and scores["size"] > 95
    assert 20 < scores["hidden_kind"] < 47 and -10 < scores["hidden_size"] < 10


def test_quantities_are_read_by_ridge_regression():
    (train_z, train_f), (test_z, test_f) = world(100, 0), world(100, 1)
    noise = torch.randn(200, generator=torch.Generator().manual_seed(5))
    train_t, test_t = train_f["size"] + noise[:100] / 5, test_f["size"] + noise[100:] / 5
    score = factor_probe(train_z, {"size": train_t}, test_z, {"size": test_t})["size"]
    scale = StandardScaler().fit(train_z[:80].double().numpy())  # the last fifth chooses the strength alone
    x, x_test = (scale.transform(z.double().numpy()) for z in (train_z[:80], test_z))
    theirs = [100 * Ridge(alpha=80 * l2).fit(x, train_t[:80].numpy()).score(x_test, test_t.numpy())
              for l2 in (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    assert any(score == pytest.approx(r2, abs=1e-3) for r2 in theirs)
    assert max(theirs) - min(theirs) > 1  # or any strength would pass


def test_the_scores_of_pictures_have_the_probes_score_for_their_mean():
    (train_z, train_f), (test_z, test_f) = world(300, 0), world(200, 1)
    each, whole = (f(train_z, train_f, test_z, test_f) for f in (factor_scores, factor_probe))
    assert {name: 100 * s.mean().item() for name, s in each.items()} == pytest.approx(whole)
    assert all(s.shape == (200,) for s in each.values())
    assert set(each["shape"].tolist()) <= {0.0, 1.0} and each["hidden_size"].max() <= 1 < -each["hidden_size"].min()
    told = paired_scores(each["size"], each["hidden_size"])
    assert told.low > 80 and told.points == pytest.approx(whole["size"] - whole["hidden_size"])


def test_bad_input():
    z, f = world(50, 0)
    with pytest.raises(ValueError, match="must have the same factors"):
        factor_probe(z, f, z, {"shape": f["shape"]})
    with pytest.raises(ValueError, match="must have the same factors"):
        factor_probe(z, {}, z, {})
    with pytest.raises(ValueError, match="factor flat must vary to be read, got 2 throughout"):
        factor_probe(z, {"flat": torch.full((50,), 2.0)}, z, {"flat": torch.full((50,), 2.0)})
    with pytest.raises(ValueError, match=r"factor size must have one value a feature vector, \[50\] and \[50\]"):
        factor_probe(z, {"size": f["size"][1:]}, z, {"size": f["size"]})
    with pytest.raises(ValueError, match="train features must have at least 5 rows, got 4"):
        factor_probe(z[:4], f, z, f)
