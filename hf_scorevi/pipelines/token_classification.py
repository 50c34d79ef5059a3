"""Token classification with the uncertainty of every token, word or entity."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import TokenClassificationPipeline
from transformers.pipelines.token_classification import AggregationStrategy

from .classification import UNCERTAINTIES, BayesianClassification

__all__ = ["BayesianTokenClassificationPipeline"]

# What the stock pipeline's `preprocess` passes to its `postprocess`.
_PASSED = ("special_tokens_mask", "offset_mapping", "sentence", "is_last", "word_ids", "word_to_chars_map")
_TOKENS = "uncertainties of its tokens"  # (tokens, 3)


class BayesianTokenClassificationPipeline(BayesianClassification, TokenClassificationPipeline):  # type: ignore[misc]
    """
    Find entities in texts, with the uncertainty of each.

    ```python
    tagger = pipeline("bayesian-token-classification", model="user/repository", aggregation_strategy="simple")
    tagger("Ada lives in Lisbon.", num_samples=32, seed=0)
    # [{"entity_group": "PER", "score": 0.97, "word": "Ada", "start": 0, "end": 3,
    #   "entropy": 0.14, "expected_entropy": 0.11, "mutual_information": 0.03}, …]
    ```

    For each text it returns the list of the token-classification pipeline; its dictionaries also have, in nats, the
    `entropy` of the predictive and its parts, `expected_entropy` and `mutual_information`: of a token, or of words and
    entities the means over their tokens.

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder.
        tokenizer: for a model passed as an object, or where one lies; default: the one beside the model, or
            beside an adapter's base. Its class must be of transformers: no code is executed.
        num_samples, seed: of the posterior draws, in the call or once for all; default: the model's own, 16 and 0.
            All other arguments are those of the token-classification pipeline.
    """

    bayesian_task = "bayesian-token-classification"
    part = "tokenizer"
    predicts = "tokens"

    def _forward(self, model_inputs: Any, **draws: Any) -> Any:  # type: ignore[override]
        passed = {name: model_inputs.pop(name, None) for name in _PASSED}
        return {**self.predicted(model_inputs, draws), **passed, **model_inputs}

    def postprocess(  # type: ignore[override]
        self,
        all_outputs: Any,
        aggregation_strategy: AggregationStrategy = AggregationStrategy.NONE,
        ignore_labels: Any = ("O",),
    ) -> list[dict[str, Any]]:
        """Return the entities of one text, from the outputs of its parts."""
        first, found = all_outputs[0], []
        for outputs in all_outputs:
            values = np.stack([outputs[name][0].numpy() for name in UNCERTAINTIES], axis=-1)
            tokens = self.gather_pre_entities(
                first["sentence"],
                outputs["input_ids"][0],  # type: ignore[arg-type]
                outputs["logits"][0].softmax(-1).numpy(),
                None if outputs["offset_mapping"] is None else outputs["offset_mapping"][0],
                outputs["special_tokens_mask"][0].numpy(),
                aggregation_strategy,
                word_ids=outputs["word_ids"],
                word_to_chars_map=first["word_to_chars_map"],
            )
            tokens = [token | {_TOKENS: values[[token["index"]]]} for token in tokens]
            found += self.aggregate(tokens, aggregation_strategy)
        found = [own for own in found if own.get("entity", own.get("entity_group")) not in ignore_labels]
        if len(all_outputs) > 1:
            found = self.aggregate_overlapping_entities(found)
        for entity in found:
            means = entity.pop(_TOKENS).mean(axis=0).tolist()
            entity |= {"score": float(entity["score"])} | dict(zip(UNCERTAINTIES, means, strict=True))
        return found

    def aggregate(self, pre_entities: list[dict], aggregation_strategy: AggregationStrategy) -> list[dict]:
        """Join tokens into words or entities, as the stock pipeline does."""
        if aggregation_strategy not in (AggregationStrategy.NONE, AggregationStrategy.SIMPLE):
            return super().aggregate(pre_entities, aggregation_strategy)
        entities = super().aggregate(pre_entities, AggregationStrategy.NONE)
        entities = [own | {_TOKENS: token[_TOKENS]} for own, token in zip(entities, pre_entities, strict=True)]
        return entities if aggregation_strategy == AggregationStrategy.NONE else self.group_entities(entities)

    def aggregate_word(self, entities: list[dict], aggregation_strategy: AggregationStrategy) -> dict:
        """Join tokens into a word."""
        return super().aggregate_word(entities, aggregation_strategy) | _tokens_of(entities)

    def group_sub_entities(self, entities: list[dict]) -> dict:
        """Join tokens or words into an entity."""
        return super().group_sub_entities(entities) | _tokens_of(entities)


def _tokens_of(entities: list[dict]) -> dict[str, Any]:
    return {_TOKENS: np.concatenate([own[_TOKENS] for own in entities])}
