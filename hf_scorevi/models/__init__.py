"""
Models that transformers lacks, written like its own. Importing this package registers them with its Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoModelForTimeSeriesPrediction

from . import koopa
from .auto import AutoModelForForecasting

__all__ = ["AutoModelForForecasting", "koopa"]

AutoConfig.register("koopa", koopa.KoopaConfig)
AutoModel.register(koopa.KoopaConfig, koopa.KoopaModel)
AutoModelForForecasting.register(koopa.KoopaConfig, koopa.KoopaForPrediction)
AutoModelForTimeSeriesPrediction.register(koopa.KoopaConfig, koopa.KoopaForPrediction)
