from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarbench.audio import check_channels, decode, read_header, resample
from diarbench.errors import AudioError
from diarbench.types import Recording

LOSSLESS = [
    ("a.wav", {}),
    ("a.wav", {"subtype": "PCM_24"}),
    ("a.wav", {"subtype": "FLOAT"}),
    ("a.wav", {"format": "WAVEX"}),
    ("a.flac", {}),
    ("a.flac", {"subtype": "PCM_24"}),
    ("a.aiff", {}),
    ("a.w64", {}),
    ("a.rf64", {"format": "RF64"}),
    ("a.sph", {"format": "NIST"}),
]
LOSSY = [
    ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
    ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
    ("a.mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
]


def recording(path: Path | None, *, rate: int = 16000, channel: str | int | None = None) -> Recording:
    return Recording("rec", path, 0.0, rate, channel)


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if length is None else length) + body + b"\0" * (len(body) % 2)


def wav(*chunks: bytes, rate: int = 16000) -> bytes:
    body = b"WAVE" + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


PCM = (1000 * np.sin(np.arange(8000) / 10)).astype("<i2")


# --- formats


@pytest.mark.parametrize(("name", "how"), LOSSLESS)
def test_lossless_formats_keep_every_sample(tmp_path, write_audio, name, how):
    samples = write_audio(tmp_path / name, seconds=0.5, **how)
    header = read_header(tmp_path / name)
    assert (header.duration, header.sample_rate, header.channels) == (0.5, 16000, 1)
    audio = decode(recording(tmp_path / name))
    assert audio.samples.shape == (1, 8000)
    assert audio.samples.dtype == np.float32
    # 16 bits round to half a step at best.
    assert np.abs(audio.samples[0] - samples).max() <= 1 / 32768


@pytest.mark.parametrize(("name", "how"), LOSSY)
def test_lossy_formats_keep_length_and_level(tmp_path, write_tone, name, how):
    write_tone(tmp_path / name, seconds=2.0, rate=16000, level=0.5, **how)
    assert read_header(tmp_path / name).duration == pytest.approx(2.0, abs=0.1)
    audio = decode(recording(tmp_path / name))
    assert audio.samples.shape[1] == pytest.approx(32000, abs=1600)
    middle = audio.samples[0, 8000:24000]
    assert np.sqrt(2 * (middle**2).mean()) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_length_level_and_pitch(tmp_path, write_tone, rate):
    write_tone(tmp_path / "a.wav", seconds=1.2345, rate=rate, hertz=440, level=0.5, subtype="FLOAT")
    audio = decode(recording(tmp_path / "a.wav"))
    assert abs(audio.samples.shape[1] - 1.2345 * 16000) <= 1
    middle = audio.samples[0, 2000:18000]
    assert np.sqrt(2 * (middle**2).mean()) == pytest.approx(0.5, rel=1e-3)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440


def test_resampling_removes_what_the_new_rate_can_not_hold(tmp_path, write_tone):
    write_tone(tmp_path / "a.wav", seconds=1.0, rate=48000, hertz=12000, level=0.5, subtype="FLOAT")
    assert np.abs(decode(recording(tmp_path / "a.wav")).samples[0, 1000:-1000]).max() < 1e-3


def test_another_rate_may_be_asked_for(tmp_path, write_audio):
    write_audio(tmp_path / "a.wav")
    assert decode(recording(tmp_path / "a.wav", rate=8000)).samples.shape == (1, 8000)


def test_resample_leaves_its_input_alone():
    samples = np.ones((1, 10), dtype=np.float32)
    result = resample(samples, 16000, 16000)
    samples[0, 0] = 5.0
    assert result[0, 0] == 1.0
    assert not result.flags.writeable
    assert resample(np.ones((2, 160), dtype=np.float32), 16000, 8000).shape == (2, 80)


def test_a_system_can_not_write_into_its_input(tmp_path, write_audio):
    write_audio(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="read-only"):
        decode(recording(tmp_path / "a.wav")).samples[0, 0] = 1


# --- channels


def test_channel_rules(tmp_path, write_audio):
    samples = write_audio(tmp_path / "a.wav", channels=3, subtype="FLOAT").astype(np.float32).T
    for rule, expected in (("first", samples[:1]), (0, samples[:1]), (2, samples[2:]), ("mix", samples.mean(0)[None])):
        audio = decode(recording(tmp_path / "a.wav", channel=rule))
        assert audio.samples.shape == (1, 16000)
        assert np.allclose(audio.samples, expected, atol=1e-7)
        assert audio.samples.flags.c_contiguous


def test_channels_survive_resampling_apart(tmp_path):
    left, right = np.zeros(48000), np.sin(np.arange(48000) / 20)
    soundfile.write(str(tmp_path / "a.wav"), np.stack([left, right], axis=1), 48000, subtype="FLOAT")
    assert np.abs(decode(recording(tmp_path / "a.wav", channel=0)).samples).max() == 0
    assert np.abs(decode(recording(tmp_path / "a.wav", channel=1)).samples).max() > 0.9


@pytest.mark.parametrize(("rule", "channels"), [("first", 8), ("mix", 8), (5, 8), (None, 1)])
def test_block_by_block_is_as_the_whole(rule, channels, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(0).normal(scale=0.1, size=(1037, channels)).astype(np.float32)
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    recording = Recording("a", path, 1037 / 16000, 16000, rule)
    whole = decode(recording).samples
    monkeypatch.setattr("diarbench.audio._BLOCK", 100)
    blocks = decode(recording).samples
    assert np.array_equal(whole, blocks)
    expected = samples.T.mean(axis=0, dtype=np.float32) if rule == "mix" else samples.T[rule if rule == 5 else 0]
    assert np.array_equal(whole[0], expected)
    assert not whole.flags.writeable
    assert whole.flags.c_contiguous


@pytest.mark.parametrize("rule", ["first", "mix", 0, None])
def test_one_channel_suits_every_rule(tmp_path, write_audio, rule):
    samples = write_audio(tmp_path / "a.wav", subtype="FLOAT")
    assert np.allclose(decode(recording(tmp_path / "a.wav", channel=rule)).samples[0], samples, atol=1e-7)


def test_several_channels_need_a_rule(tmp_path, write_audio):
    write_audio(tmp_path / "a.wav", channels=2)
    with pytest.raises(AudioError, match=r"a\.wav: has 2 channels, and the dataset card names no channel rule; add"):
        decode(recording(tmp_path / "a.wav"))


@pytest.mark.parametrize("number", [2, 99, -1])
def test_a_channel_that_is_not_there(tmp_path, write_audio, number):
    write_audio(tmp_path / "a.wav", channels=2)
    with pytest.raises(AudioError, match=rf"has 2 channels \(0 to 1\); the card asks for channel {number}"):
        check_channels(tmp_path / "a.wav", 2, number)


# --- files that are not what they should be


def refused(path: Path) -> str:
    """What `decode` says, in one line."""
    with pytest.raises(AudioError) as error:
        decode(recording(path))
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert text.count(str(path)) == 1
    assert "\n" not in text
    return text


def test_missing(tmp_path):
    assert "no such audio file" in refused(tmp_path / "a.wav")


def test_a_folder_with_the_name_of_a_file(tmp_path):
    (tmp_path / "a.wav").mkdir()
    assert "no such audio file" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.opus", "a.mp3"])
def test_empty(tmp_path, name):
    (tmp_path / name).touch()
    assert "the file is empty (0 bytes)" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.opus", "a.mp3"])
def test_text_is_no_audio(tmp_path, name):
    (tmp_path / name).write_text("All work and no play makes Jack a dull boy.\n" * 100)
    assert "can't be read as audio" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64"])
def test_no_samples(tmp_path, name):
    soundfile.write(str(tmp_path / name), np.zeros(0), 16000)
    assert "holds no audio (0 samples)" in refused(tmp_path / name)


def test_unreadable(tmp_path, write_audio, monkeypatch):
    write_audio(tmp_path / "a.wav")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "can't be read as audio" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize(("name", "how"), [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
def test_truncated(tmp_path, write_audio, name, how, kept):
    """Every format says so: by its header where that tells, otherwise when it is decoded."""
    path = tmp_path / name
    write_audio(path, seconds=5.0, **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    says = refused(path)
    assert "truncated: " in says or "decoding failed" in says


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64", "a.rf64", "a.sph", "a.ogg", "a.opus"])
def test_truncation_is_seen_before_anything_runs(tmp_path, write_audio, name):
    how = {n: h for n, h in [*LOSSLESS, *LOSSY] if n != "a.wav"}.get(name, {})
    path = tmp_path / name
    write_audio(path, seconds=5.0, **how)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(AudioError, match="truncated: "):
        read_header(path)


@pytest.mark.parametrize("before", [b"", chunk(b"LIST", b"INFOodd")])
def test_a_wav_one_byte_short(tmp_path, before):
    (tmp_path / "a.wav").write_bytes(wav(before, chunk(b"data", PCM.tobytes()))[:-1])
    assert "truncated: the header promises 16000 bytes, the file holds 15999" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize(("name", "how"), LOSSY[:2])
def test_an_ogg_without_its_last_page(tmp_path, write_audio, name, how):
    """Nothing is cut in the middle: only the mark of the end is missing."""
    path = tmp_path / name
    write_audio(path, seconds=5.0, **how)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert "truncated: the Ogg stream breaks off before its end" in refused(path)


def test_a_wav_with_other_chunks_around_its_samples(tmp_path):
    (tmp_path / "a.wav").write_bytes(
        wav(
            chunk(b"LIST", b"INFOodd"), chunk(b"JUNK", bytes(1000)), chunk(b"data", PCM.tobytes()), chunk(b"id3 ", b"x")
        )
    )
    assert np.array_equal(decode(recording(tmp_path / "a.wav")).samples[0] * 32768, PCM)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFFFFF - 36])
def test_a_wav_that_was_written_to_a_pipe(tmp_path, length):
    (tmp_path / "a.wav").write_bytes(wav(chunk(b"data", PCM.tobytes(), length)))
    assert np.array_equal(decode(recording(tmp_path / "a.wav")).samples[0] * 32768, PCM)


def test_a_wav_that_promises_gigabytes(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(chunk(b"data", PCM.tobytes(), 3_000_000_000)))
    assert "the header promises 3000000000 bytes, the file holds 16000" in refused(tmp_path / "a.wav")


def test_a_chunk_that_leads_past_the_end(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(chunk(b"LIST", b"x", 10**9), chunk(b"data", PCM.tobytes())))
    assert "can't be read as audio" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [1, 2**30])
def test_a_sample_rate_that_can_not_be(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav(chunk(b"data", PCM.tobytes()), rate=rate))
    assert f"a sample rate of {rate} Hz" in refused(tmp_path / "a.wav")


def test_a_flac_that_does_not_know_its_length(tmp_path, write_audio):
    path = tmp_path / "a.flac"
    write_audio(path)
    content = bytearray(path.read_bytes())
    # STREAMINFO follows "fLaC" and a header of 4 bytes; its total number of samples is 36 bits from bit 108 on.
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    path.write_bytes(bytes(content))
    assert "does not say how long it is" in refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    samples = np.zeros(1000, dtype=np.float32)
    samples[500] = value
    soundfile.write(str(tmp_path / "a.wav"), samples, 16000, subtype="FLOAT")
    assert "samples that are no numbers" in refused(tmp_path / "a.wav")


def test_no_path_no_audio():
    with pytest.raises(AudioError, match="rec: this dataset has no audio"):
        decode(recording(None))


def test_a_name_in_another_script(tmp_path, write_audio):
    write_audio(tmp_path / "запись é.wav")
    assert decode(recording(tmp_path / "запись é.wav")).samples.shape == (1, 16000)


@settings(max_examples=150)
@given(
    st.sampled_from([*LOSSLESS, *LOSSY[:2]]),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_damaged_headers(tmp_path_factory, which, damage):
    """Bytes overwritten near the beginning: an error in one line, or finite samples."""
    name, how = which
    path = tmp_path_factory.mktemp("damaged") / name
    soundfile.write(str(path), 0.1 * np.sin(np.arange(4000) / 10), 16000, **how)
    content = bytearray(path.read_bytes())
    for place, piece in damage:
        content[place : place + len(piece)] = piece
    path.write_bytes(bytes(content))
    try:
        samples, problem = decode(recording(path, channel="first")).samples, ""
    except AudioError as error:
        samples, problem = np.zeros((1, 0)), str(error)
    assert "\n" not in problem
    assert samples.shape[0] == 1
    assert np.isfinite(samples).all()
