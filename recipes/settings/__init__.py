"""Recipes: YAML files of settings, with types, help and overrides.

A recipe is a file that a user can copy and edit; the shipped ones lie in ``recipes/configs/``.
"""

from recurra.recipes.settings.acting import ActingRecipe, PPOOptions
from recurra.recipes.settings.common import (
    ActingEvaluationOptions,
    BestOptions,
    EvaluationOptions,
    LearningOptions,
    Recipe,
    StopOptions,
    require_seed,
)
from recurra.recipes.settings.files import find, read, shipped, show_help, summary
from recurra.recipes.settings.offline import ConservativeOptions, OfflineOptions, OfflineRecipe
from recurra.recipes.settings.questions import (
    AnsweringEvaluationOptions,
    QuestionsEnv,
    QuestionsOptions,
    QuestionsRecipe,
)
from recurra.recipes.settings.reading import ReadingEvaluationOptions, ReadingOptions, ReadingRecipe
from recurra.recipes.settings.recall import RecallEnv, RecallRecipe

__all__ = [
    "ActingEvaluationOptions",
    "ActingRecipe",
    "AnsweringEvaluationOptions",
    "BestOptions",
    "ConservativeOptions",
    "EvaluationOptions",
    "LearningOptions",
    "OfflineOptions",
    "OfflineRecipe",
    "PPOOptions",
    "QuestionsEnv",
    "QuestionsOptions",
    "QuestionsRecipe",
    "ReadingEvaluationOptions",
    "ReadingOptions",
    "ReadingRecipe",
    "RecallEnv",
    "RecallRecipe",
    "Recipe",
    "StopOptions",
    "find",
    "read",
    "require_seed",
    "shipped",
    "show_help",
    "summary",
]
