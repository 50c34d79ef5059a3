import torch

from hf_scorevi.predictive import (
    ClassPredictive,
    GaussianNoise,
    GaussianPredictive,
    LabelsPredictive,
    PredictiveOutput,
    RegressionOutput,
    SpanOutput,
    SpanPredictive,
)


def collected(collector, draws):
    for draw in draws:
        collector.add(draw)
    return collector.output()


def test_batches_put_together_are_what_one_batch_gives():
    draws = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    for make, kind in (
        (lambda: ClassPredictive(1.3, samples=True, logits=True), PredictiveOutput),
        (lambda: LabelsPredictive(samples=True), PredictiveOutput),
        (lambda: GaussianPredictive(GaussianNoise(torch.tensor(0.5)), (0.1, 0.9), samples=True), RegressionOutput),
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
    out = collected(ClassPredictive(spread=False), torch.zeros(2, 3, 4))
    assert out.samples is None and out.logits is None and out.logit_std is None and out.num_samples == 2


def test_a_classifier_s_parts():
    draws = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))
    out = collected(ClassPredictive(samples=True, logits=True), draws)
    assert torch.equal(out.logits, draws)
    torch.testing.assert_close(out.samples, draws.softmax(-1))
    torch.testing.assert_close(out.probs, out.samples.mean(0))
    torch.testing.assert_close(out.logit_std, draws.std(0))
    torch.testing.assert_close(out.mutual_information, out.entropy - out.expected_entropy)


def test_a_regression_s_parts():
    draws = torch.randn(5, 6, 2, generator=torch.Generator().manual_seed(1))
    out = collected(GaussianPredictive(GaussianNoise(torch.tensor(0.5)), (0.25, 0.5, 0.75)), draws)
    torch.testing.assert_close(out.mean, draws.mean(0))
    torch.testing.assert_close(out.variance, draws.var(0) + 0.5)
    assert out.quantiles.shape == (3, 6, 2) and (out.quantiles.diff(dim=0) > 0).all()
    assert (
        collected(GaussianPredictive(GaussianNoise(torch.tensor(0.5)), (0.5,)), draws[:1])
        .epistemic_variance.abs()
        .max()
        == 0
    )


def test_texts_of_unlike_length_are_filled_up():
    draws = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    parts = [collected(ClassPredictive(by_term=True, samples=True), own) for own in (draws, draws[:, :2, :3])]
    out = PredictiveOutput.cat(parts)
    assert out.probs.shape == (5, 5, 4) and out.samples.shape == (2, 5, 5, 4) and out.entropy.shape == (5, 5)
    assert torch.equal(out.log_probs[:3], parts[0].log_probs) and torch.equal(out.entropy[3:, :3], parts[1].entropy)
    assert out.log_probs[3:, 3:].isnan().all() and not out.log_probs[3:, :3].isnan().any()


def test_spans_have_a_start_and_an_end():
    draws = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    predictive = SpanPredictive()
    for start, end in draws:
        predictive.add(start, end)
    out = predictive.output()
    torch.testing.assert_close(out.start.probs, draws[:, 0].softmax(-1).mean(0))
    torch.testing.assert_close(out.end.probs, draws[:, 1].softmax(-1).mean(0))
    assert out.num_samples == 3 and all(
        torch.equal(a, b.log_probs) for a, b in zip(predictive.point, (out.start, out.end), strict=True)
    )
    twice = SpanOutput.cat([out, out])
    assert twice.end.entropy.shape == (8,) and twice.to("cpu").start.num_samples == 3
    again = out.replaced(out.examples_first())
    assert torch.equal(again.end.log_probs, out.end.log_probs) and torch.equal(again.start.entropy, out.start.entropy)
    # A position behind the text is no term.
    sums = predictive.scores((torch.tensor([0, 1, 2, 9]), torch.tensor([5, 5, 6, 2])))
    assert sums[:, 0].tolist() == [2, 2, 1, 1]
    expected = out.start.log_probs[0, 0] + out.end.log_probs[0, 5]
    torch.testing.assert_close(sums[0, 1].float(), expected)
