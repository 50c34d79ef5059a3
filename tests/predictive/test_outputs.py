import torch

from hf_scorevi.predictive import (
    ClassCollector,
    GaussianNoise,
    PredictiveOutput,
    RegressionCollector,
    RegressionOutput,
)


def collected(collector, draws):
    for draw in draws:
        collector.add(draw)
    return collector.result()


def test_batches_put_together_are_what_one_batch_gives():
    draws = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    for make, kind in (
        (lambda: ClassCollector(1.3, False, True, True), PredictiveOutput),
        (lambda: ClassCollector(1.0, True, True, False), PredictiveOutput),
        (lambda: RegressionCollector(GaussianNoise(torch.tensor(0.5)), (0.1, 0.9), True), RegressionOutput),
    ):
        whole = collected(make(), draws)
        parts = kind.cat([collected(make(), draws[:, :4]), collected(make(), draws[:, 4:])])
        assert vars(parts).keys() == vars(whole).keys()
        for name, value in vars(whole).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(parts, name), value)
            else:
                assert getattr(parts, name) == value


def test_what_was_not_asked_for_is_not_there():
    out = collected(ClassCollector(1.0, False, False, False), torch.zeros(2, 3, 4))
    assert out.samples is None and out.logits is None and out.num_samples == 2


def test_a_classifier_s_parts():
    draws = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))
    out = collected(ClassCollector(1.0, False, True, True), draws)
    assert torch.equal(out.logits, draws)
    torch.testing.assert_close(out.samples, draws.softmax(-1))
    torch.testing.assert_close(out.probs, out.samples.mean(0))
    torch.testing.assert_close(out.logit_std, draws.std(0))
    torch.testing.assert_close(out.mutual_information, out.entropy - out.expected_entropy)


def test_a_regression_s_parts():
    draws = torch.randn(5, 6, 2, generator=torch.Generator().manual_seed(1))
    out = collected(RegressionCollector(GaussianNoise(torch.tensor(0.5)), (0.25, 0.5, 0.75), False), draws)
    torch.testing.assert_close(out.mean, draws.mean(0))
    torch.testing.assert_close(out.variance, draws.var(0) + 0.5)
    assert out.quantiles.shape == (3, 6, 2) and (out.quantiles.diff(dim=0) > 0).all()
    assert (
        collected(RegressionCollector(GaussianNoise(torch.tensor(0.5)), (0.5,), False), draws[:1])
        .epistemic_variance.abs()
        .max()
        == 0
    )
