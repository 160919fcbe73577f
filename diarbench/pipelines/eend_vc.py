"""EEND with vector clustering: who speaks in each window, whose voice that is, who speaks when.

The pipeline is pyannote.audio's `SpeakerDiarization`; its costly steps are replaced by ones that give the same and
cost less, and its rules can be exchanged for DiariZen's (`eend_recipes`).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.core.model import Model
from pyannote.audio.core.plda import PLDA
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.core import Annotation, SlidingWindowFeature

from diarbench.errors import InputError, MissingRequirementError, did_you_mean
from diarbench.measure import stage
from diarbench.pipelines.eend_clustering import RuledAhc, RuledVbx, load_plda
from diarbench.pipelines.eend_networks import SlidingSegmentation
from diarbench.pipelines.eend_recipes import Ahc, Recipe, Vbx, find_recipe
from diarbench.pipelines.embedding_pool import PooledEmbedder, Window, shortest_mask, slot_masks
from diarbench.pipelines.freed import give_back_freed
from diarbench.pipelines.signals import Signal, SignalInFile, SignalInMemory
from diarbench.pipelines.stitching import annotation_from_frames, majority, most_active, summed_activations
from diarbench.types import Seconds, Turns

PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class EendVc:
    """One EEND-VC system: two networks and a recipe.

    `segmentation` and `embedding` are pyannote.audio models (`eend_networks` makes such of others). `recipe` is a
    name among `eend_recipes.RECIPES`, or settings of one's own. `plda` is the folder of a PLDA model, which VBx needs.
    `window` and `hop` (s) go before the recipe's. Batches count windows; None is 32 on a GPU, and on the CPU 4 for
    segmentation and 1 for embeddings, which take the least time and memory there (what one window needs fits in the
    caches). `precision` is "fp32" or "bf16" (autocast; the features and the pooling of embeddings stay single).

    With the rules of pyannote.audio 4.0.7 the turns are those of its own pipeline, as long as rounding is the same
    (`embedding_pool`): VBx can make much of a difference of 1e-7. Memory grows with the recording by one
    number per window, slot and frame.

    Raises NotFoundError for an unknown recipe, MissingRequirementError where VBx has no PLDA model, InputError for
    other values that can't be used.
    """

    def __init__(
        self,
        segmentation: Model,
        embedding: Model,
        recipe: str | Recipe = "pyannote-community-1",
        *,
        plda: Path | None = None,
        window: Seconds | None = None,
        hop: Seconds | None = None,
        segmentation_batch: int | None = None,
        embedding_batch: int | None = None,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
        if precision not in PRECISIONS:
            raise InputError(f"there is no precision {precision!r}{did_you_mean(precision, PRECISIONS)}")
        place = _device(device)
        if segmentation_batch is None:
            segmentation_batch = 32 if place.type == "cuda" else 4
        if embedding_batch is None:
            embedding_batch = 32 if place.type == "cuda" else 1
        for name, batch in (("segmentation_batch", segmentation_batch), ("embedding_batch", embedding_batch)):
            if batch < 1:
                raise InputError(f"{name} counts windows, 1 or more; got {batch}")
        self.recipe = recipe
        self.sample_rate = int(segmentation.audio.sample_rate)
        window = _first(window, recipe.window, float(segmentation.specifications.duration))
        hop = _first(hop, recipe.hop, 0.1 * window)
        _check_grid(window, hop, self.sample_rate)
        dtype = PRECISIONS[precision]
        self._pipeline = _Pipeline(
            segmentation,
            embedding,
            recipe,
            plda,
            SlidingSegmentation(segmentation, window=window, hop=hop, batch=segmentation_batch, precision=dtype),
            PooledEmbedder(embedding, batch=embedding_batch, precision=dtype, full_batches=place.type == "cuda"),
        )
        self._pipeline.to(place)
        self.window, self.hop = window, hop

    def modules(self) -> Mapping[str, torch.nn.Module]:
        """The networks by stage, as they run."""
        return {"segmentation": self._pipeline._segmentation.model, "embedding": self._pipeline._embedding.model_}

    def diarize(
        self,
        samples: NDArray[np.float32],
        sample_rate: int,
        *,
        speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> Turns:
        """Who spoke when, in seconds, in a signal of shape (samples,) or (1, samples).

        The hints, where known: `speakers` is the exact number, or `min_speakers` and `max_speakers` bound it; any of
        them takes the place of the recipe's own bounds. Raises AudioError for a signal with other channels, another
        rate than the networks', no samples, or such as are not finite; InputError for hints that contradict each
        other, or that the recipe's rules don't heed.
        """
        hints = _hints(self.recipe, speakers, min_speakers, max_speakers)
        return self._diarize(SignalInMemory(samples, sample_rate, self.sample_rate), hints)

    def diarize_file(
        self,
        path: Path,
        *,
        channel: str | int | None = None,
        speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> Turns:
        """The same for an audio file, read window by window: its signal is never in memory as a whole.

        `channel` is "first", "mix" (the mean) or a number where the file has several. Reading is part of the time that
        this takes. Raises AudioError also where the file can't be read.
        """
        hints = _hints(self.recipe, speakers, min_speakers, max_speakers)
        return self._diarize(SignalInFile(path, self.sample_rate, channel), hints)

    def _diarize(self, signal: Signal, hints: Mapping[str, int | None]) -> Turns:
        with without_tf32(self._pipeline.device):
            output = self._pipeline.apply({"signal": signal, "uri": "recording"}, **hints)
        return Turns.from_annotation(output.speaker_diarization)


class _Pipeline(SpeakerDiarization):  # type: ignore[misc]
    """pyannote.audio's pipeline with our steps in place of its own."""

    def __init__(
        self,
        segmentation: Model,
        embedding: Model,
        recipe: Recipe,
        plda: Path | None,
        sliding: SlidingSegmentation,
        pooled: PooledEmbedder,
    ) -> None:
        model = _plda_of(recipe, plda)
        super().__init__(
            segmentation=segmentation,
            embedding=embedding,
            embedding_exclude_overlap=recipe.exclude_overlap,
            plda=model,
            clustering="AgglomerativeClustering" if isinstance(recipe.clustering, Ahc) else "VBxClustering",
        )
        self.rules = recipe.rules
        self._segmentation = sliding
        self._pooled = pooled
        if isinstance(recipe.clustering, Ahc):
            self.clustering = RuledAhc(recipe.clustering, recipe.rules)
        else:
            self.clustering = RuledVbx(recipe.clustering, recipe.rules, model)
        powerset = segmentation.specifications.powerset
        if not powerset and recipe.rules.median_frames > 1:
            raise InputError("a median filter needs a powerset network: set median_frames to 1 for this one")
        chosen = {"min_duration_off": recipe.min_off} | ({} if powerset else {"threshold": recipe.onset})
        self.instantiate({"segmentation": chosen, "clustering": self.clustering.parameters(instantiated=True)})

    def get_segmentations(self, file: Any, hook: Any = None) -> SlidingWindowFeature:
        """Who speaks in each window: (windows, frames, slots)."""
        with stage("segmentation"):
            segmentations = super().get_segmentations(file, hook=hook)
            if self.rules.median_frames > 1:
                segmentations.data = majority(segmentations.data, self.rules.median_frames)
            return segmentations

    def speaker_count(self, *arguments: Any, **options: Any) -> SlidingWindowFeature:
        """How many speak in each frame of the recording: (frames, 1)."""
        with stage("reconstruction"):
            return super().speaker_count(*arguments, **options)

    def get_embeddings(
        self, file: Any, binary_segmentations: SlidingWindowFeature, exclude_overlap: bool = False, hook: Any = None
    ) -> NDArray[np.float32]:
        """Whose voice it is in each slot of each window: (windows, slots, dimensions)."""
        windows, frames, slots = binary_segmentations.data.shape
        shortest = -1
        if exclude_overlap:
            samples = binary_segmentations.sliding_window.duration * self._embedding.sample_rate
            # The least input is found by trying some noise.
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shortest = shortest_mask(frames, self._embedding.min_num_samples, samples)

        signal: Signal = file["signal"]
        rate = self._embedding.sample_rate

        def each_window() -> Iterator[Window]:
            for chunk, decisions in binary_segmentations:
                masks = slot_masks(decisions, exclude_overlap=exclude_overlap, shortest=shortest)
                yield Window(signal.part(round(chunk.start * rate), round(chunk.end * rate)), masks)

        with stage("embedding"):
            give_back_freed()
            embeddings = self._pooled(each_window(), (windows, slots))
            give_back_freed()
            return embeddings

    def reconstruct(
        self, segmentations: SlidingWindowFeature, hard_clusters: NDArray[np.integer], count: SlidingWindowFeature
    ) -> SlidingWindowFeature:
        """Who speaks when: 0 or 1 for each frame and cluster."""
        with stage("reconstruction"):
            activations = summed_activations(segmentations, hard_clusters, count.sliding_window, len(count))
            missing = int(count.data.max()) - activations.shape[1]
            if missing > 0:
                activations = np.pad(activations, ((0, 0), (0, missing)))
            # pyannote.audio crops to the extent of both, which moves the frames' clock by its rules.
            summed = SlidingWindowFeature(activations, count.sliding_window)
            counts = count.crop(count.extent)
            summed = summed.crop(count.extent, return_data=False)
            return SlidingWindowFeature(most_active(summed.data, counts[:, 0]), summed.sliding_window)

    def to_annotation(
        self, discrete_diarization: SlidingWindowFeature, min_duration_on: float = 0.0, min_duration_off: float = 0.0
    ) -> Annotation:
        """Turns of each cluster, pauses shorter than `min_duration_off` (s) filled."""
        with stage("reconstruction"):
            turns = annotation_from_frames(discrete_diarization.data, discrete_diarization.sliding_window)
            return turns.support(collar=min_duration_off) if min_duration_off > 0 else turns


def _plda_of(recipe: Recipe, folder: Path | None) -> PLDA:
    """The PLDA model in the folder; for AHC, which uses none, an empty one, since pyannote.audio insists on it."""
    if isinstance(recipe.clustering, Ahc):
        return PLDA.__new__(PLDA)
    if folder is None:
        raise MissingRequirementError(
            "VBx clustering needs a PLDA model: name the folder of xvec_transform.npz and plda.npz, or choose AHC"
        )
    return load_plda(folder, recipe.clustering.lda_dimension)


def _check_grid(window: Seconds, hop: Seconds, rate: int) -> None:
    for name, time in (("window", window), ("hop", hop)):
        if not 0 < time < math.inf:
            raise InputError(f"a {name} is longer than 0 s; got {time:g} s")
        if abs(time * rate - round(time * rate)) > 1e-6:
            raise InputError(f"the {name}, {time:g} s, is no whole number of samples at {rate} Hz; choose one near it")
    if hop > window:
        raise InputError(f"a hop of {hop:g} s leaves gaps between windows of {window:g} s; make it {window:g} or less")


def _first(*times: Seconds | None) -> Seconds:
    return next(time for time in times if time is not None)


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError:
        raise InputError(f"there is no device {name!r}; say cpu or cuda") from None
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise MissingRequirementError(f"{name}: PyTorch finds no such CUDA device on this machine; say cpu")
    return place


def _hints(recipe: Recipe, speakers: int | None, least: int | None, most: int | None) -> dict[str, int | None]:
    """What pyannote.audio is told of the number of speakers; raises InputError for hints that it can't heed."""
    hints = {"speakers": speakers, "min_speakers": least, "max_speakers": most}
    given = {name: value for name, value in hints.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise InputError(f"{name} is 1 or more; got {value}")
    if len(given) > 1 and speakers is not None:
        raise InputError("speakers is the exact number: give it alone, or min_speakers and max_speakers without it")
    if least is not None and most is not None and least > most:
        raise InputError(f"min_speakers, {least}, is above max_speakers, {most}; change one of them")
    if given and isinstance(recipe.clustering, Vbx) and not recipe.rules.hints_bind_vbx:
        raise InputError(f"these rules' VBx heeds no {next(iter(given))}; set hints_bind_vbx, or give no hint")
    if not given:
        least, most = recipe.min_speakers, recipe.max_speakers
    return {"num_speakers": speakers, "min_speakers": least, "max_speakers": most}


@contextlib.contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """No TF32 on a GPU meanwhile: pyannote.audio turns it off for good, this turns it back on if it was."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
