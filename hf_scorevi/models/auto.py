"""The Auto class of forecasters of several channels."""

from collections import OrderedDict

from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

__all__ = ["AutoModelForForecasting"]

# transformers maps only the TimesFM family, which takes one channel, to its AutoModelForTimeSeriesPrediction.
_NAMES = OrderedDict([("patchtsmixer", "PatchTSMixerForPrediction"), ("patchtst", "PatchTSTForPrediction")])


class AutoModelForForecasting(_BaseAutoModelClass):
    """
    Models that forecast all channels of a series: from `past_values` (B, L, C) and, for the loss, `future_values`
    (B, S, C) they make `prediction_outputs` (B, S, C), with the `loc` and `scale` (B, 1, C) they normalised by.

    Koopa, PatchTST and PatchTSMixer. Use `from_pretrained` or `from_config`.
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, _NAMES)  # type: ignore[assignment]
