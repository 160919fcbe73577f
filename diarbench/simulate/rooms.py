"""Meeting rooms: impulse responses with early reflections and a tail, from a few figures of a room.

Early reflections are image sources of a shoebox (J. B. Allen and D. A. Berkley, "Image method for efficiently
simulating small-room acoustics", 1979), each moved at random by a few centimetres, which takes away the flutter that
perfect shoeboxes have (E. De Sena et al., "On the modeling of rectangular geometries in room acoustic simulations",
2015). From `EARLY` s on follows noise that dies away, as strong as the images would be there (J.-D. Polack). Both have
three frequency bands with a reverberation time each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarbench.simulate.speech import SAMPLE_RATE
from diarbench.types import Seconds

SPEED_OF_SOUND = 343.0  # m/s, at 20 °C
EARLY: Seconds = 0.05  # after the direct sound; rooms of 200 m³ have mixed by then (A. Lindau et al., 2012)
_CROSSOVERS = (500.0, 3000.0)  # Hz, between the bands
_DECAY = 3 * np.log(10.0)  # of amplitude within a reverberation time: 60 dB
_JITTER = 0.08  # m, as De Sena et al. recommend
_DIRECT: Seconds = 0.0025  # what arrives within it is direct sound where a ratio is taken
_WALL = 0.4  # m: nobody is nearer to a wall
_CEILING = 0.1  # m, likewise


@dataclass(frozen=True, slots=True)
class Room:
    """A shoebox with a microphone in it."""

    size: tuple[float, float, float]  # m: length, width, height
    reverberation: tuple[Seconds, Seconds, Seconds]  # 60 dB: below 500 Hz, between, above 3 kHz
    microphone: tuple[float, float, float]  # m, from a corner

    @property
    def volume(self) -> float:
        """m³."""
        return float(np.prod(self.size))

    @property
    def surface(self) -> float:
        """m²."""
        length, width, height = self.size
        return 2 * (length * width + length * height + width * height)

    @property
    def critical_distance(self) -> float:
        """Where the reverberation is as strong as the direct sound of a source without direction, m: 0.057 √(V/T)."""
        return float(np.sqrt(self.volume * _DECAY * 2 / self.reverberation[1] / (4 * np.pi * SPEED_OF_SOUND)))


def place(room: Room, distance: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """A talker's mouth, 1.1 to 1.7 m high, at `distance` m from the microphone, or as near to that as walls allow."""
    best: tuple[float, float, float] | None = None
    for _ in range(20):
        angle = rng.uniform(0, 2 * np.pi)
        height = min(max(rng.uniform(1.1, 1.7), room.microphone[2] - distance), room.microphone[2] + distance)
        flat = np.sqrt(max(distance**2 - (height - room.microphone[2]) ** 2, 0.0))
        wanted = (room.microphone[0] + flat * np.cos(angle), room.microphone[1] + flat * np.sin(angle), height)
        x, y = (min(max(at, _WALL), side - _WALL) for at, side in zip(wanted[:2], room.size[:2], strict=True))
        spot = (float(x), float(y), float(min(height, room.size[2] - _CEILING)))
        if best is None or abs(distance_to(room, spot) - distance) < abs(distance_to(room, best) - distance):
            best = spot
        if spot == wanted:
            break
    assert best is not None
    return best


def distance_to(room: Room, source: tuple[float, float, float]) -> float:
    """From the microphone, m."""
    return float(np.linalg.norm(np.subtract(source, room.microphone)))


def draw_room(rng: np.random.Generator, *, floor: tuple[float, float], reverberation: tuple[Seconds, Seconds]) -> Room:
    """A room with a side of `floor` m, another up to a third shorter, 2.4 to 3.2 m high, and its reverberation (s).

    Carpets and people swallow high frequencies, walls and windows less of the low ones: below 500 Hz reverberation is
    0.9 to 1.3 times as long, above 3 kHz 0.5 to 0.9 times. The microphone is 0.7 to 1.2 m (a table) or, in one room
    of five, 2.0 to 2.3 m (a screen or the ceiling) above the floor.
    """
    length = rng.uniform(*floor)
    size = (float(length), float(length * rng.uniform(0.67, 1.0)), float(rng.uniform(2.4, 3.2)))
    middle = float(rng.uniform(*reverberation))
    bands = (middle * float(rng.uniform(0.9, 1.3)), middle, middle * float(rng.uniform(0.5, 0.9)))
    height = float(rng.uniform(2.0, 2.3) if rng.uniform() < 0.2 else rng.uniform(0.7, 1.2))
    x, y = (float(side * rng.uniform(0.3, 0.7)) for side in size[:2])
    return Room(size, bands, (x, y, height))


def impulse_response(
    room: Room, source: tuple[float, float, float], rng: np.random.Generator, *, directivity: float = 1.0
) -> NDArray[np.float32]:
    """From a source to the microphone, shape (taps,): the direct sound is 1 at sample 0, the rest relative to it.

    A source that faces the microphone sends `directivity` times as much energy there as it does on average, so that
    all reflections are weaker by that.
    """
    distance = max(distance_to(room, source), 0.02)
    taps = round(max(room.reverberation) * SAMPLE_RATE)
    bands = np.zeros((3, taps), dtype=np.float64)
    early = min(round(EARLY * SAMPLE_RATE), taps)
    delays, lengths, bounces = _images(room, source, distance, rng)
    times = np.arange(taps) / SAMPLE_RATE
    noise = rng.standard_normal(taps)
    noise[:early] = 0.0
    # The energy of the images between t and t + dt, where there are many: 4π c³ t² dt / V of them, 1 / (4π c t)² each.
    density = distance * np.sqrt(4 * np.pi * SPEED_OF_SOUND / room.volume / SAMPLE_RATE)
    for band, reverberation in zip(bands, room.reverberation, strict=True):
        # Eyring's formula, solved for what a wall leaves of the amplitude.
        kept = np.exp(-_DECAY * 4 * room.volume / (SPEED_OF_SOUND * room.surface * reverberation))
        np.add.at(band, delays, distance / lengths * kept**bounces)
        band += density * noise * np.exp(-_DECAY * times / reverberation)
    response = _join(bands) / np.sqrt(directivity)
    response[0] += 1.0
    return np.asarray(response.astype(np.float32))


def direct_to_reverberant(response: NDArray[np.float32]) -> float:
    """The energy that arrives within 2.5 ms of the direct sound over that of the rest, dB."""
    at = round(_DIRECT * SAMPLE_RATE)
    energy = response.astype(np.float64) ** 2
    return float(10 * np.log10(np.sum(energy[:at]) / max(float(np.sum(energy[at:])), 1e-12)))


def _images(
    room: Room, source: tuple[float, float, float], distance: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Of each image heard within `EARLY` s: samples after the direct sound, length of the way (m), walls met."""
    reach = distance + EARLY * SPEED_OF_SOUND
    axes = []
    for at, microphone, side in zip(source, room.microphone, room.size, strict=True):
        most = int(np.ceil(reach / (2 * side)))
        rooms = np.arange(-most, most + 1)
        away = np.concatenate([2 * rooms * side + at, 2 * rooms * side - at]) - microphone
        axes.append((away, np.concatenate([np.abs(2 * rooms), np.abs(2 * rooms - 1)])))
    x, y, z = np.meshgrid(*(away for away, _ in axes), indexing="ij")
    walls = np.add.outer(np.add.outer(axes[0][1], axes[1][1]), axes[2][1]).ravel()
    spots = np.stack([x.ravel(), y.ravel(), z.ravel()])
    spots += rng.uniform(-_JITTER, _JITTER, spots.shape)
    # An image is never nearer than the source, whatever the jitter.
    lengths = np.maximum(np.sqrt(np.sum(spots**2, axis=0)), distance)
    delays = np.round((lengths - distance) / SPEED_OF_SOUND * SAMPLE_RATE).astype(np.int64)
    heard = (walls > 0) & (delays < round(EARLY * SAMPLE_RATE)) & (delays > 0)
    return delays[heard], lengths[heard], walls[heard]


def _join(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of signals (3, taps), each kept to its band; crossovers are smooth, an octave wide."""
    from scipy.fft import irfft, next_fast_len, rfft

    taps = bands.shape[1]
    size = next_fast_len(taps + 512, real=True)  # so much of the filters' rise falls behind the end and is cut off
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 1.0))
    low, high = (1 / (1 + np.exp(6 * (octaves - np.log2(at)))) for at in _CROSSOVERS)
    weights = np.stack([low, high - low, 1 - high])
    return np.asarray(irfft(np.sum(rfft(bands, size) * weights, axis=0), size)[:taps])
