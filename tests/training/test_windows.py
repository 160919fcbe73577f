"""Windows of recordings, and who speaks in their frames."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import soundfile
import torch

from diarbench.audio import decode, decode_part
from diarbench.errors import AudioError, InputError
from diarbench.training.windows import Grid, Windows
from diarbench.types import Recording, Turns
from tests.training.small_data import load, make_data

GRID = Grid(400, 320, 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(make_data(tmp_path_factory.mktemp("windows"), "tones", recordings=3, seconds=7.0))


def test_activity_is_whether_the_middle_of_a_frame_lies_in_a_turn():
    rng = np.random.default_rng(0)
    rows = [(start, start + rng.uniform(0.05, 2), f"s{rng.integers(4)}") for start in rng.uniform(0, 20, 60)]
    turns = Turns.of(rows)
    grid = Grid(400, 320, 4)
    for start in (0.0, 3.217, 18.0):
        found = grid.activity(turns, start, 64000)
        expected = np.zeros((grid.frames(64000), 4), dtype=bool)
        for frame in range(len(expected)):
            middle = start + (frame * 320 + 200) / 16000
            for begin, end, speaker in turns:
                expected[frame, int(speaker[1])] |= begin <= middle < end
        order = sorted(range(4), key=lambda speaker: -expected[:, speaker].sum())
        assert (np.sort(found.sum(0)) == np.sort(expected.sum(0))).all()
        assert (np.diff(found.sum(0)) <= 0).all()
        assert (found == expected[:, order]).all() or found.sum() == expected.sum()


def test_the_speakers_with_least_speech_are_left_out():
    turns = Turns.of([(0.0, 1.0, "a"), (0.0, 3.0, "b"), (0.0, 2.0, "c")])
    active = Grid(400, 320, 2).activity(turns, 0.0, 64000)
    assert active.sum(0).tolist() == [150, 100]


def test_windows_begin_every_shift_and_end_flush(dataset):
    windows = Windows([dataset], window=3.0, shift=2.5)
    # 7 s: at 0, 2.5, and 4.0 so that the end is seen.
    assert len(windows) == 9
    assert windows.duration == 27.0
    samples = decode(dataset.recordings[0].recording).samples[0]
    batch = windows.read([0, 1, 2], GRID)
    for row, start in enumerate((0, 40000, 64000)):
        assert np.array_equal(batch.samples[row].numpy(), samples[start : start + 48000])
    assert batch.activity.shape == (3, GRID.frames(48000), 3)


def test_a_part_of_the_windows_is_the_same_each_time_and_nested(dataset):
    sets = []
    for fraction in (0.25, 0.5, 1.0):
        windows = Windows([dataset], window=2.0, shift=0.5, fraction=fraction)
        sets.append({windows.read([i], GRID).samples.numpy().tobytes() for i in range(len(windows))})
    assert sets[0] < sets[1] < sets[2]
    assert len(Windows([dataset], window=2.0, shift=0.5, most=5)) == 5


def test_batches_go_on_from_any_number(dataset):
    windows = Windows([dataset], window=2.0, shift=1.0)
    whole = list(islice(windows.shuffled(batch=4, seed=1, grid=GRID), 12))
    later = list(islice(windows.shuffled(batch=4, seed=1, grid=GRID, first=7), 5))
    assert all(torch.equal(one.samples, other.samples) for one, other in zip(whole[7:], later, strict=True))
    seen = torch.cat([batch.samples for batch in whole])[: len(windows)]
    assert len(torch.unique(seen, dim=0)) == len(windows), "an epoch has each window once"
    other = next(windows.shuffled(batch=4, seed=2, grid=GRID))
    assert not torch.equal(whole[0].samples, other.samples)


def test_all_windows_once(dataset):
    windows = Windows([dataset], window=2.0, shift=2.0)
    batches = list(windows.once(batch=5, grid=GRID))
    assert sum(len(batch.samples) for batch in batches) == len(windows)
    assert [len(batch.samples) for batch in batches][:-1] == [5] * (len(batches) - 1)


def test_nothing_to_train_on_is_said(dataset):
    with pytest.raises(InputError, match=r"tones: holds no scoring region of 60 s"):
        Windows([dataset], window=60.0, shift=1.0)
    for wrong in ({"window": 0.0}, {"shift": -1.0}, {"fraction": 0.0}, {"fraction": 1.5}):
        with pytest.raises(InputError):
            Windows([dataset], **{"window": 2.0, "shift": 1.0, **wrong})


@pytest.mark.parametrize(("rate", "error"), [(16000, 0.0), (48000, 2e-4), (8000, 2e-4), (44100, 2e-4)])
def test_a_part_is_what_the_whole_file_has_there(tmp_path, rate, error):
    times = np.arange(round(4.0 * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 440 * times) + 0.2 * np.sin(2 * np.pi * 1333 * times)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    recording = Recording("a", path, 4.0, 16000, None)
    whole = decode(recording).samples[0]
    for start, count in ((0.0, 16000), (1.25, 20000), (3.0, 16000)):
        part = decode_part(recording, start, count)
        first = round(start * 16000)
        assert part.shape == (count,)
        assert np.abs(part - whole[first : first + count]).max() <= error


def test_a_part_that_is_not_there_is_an_error(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((16000, 2)), 16000)
    with pytest.raises(AudioError, match="ends before 2"):
        decode_part(Recording("a", path, 2.0, 16000, "mix"), 1.0, 16000)
    with pytest.raises(AudioError, match="2 channels"):
        decode_part(Recording("a", path, 1.0, 16000, None), 0.0, 16000)
    with pytest.raises(AudioError, match="no audio"):
        decode_part(Recording("a", None, 1.0, 16000, None), 0.0, 16000)
