"""From dry speech to what a microphone in a room records: distances, reverberation, noise, colour and level.

All that arrives is added up as spectra, so that rooms and the microphone cost one transform per speaker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import InputError
from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.noises import babble, events, hum_spectrum, noise_spectrum
from diarbench.simulate.rooms import Room, direct_to_reverberant, distance_to, draw_room, impulse_response, place
from diarbench.simulate.speech import SAMPLE_RATE
from diarbench.types import Seconds

Range: TypeAlias = tuple[float, float]
Voices: TypeAlias = Callable[[int, np.random.Generator], list[NDArray[np.float32]]]
"""So many voices that don't take part, drawn with the generator: (samples,) each, at 16 kHz."""

_LOUDEST = 0.95  # of full scale
_BABBLERS = (3, 6)  # voices
_TAIL: Seconds = 0.3  # of a silence is never muted: reverberation dies away there


@dataclass(frozen=True, slots=True)
class Scene:
    """How a conversation is recorded: ranges, each conversation draws evenly from them.

    The defaults are those of `far`. Reverberation times are those of offices and meeting rooms as they have been
    measured, 0.37 to 0.54 s in two small meeting and conference rooms and 0.44 s in seminar rooms (ASH Listening Set,
    "Room and Measurement Summary"), and less or more where there are carpets or bare walls. The ratio of direct to
    reverberant sound follows from room and distance. Levels, noise and colour were set to enclose what ten 30-second
    excerpts of AMI's train part show (docs/simulating.md).
    """

    name: str = "far"
    floor: Range = (3.5, 9.0)
    """The longer side of the room, m; `rooms.draw_room` says how the rest follows."""
    reverberation: tuple[Seconds, Seconds] = (0.2, 0.7)
    """60 dB, between 500 Hz and 3 kHz, s."""
    distance: Range = (0.5, 3.5)
    """From a speaker's mouth to the microphone, m; each speaker has his own."""
    facing: Range = (0.0, 6.0)
    """How much stronger a speaker's voice is towards the microphone than on average, dB."""
    effort: float = 6.0
    """Speakers' voices are drawn evenly from a range this wide, dB; distance comes on top."""
    level: Range = (-48.0, -22.0)
    """RMS of the speech as recorded, while somebody speaks and before a telephone line, dB below full scale."""
    snr: Range = (3.0, 45.0)
    """The same over the steady noise, dB, both as recorded."""
    slope: Range = (-8.0, 0.0)
    """Of the steady noise, dB per octave."""
    hum: float = 0.3
    """Probability of mains hum in the noise, 0 to 20 dB below the rest of it."""
    events: Range = (0.0, 12.0)
    """Noises that come and go (taps, clicks, thumps, rustling paper), per minute."""
    event_level: Range = (-20.0, 10.0)
    """Of the loudest 20 ms of such a noise over the speech, dB."""
    babble: float = 0.25
    """Probability of people who talk far away, and aren't in the reference."""
    babble_level: Range = (-35.0, -18.0)
    """Of these people over the speech, dB."""
    low_cut: Range = (30.0, 150.0)
    """Below, the microphone loses 12 dB per octave; Hz."""
    high_cut: Range = (3500.0, 8000.0)
    """Above, it loses 24 dB per octave; Hz."""
    tilt: Range = (-6.0, 1.0)
    """Change of the microphone's response over frequency, dB per octave."""
    ripple: float = 3.0
    """How far the response wanders up and down over that, dB at most."""
    telephone: float = 0.05
    """Probability of a telephone line: 300 to 3400 Hz, 8 kHz, 8 bits µ-law (ITU-T G.711)."""
    mute: float = 0.15
    """Probability that long silences are digital ones: all samples are 0."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several scenes, of which each conversation draws one."""

    scenes: tuple[Scene, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises InputError for weights that aren't one positive number per scene."""
        if not self.scenes or len(self.weights) != len(self.scenes) or min(self.weights) <= 0:
            raise InputError(f"{len(self.scenes)} scenes need as many weights above 0, not {self.weights}")


@dataclass(frozen=True, slots=True)
class Heard:
    """What was drawn for one conversation."""

    scene: str
    room: Room
    distances: Mapping[str, float]  # by speaker, m
    direct_to_reverberant: Mapping[str, float]  # by speaker, dB
    level: float  # dBFS: lower than drawn where peaks would not have fitted
    snr: float  # dB
    slope: float  # dB per octave
    events: float  # per minute, the rate that their number was drawn at
    hum: bool
    babble: bool
    telephone: bool
    muted: bool


FAR = Scene()
NEAR = Scene(
    name="near",
    floor=(3.0, 6.0),
    reverberation=(0.15, 0.5),
    distance=(0.1, 0.5),
    effort=8.0,
    level=(-36.0, -16.0),
    snr=(10.0, 45.0),
    events=(0.0, 8.0),
    babble=0.15,
    low_cut=(30.0, 120.0),
    high_cut=(6000.0, 8000.0),
    tilt=(-2.0, 1.0),
    telephone=0.1,
)
HEADSET = Scene(
    name="headset",
    floor=(3.5, 9.0),
    reverberation=(0.15, 0.5),
    distance=(0.05, 0.3),
    effort=10.0,
    level=(-48.0, -26.0),
    snr=(15.0, 50.0),
    events=(0.0, 15.0),
    babble=0.1,
    low_cut=(20.0, 60.0),
    high_cut=(6000.0, 8000.0),
    tilt=(-5.0, -0.5),
    telephone=0.0,
)

PRESETS: Mapping[str, Acoustics | Scene | Mixture] = MappingProxyType(
    {"dry": Acoustics(), "headset": HEADSET, "near": NEAR, "far": FAR, "meeting": Mixture((NEAR, FAR), (1.0, 3.0))}
)
"""Ways of recording, by name: `dry` is what conversations sound like where nothing is said; `headset` is the mean of
microphones at each speaker's mouth: quiet, bass-heavy, with little of the room; `near` a microphone in front of people,
`far` one on the table, the ceiling or a wall; `meeting` is a quarter near and three quarters far."""


def preset(name: str) -> Acoustics | Scene | Mixture:
    """The preset of a name. Raises InputError for another one."""
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


@dataclass(slots=True)
class _Sum:
    """Signals that arrive at the microphone, as one spectrum."""

    size: int  # of the transforms: nothing wraps around
    spectrum: NDArray[np.complex64] = field(init=False)

    def __post_init__(self) -> None:
        self.spectrum = np.zeros(self.size // 2 + 1, dtype=np.complex64)

    def add(self, signal: NDArray[np.float32], response: NDArray[np.float32]) -> None:
        from scipy.fft import rfft

        self.spectrum += rfft(signal, self.size) * rfft(response, self.size)


@dataclass(frozen=True, slots=True)
class _Spoken:
    """All speakers in their room."""

    sum: _Sum
    direct: dict[str, NDArray[np.float32]]
    distances: dict[str, float]
    ratios: dict[str, float]


def record(
    stems: Mapping[str, NDArray[np.float32]],
    silences: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    scene: Scene | Mixture,
    voices: Voices | None = None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], Heard]:
    """Dry stems, all of shape (samples,), as a microphone in a room records them; the direct sound isn't delayed.

    Returns the recording, the stems as strong as their direct sound in it (before the microphone's colour), and what
    was drawn. `silences` are spans (in samples) that may become digital silence; `voices` are asked for babble.
    """
    from scipy.fft import irfft, next_fast_len

    if isinstance(scene, Mixture):
        weights = np.array(scene.weights)
        scene = scene.scenes[int(rng.choice(len(scene.scenes), p=weights / weights.sum()))]
    room = draw_room(rng, floor=scene.floor, reverberation=scene.reverberation)
    length = len(next(iter(stems.values())))
    size = next_fast_len(length + round(max(room.reverberation) * SAMPLE_RATE), real=True)
    spoken = _speak(stems, room, size, scene, rng)
    microphone = _microphone(size, scene, rng)
    speech = spoken.sum.spectrum * microphone
    active = np.count_nonzero(np.any([stem != 0 for stem in stems.values()], axis=0))
    power = _energy(speech, size) / active
    rate, humming, babbling = rng.uniform(*scene.events), rng.uniform() < scene.hum, rng.uniform() < scene.babble
    other = _Sum(size)
    if rate > 0:
        other.add(events(length, rate, scene.event_level, rng) * np.float32(np.sqrt(power)), _elsewhere(room, rng))
    if babbling and voices is not None:
        _add_babble(other, length, power, room, scene, voices, rng)
    slope, snr = rng.uniform(*scene.slope), rng.uniform(*scene.snr)
    steady = _steady(size, slope, humming, rng) * microphone
    steady *= np.sqrt(power * size / _energy(steady, size)) * 10 ** (-snr / 20)
    samples = irfft(speech + other.spectrum * microphone + steady.astype(np.complex64), size)[:length]
    telephone, muted = rng.uniform() < scene.telephone, rng.uniform() < scene.mute
    level = _fitting(rng.uniform(*scene.level), power, samples)
    gain = 10 ** (level / 20) / np.sqrt(power)
    samples = samples * np.float32(gain)
    if telephone:
        samples = _telephone(samples)
    if muted:
        _mute(samples, silences)
    heard = Heard(
        scene.name,
        room,
        spoken.distances,
        spoken.ratios,
        level=float(level),
        snr=float(snr),
        slope=float(slope),
        events=float(rate),
        hum=bool(humming),
        babble=bool(babbling and voices is not None),
        telephone=bool(telephone),
        muted=bool(muted and silences),
    )
    return samples, {name: stem * np.float32(gain) for name, stem in spoken.direct.items()}, heard


def _speak(
    stems: Mapping[str, NDArray[np.float32]], room: Room, size: int, scene: Scene, rng: np.random.Generator
) -> _Spoken:
    """Each speaker at a place of his own."""
    spoken = _Spoken(_Sum(size), {}, {}, {})
    for name, stem in stems.items():
        spot = place(room, rng.uniform(*scene.distance), rng)
        distance = spoken.distances[name] = distance_to(room, spot)
        response = impulse_response(room, spot, rng, directivity=10 ** (rng.uniform(*scene.facing) / 10))
        spoken.ratios[name] = direct_to_reverberant(response)
        effort = rng.uniform(-scene.effort / 2, scene.effort / 2)
        spoken.direct[name] = stem * np.float32(10 ** (effort / 20) / distance)
        spoken.sum.add(spoken.direct[name], response)
    return spoken


def _add_babble(
    other: _Sum, length: int, power: float, room: Room, scene: Scene, voices: Voices, rng: np.random.Generator
) -> None:
    crowd = babble(voices(int(rng.integers(_BABBLERS[0], _BABBLERS[1] + 1)), rng), length, rng)
    behind = _elsewhere(room, rng, near=0.0)
    gain = np.sqrt(power / np.sum(behind.astype(np.float64) ** 2)) * 10 ** (rng.uniform(*scene.babble_level) / 20)
    other.add(crowd * np.float32(gain), behind)


def _fitting(level: float, power: float, samples: NDArray[np.float32]) -> float:
    """The level (dBFS) for speech of a power, or the highest at which the samples' peak fits into full scale."""
    peak = float(np.abs(samples).max()) * 10 ** (level / 20) / np.sqrt(power)
    return level + 20 * float(np.log10(_LOUDEST / peak)) if peak > _LOUDEST else level


def _energy(spectrum: NDArray[np.complexfloating], size: int) -> float:
    """The sum of the squares of the samples that a spectrum (as `rfft` gives it) belongs to."""
    squares = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    return float(2 * squares.sum() - squares[0]) / size


def _steady(size: int, slope: float, humming: bool, rng: np.random.Generator) -> NDArray[np.complex128]:
    """The spectrum of the noise that goes on through the whole recording, at any level."""
    noise = noise_spectrum(size, slope, rng)
    if humming:
        lines = hum_spectrum(size, rng)
        noise += lines * np.sqrt(_energy(noise, size) / _energy(lines, size)) * 10 ** (-rng.uniform(0, 20) / 20)
    return noise


def _elsewhere(room: Room, rng: np.random.Generator, near: float = 1.0) -> NDArray[np.float32]:
    """From anywhere in the room, the direct sound `near` times as strong as it would be: 0 from behind a door."""
    response = impulse_response(room, place(room, rng.uniform(0.5, 4.0), rng), rng)
    response[0] *= near
    return response


def _microphone(size: int, scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """What the microphone does to each frequency of an `rfft`, shape (size // 2 + 1,): amplitude only, no delay."""
    low, high, tilt = rng.uniform(*scene.low_cut), rng.uniform(*scene.high_cut), rng.uniform(*scene.tilt)
    # Responses are smooth: worked out at 257 frequencies, straight lines in between.
    coarse = np.linspace(0, SAMPLE_RATE / 2, 257)
    octaves = np.log2(np.maximum(coarse, 20.0) / 1000.0)
    decibels = tilt * octaves
    for _ in range(3):
        period, phase = rng.uniform(0.7, 4.0), rng.uniform(0, 2 * np.pi)
        decibels += scene.ripple / 3 * rng.uniform(0, 1) * np.sin(2 * np.pi * octaves / period + phase)
    decibels -= 10 * np.log10(1 + (low / np.maximum(coarse, 5.0)) ** 4)
    decibels -= 10 * np.log10(1 + (coarse / high) ** 8)
    fine = np.interp(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), coarse, 10 ** (decibels / 20))
    return np.asarray(fine.astype(np.float32))


def _telephone(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The signal after a telephone line."""
    from scipy.signal import butter, sosfiltfilt

    from diarbench.audio import resample

    band = butter(2, (300, 3400), "bandpass", fs=SAMPLE_RATE, output="sos")
    narrow = resample(sosfiltfilt(band, samples)[None].astype(np.float32), SAMPLE_RATE, 8000)[0]
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.minimum(np.abs(narrow), 1.0)) / np.log(256) * 127) / 127
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255
    wide = resample(decoded[None].astype(np.float32), 8000, SAMPLE_RATE)[0]
    return np.asarray(np.resize(wide, len(samples)) if len(wide) < len(samples) else wide[: len(samples)].copy())


def _mute(samples: NDArray[np.float32], silences: Sequence[tuple[int, int]]) -> None:
    for start, stop in silences:
        samples[start + round(_TAIL * SAMPLE_RATE) : stop] = 0.0
