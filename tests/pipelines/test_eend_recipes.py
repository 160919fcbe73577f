"""Recipes: the published numbers, and numbers that can't be meant."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from diarbench.errors import NotFoundError
from diarbench.pipelines.eend_recipes import DIARIZEN, RECIPES, STOCK, Ahc, Recipe, Rules, Vbx, find_recipe


def test_published_numbers():
    assert find_recipe("pyannote-2.1").clustering == Ahc(0.7153814381597874, 15)
    assert find_recipe("pyannote-3.1").clustering == Ahc(0.7045654963945799, 12)
    assert find_recipe("pyannote-community-1").clustering == Vbx(0.6, 0.07, 0.8, 128)
    meeting, pruned = find_recipe("diarizen-meeting"), find_recipe("diarizen-s80")
    assert (meeting.clustering, meeting.window, meeting.min_speakers, meeting.max_speakers) == (Ahc(0.7, 30), 8.0, 2, 8)
    assert (pruned.clustering, pruned.window, pruned.min_speakers, pruned.max_speakers) == (Vbx(), 16.0, 1, 20)
    assert all(recipe.exclude_overlap and recipe.hop is None for recipe in RECIPES.values())


def test_diarizen_differs_from_stock_in_every_rule():
    assert all(getattr(STOCK, field.name) != getattr(DIARIZEN, field.name) for field in dataclasses.fields(Rules))


def test_an_unknown_recipe():
    with pytest.raises(NotFoundError, match=r"did you mean pyannote-3\.1"):
        find_recipe("pyannote-3")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Rules(median_frames=4), "odd"),
        (lambda: Rules(median_frames=0), "odd"),
        (lambda: Rules(clean_share=1.1), "share"),
        (lambda: Ahc(0.0, 3), "threshold"),
        (lambda: Ahc(2.1, 3), "threshold"),
        (lambda: Ahc(0.7, 0), "min_cluster_size"),
        (lambda: Ahc(0.7, 3, method="nearest"), "nearest.*did you mean|known"),
        (lambda: Vbx(fa=0.0), "fa"),
        (lambda: Vbx(threshold=-1), "threshold"),
        (lambda: Recipe(Vbx(), window=0.0), "window"),
        (lambda: Recipe(Vbx(), hop=-1.0), "hop"),
        (lambda: Recipe(Vbx(), onset=1.0), "onset"),
        (lambda: Recipe(Vbx(), min_speakers=0), "min_speakers"),
        (lambda: Recipe(Vbx(), min_speakers=5, max_speakers=4), "above"),
    ],
)
def test_numbers_that_cannot_be_meant(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_recipes_load_nothing_heavy():
    code = "import sys, diarbench.pipelines.eend_recipes; sys.exit('torch' in sys.modules or 'pyannote' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
