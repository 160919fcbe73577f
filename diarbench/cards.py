"""Cards (TOML): what a system, a dataset and a report may say; read and checked without importing any adapter."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from diarbench.cardproblems import TABLE, TEXT, explain
from diarbench.errors import CardError
from diarbench.files import digest_of

# A card's name is a folder of the results and a word on the command line.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")

# C0 and C1 controls, line and paragraph separators, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("should be one line, without control characters")
    return text


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Line = Annotated[Text, AfterValidator(_one_line)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

COMMIT = re.compile(r"[0-9a-f]{40}")

_CORPUS_PART = re.compile(r"[a-z0-9][a-z0-9.-]*(/(train|development|test))?")


def _inside(path: str) -> str:
    """A path that stays in its folder; `*` stands for anything."""
    if path.startswith(("/", "~")) or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} should be a path inside the repository, such as 'plda/plda.npz' or 'plda/*.npz'")
    return path


def _repository(name: str) -> str:
    # Its parts become names of folders.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII) or "--" in name or ".." in name:
        raise ValueError(f"{name!r} should be a repository of the hub, written owner/name")
    return name


def _revision(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w./-]*", name, re.ASCII) or ".." in name:
        raise ValueError(f"{name!r} should be a commit (40 hexadecimal digits), a branch or a tag")
    return name


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", url):
        raise ValueError(f"{url!r} should be an address that begins with https://, without a password in it")
    return url


def _corpus(name: str) -> str:
    if not _CORPUS_PART.fullmatch(name) or "/" in name:
        raise ValueError(f"{name!r} can't be the name of a corpus: use lower-case letters, digits, '.' and '-'")
    return name


def _corpus_part(name: str) -> str:
    if not _CORPUS_PART.fullmatch(name):
        raise ValueError(
            f"{name!r} should name a corpus, or a part of one: 'ami', 'ami/train', 'ami/development' or 'ami/test'"
        )
    return name


Inside = Annotated[Line, AfterValidator(_inside)]
Address = Annotated[Line, AfterValidator(_address)]
Part = Literal["train", "development", "test"]
CorpusName = Annotated[Line, AfterValidator(_corpus)]
CorpusPart = Annotated[Line, AfterValidator(_corpus_part)]  # "ami/train"; "ami": some of it, nobody says which
Repository = Annotated[Line, AfterValidator(_repository)]
Revision = Annotated[Line, AfterValidator(_revision)]


def _kind_of_digests(value: Any) -> str:
    return TABLE if isinstance(value, dict) else TEXT


Digests = Annotated[
    Annotated[Sha256, Tag(TEXT)] | Annotated[dict[Inside, Sha256], Tag(TABLE)], Discriminator(_kind_of_digests)
]

DigestsById = Annotated[
    Annotated[Sha256, Tag(TEXT)] | Annotated[dict[Line, Sha256], Tag(TABLE)], Discriminator(_kind_of_digests)
]


def _storable(value: Any) -> Any:
    """What results can keep in JSON; TOML also knows dates, NaN and infinity."""
    if isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            _storable(part)
    elif not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{value} can't be kept in JSON; use finite numbers, texts, true, false, lists and tables")
    return value


def _channel(value: Any) -> Any:
    if value not in ("first", "mix") and (type(value) is not int or value < 0):
        raise ValueError(f'should be "first", "mix" or the number of a channel, counted from 0, not {value!r}')
    return value


Option = Annotated[bool | int | float | str | list[Any] | dict[str, Any], BeforeValidator(_storable)]
Channel = Annotated[Literal["first", "mix"] | int, BeforeValidator(_channel)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Weights(_Strict):
    """Weight files: of a repository on the Hugging Face hub, inside a wheel on PyPI, or at a local path."""

    hub: Repository | None = None  # "BUT-FIT/diarizen-wavlm-base-s80-md"
    revision: Revision | None = None  # a commit pins; a branch or tag may move, and results record where it was
    files: Annotated[list[Inside], Field(min_length=1)] | None = None  # what is needed of it: paths, or with * patterns
    gated: bool = False  # whether its conditions have to be accepted first
    wheel: Text | None = None  # "Resemblyzer==0.1.4"
    member: Text | None = None  # the file's path inside the wheel
    path: Text | None = None  # beside the card, or absolute
    sha256: Digests | None = None  # of the file; or a table: file = digest
    licence: Line | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Weights:
        if sum(source is not None for source in (self.hub, self.wheel, self.path)) != 1:
            raise ValueError(
                "say where the weights are: either `wheel` with `member`, `path`, or `hub` with `revision` and `files`"
            )
        if self.hub is None and (self.revision is not None or self.files is not None or self.gated):
            raise ValueError("`revision`, `files` and `gated` belong to weights from a `hub`")
        if self.hub is not None and (self.revision is None or self.files is None):
            raise ValueError(
                "weights from a hub need `files` (a list of paths in the repository) and `revision`: a commit (40 "
                'hexadecimal digits), or a branch such as "main", which pins nothing'
            )
        if self.wheel is not None and (self.member is None or not isinstance(self.sha256, str)):
            raise ValueError("weights in a wheel need `member` (the file's path inside it) and `sha256`, a text")
        if self.hub is not None and isinstance(self.sha256, str) and not self.one_file:
            raise ValueError("`sha256` of several files is a table: file = digest")
        if self.files is not None and isinstance(self.sha256, dict):
            for file in self.sha256:
                if not any(fnmatchcase(file, pattern) for pattern in self.files):
                    raise ValueError(f"`sha256` names {file!r}, which is none of `files`")
        return self

    @property
    def one_file(self) -> str | None:
        """The file of the hub's repository that is all that is needed; None where there may be several."""
        return self.files[0] if self.files is not None and len(self.files) == 1 and "*" not in self.files[0] else None

    @property
    def pinned(self) -> bool:
        """Whether the card says which weights, wherever they come from: by a commit, or by a digest of each file."""
        if self.hub is None:
            return self.sha256 is not None
        assert self.revision is not None
        assert self.files is not None
        digests = {self.one_file: self.sha256} if isinstance(self.sha256, str) else self.sha256 or {}
        return bool(COMMIT.fullmatch(self.revision)) or all(file in digests for file in self.files)

    @property
    def facts(self) -> dict[str, Any]:
        """What results say of their source; of a local path only the last name."""
        said = self.model_dump(mode="json", exclude={"sha256", "files"}, exclude_defaults=True)
        return said | ({"path": Path(self.path).name} if self.path is not None else {})


class SystemCard(_Strict):
    """A system: how to build it, and facts about how it was made. Nothing that can be measured."""

    title: Line
    adapter: Text  # "./adapter.py:Class" beside the card, or "package.module:Class"
    baseline: Line | None = None  # the system that differences and speed-ups are taken against
    devices: list[Literal["cpu", "cuda"]] = Field(default=["cpu"], min_length=1)
    requires: list[Text] = []  # distributions, as pip writes them; checked without importing
    licence: Line | None = None
    source: Line | None = None  # where it comes from: a paper, a repository
    description: Text | None = None
    tuned_on: list[Text] = []  # data that its settings were chosen on
    trained_on: list[Text] = []  # data that its weights were trained on, in words
    trained_parts: list[CorpusPart] = []  # of these, parts of corpora that dataset cards know; leaderboards mark them
    may_have_seen: list[CorpusPart] = []  # parts that its weights may have been trained on
    compression: dict[str, Option] = {}  # facts about how it was made: method, sparsity, bits, ...
    weights: dict[str, Weights] = {}
    files: dict[str, Text] = {}  # programs, folders, ... that the adapter reads; beside the card, or absolute
    options: dict[str, Option] = {}  # keyword arguments of the adapter
    sweep: dict[str, Annotated[list[Option], Field(min_length=1)]] = {}  # options with several values: named variants

    @field_validator("options", "sweep")
    @classmethod
    def _keywords(cls, table: dict[str, Any]) -> dict[str, Any]:
        for key in table:
            if not key.isidentifier():
                raise ValueError(f"{key!r} can't be the name of an option: options are the adapter's keyword arguments")
        return table


class _Layout(_Strict):
    root: Text = "."  # beside the card, or in one of the data folders ($DIARBENCH_DATA)
    list: Text | None = None  # below `root`, one id per line, or a .uem file; without it, every recording


class Folder(_Layout):
    """Audio, references and a list in plain folders."""

    audio: Text = "audio"  # a folder, searched with its sub-folders for ID.wav, ...; a pattern with {id}; or "none"
    reference: Text = "reference"  # an RTTM file, or a folder of them


class Kaldi(_Layout):
    """A Kaldi data directory."""

    audio: Text = "wav.scp"  # or "none"
    reference: Text = "rttm"  # an RTTM file, or a folder of them; "segments": the lines of segments and utt2spk
    base: Text | None = None  # where relative paths in wav.scp begin; found as `root`; without it, `root`
    pipes: Annotated[tuple[Line, ...], Field(strict=False)] = ()  # programs that wav.scp may run, by their names


class Pyannote(_Layout):
    """A protocol of pyannote.database."""

    protocol: Line  # "AMI.SpeakerDiarization.only_words"
    subset: Literal["train", "development", "test"] = "test"
    database: Text = "database.yml"  # below `root`
    audio: Literal["database", "none"] = "database"  # as the file's `Databases` say


class Lhotse(_Layout):
    """Manifests of Lhotse (.jsonl, .jsonl.gz, .json): recordings with supervisions, or cuts of whole recordings."""

    recordings: Text | None = None
    supervisions: Text | None = None
    cuts: Text | None = None
    base: Text | None = None  # where relative paths in manifests begin; found as `root`; without it, `root`
    pipes: Annotated[tuple[Line, ...], Field(strict=False)] = ()  # programs that `command` sources may run

    @model_validator(mode="after")
    def _manifests(self) -> Lhotse:
        if (self.recordings is None, self.supervisions is None) != (self.cuts is not None,) * 2:
            raise ValueError("name the manifests: either `recordings` and `supervisions`, or `cuts`")
        return self


class HuggingFace(_Layout):
    """Parquet files of a Hugging Face dataset with columns audio, timestamps_start, timestamps_end and speakers."""

    hub: Repository | None = None  # a dataset repository; without it, the files lie below `root`
    revision: Revision | None = None
    gated: bool = False  # whether its conditions have to be accepted first
    files: Annotated[tuple[Inside, ...], Field(strict=False, min_length=1)] = ("*.parquet",)
    id: Line = "audio"  # a column of ids; "audio": the name of the audio file; "row": file's name and row

    @model_validator(mode="after")
    def _place(self) -> HuggingFace:
        if (self.hub is None) != (self.revision is None):
            raise ValueError('`hub` and `revision` (a commit, or a branch such as "main") belong together')
        if self.gated and self.hub is None:
            raise ValueError("`gated` belongs to a dataset of a `hub`")
        return self


class WheelFiles(_Strict):
    """One recording that ships inside a wheel on PyPI."""

    wheel: Text
    audio: Text
    audio_sha256: Sha256
    reference: Text
    reference_sha256: Sha256


class Simulate(_Strict):
    """Conversations made from single-speaker speech by diarbench's own simulator, kept in the cache."""

    speech: Text  # a folder of single-speaker files, found as `root` of a folder
    conversations: Annotated[int, Field(gt=0)]
    duration: Annotated[float, Field(gt=0)]  # s, of each
    speakers: Annotated[tuple[int, int], Field(strict=False)]  # at least, at most
    seed: int
    preset: Literal["dry", "headset", "near", "far", "meeting"] = "dry"  # see `diarbench.simulate.PRESETS`
    turns: Literal["ami", "varied"] = "ami"  # turn-taking: as in AMI's test set; or anything, to train on
    only: Annotated[tuple[Line, ...], Field(strict=False)] = ()  # the speakers that may take part; none named: all
    without: Annotated[tuple[Line, ...], Field(strict=False)] = ()  # speakers that may not
    speed: Annotated[tuple[float, float] | None, Field(strict=False)] = None  # times as fast, drawn for each speaker

    @property
    def added(self) -> dict[str, Any]:
        """The keys that say something beside their defaults, and change what is heard or who speaks."""
        names = {"preset", "turns", "only", "without", "speed"}
        return self.model_dump(mode="json", include=names, exclude_defaults=True)


class Select(_Strict):
    """Part of a dataset: so many recordings, so many hours; the first ones, or a fixed pseudo-random choice."""

    recordings: Annotated[int, Field(gt=0)] | None = None  # at most
    hours: Annotated[float, Field(gt=0)] | None = None  # at most, of whole recordings
    random: bool = False  # in the order of the SHA-256 of their ids, which is the same everywhere


class DownloadFile(_Strict):
    """A file to download, or several of one pattern: one for each of `ids`, which replace {id} in `url` and `to`."""

    url: Address
    to: Text | None = None  # below the dataset's folder; as if nothing is said, the last part of `url`
    ids: list[Line] = []
    bytes: Annotated[int, Field(gt=0)] | None = None
    sha256: DigestsById | None = None  # with `ids`, a table: id = digest
    unpack: bool = False  # a zip or tar archive, whose files go into the folder `to` (".": the dataset's own)

    @model_validator(mode="after")
    def _consistent(self) -> DownloadFile:
        if self.url.startswith("http://") and self.sha256 is None:
            raise ValueError(f"{self.url!r} is not encrypted; give its `sha256`, or an address with https://")
        if bool(self.ids) != ("{id}" in self.url):
            raise ValueError("`ids` and {id} in `url` belong together")
        if self.ids and (self.bytes is not None or isinstance(self.sha256, str)):
            raise ValueError("with `ids` there are several files: `sha256` is a table (id = digest), and no `bytes`")
        if not self.ids and isinstance(self.sha256, dict):
            raise ValueError("`sha256` of one file is a text of 64 hexadecimal digits")
        if isinstance(self.sha256, dict) and set(self.sha256) != set(self.ids):
            odd = sorted(set(self.sha256) ^ set(self.ids))[0]
            raise ValueError(f"`sha256` and `ids` should name the same ids; {odd!r} is in one of them alone")
        if self.unpack and self.to is None:
            raise ValueError('`unpack` needs `to`: the folder that it is unpacked into (".": the dataset\'s own)')
        if self.to not in (None, "."):
            _inside(str(self.to))
        return self


class DownloadHub(_Strict):
    """Files of a dataset repository on the Hugging Face hub, copied into the dataset's folder as they lie there."""

    repository: Repository
    revision: Revision  # a commit pins
    files: Annotated[list[Inside], Field(min_length=1)]  # paths, or with * patterns
    gated: bool = False  # whether its conditions have to be accepted first


class Download(_Strict):
    """What `diarbench data get` may download. The rest is told by the card's `steps`."""

    terms: Address | None = None  # a page with terms that have to be agreed to before
    files: list[DownloadFile] = []
    hub: DownloadHub | None = None


class Version(_Strict):
    """Another version of the references, told by its seconds of speech or its digest."""

    speech: float | None = None
    reference_sha256: Sha256 | None = None


class Expect(_Strict):
    """Facts to check a dataset against."""

    recordings: int | None = None
    hours: float | None = None
    minutes: float | None = None  # per recording, their mean
    speakers: int | None = None  # different ones
    speakers_each: Annotated[tuple[int, int], Field(strict=False)] | None = None  # in a recording: fewest, most
    speech: float | None = None  # s, turns added up, overlapped speech as often as it has speakers
    overlap: Annotated[float, Field(ge=0, le=100)] | None = None  # % of the time with speech in which several speak
    sample_rate: int | None = None  # Hz, of the files; another rate is refused
    version: Line | None = None  # of the references: "only_words"
    versions: dict[str, Version] = {}  # others that are about, by name
    reference_sha256: Sha256 | None = None  # of the references, as `diarbench.loaders.facts` takes it; else refused
    uem_sha256: Sha256 | None = None  # of the scoring regions, sorted by id, as diarbench writes UEM
    list_sha256: Sha256 | None = None  # of the recordings' ids, sorted, each with a line end


LAYOUTS = ("folder", "kaldi", "pyannote", "lhotse", "huggingface", "wheel", "simulate")


class DatasetCard(_Strict):
    """A dataset: where audio, references, scoring regions and the list come from."""

    title: Line
    uem: Text  # a UEM file or a folder of them; "layout": regions that the layout has; or "whole-file", to be said
    licence: Line
    get: Line  # how to get the data, in a line
    steps: Text | None = None  # the same step by step, for people
    corpus: CorpusName | None = None  # "ami": what systems say they were trained on
    part: Part | None = None  # of the corpus
    source: Line | None = None
    description: Text | None = None
    synthetic: bool = False
    channel: Channel | None = None
    sample_rate: Annotated[int, Field(gt=0)] = 16000  # Hz, that systems are handed
    rules: list[Text] = []  # the scoring rules that its papers use
    silent: list[Text] = []  # recordings in which nobody speaks, so that a reference that is missing is none lost
    folder: Folder | None = None
    kaldi: Kaldi | None = None
    pyannote: Pyannote | None = None
    lhotse: Lhotse | None = None
    huggingface: HuggingFace | None = None
    wheel: WheelFiles | None = None
    simulate: Simulate | None = None
    select: Select = Select()
    download: Download = Download()
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _one_source(self) -> DatasetCard:
        if sum(getattr(self, table) is not None for table in LAYOUTS) != 1:
            tables = ", ".join(f"[{table}]" for table in LAYOUTS[:-1])
            raise ValueError(f"say where the data is, by exactly one of the tables {tables} and [{LAYOUTS[-1]}]")
        if self.part is not None and self.corpus is None:
            raise ValueError("`part` is part of a `corpus`: name that too")
        return self


class ReportCard(_Strict):
    """A leaderboard: which systems on which datasets, ranked by which rule."""

    title: Line
    systems: Annotated[list[Text], Field(min_length=1)]  # names, or patterns such as "silero-*"
    datasets: Annotated[list[Text], Field(min_length=1)]
    rule: Text = "full"
    description: Text | None = None
    reported: list[Text] = ["*"]  # published tables to show figures of, apart from measured ones: names, or patterns


class SystemSpec(BaseModel):
    """One system to run: a card with its sweep resolved to one set of options."""

    model_config = ConfigDict(frozen=True)

    name: str
    card: SystemCard
    folder: Path  # of the card: relative paths are meant from here
    options: dict[str, Option]
    found: dict[str, dict[str, Any]] = {}  # of [weights.NAME], once they are found: what the card alone can't say

    @property
    def facts(self) -> dict[str, Any]:
        """What a page says of the system: the card without what only building it needs."""
        weights = {name: source.facts | self.found.get(name, {}) for name, source in self.card.weights.items()}
        return {
            **self.card.model_dump(
                mode="json", exclude={"sweep", "options", "weights", "files"}, exclude_defaults=True
            ),
            **({"weights": weights} if weights else {}),
            "options": self.options,
        }


Card = TypeVar("Card", bound=BaseModel)


def read_card(path: Path, kind: type[Card]) -> Card:
    """The card in a TOML file. Raises CardError with file, line, key, and what would be right."""
    check_name(path.stem, path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CardError(f"{path}: not a UTF-8 text file (byte {error.start})") from error
    except OSError as error:
        raise CardError(f"{path}: can't be read ({error.strerror})") from error
    try:
        return kind.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise CardError(explain(path, text, kind, error)) from error
    except (ValueError, RecursionError) as error:  # beside TOMLDecodeError: numbers too long, brackets too deep
        raise CardError(f"{path}: not valid TOML: {error}") from error


def expand(name: str, path: Path, card: SystemCard) -> list[SystemSpec]:
    """The systems of a card: one, or with [sweep] one per combination, named such as "diarizen@window=8".

    Raises CardError where a swept option is also set in [options], or two variants would have one name.
    """
    twice = sorted(set(card.options) & set(card.sweep))
    if twice:
        raise CardError(f"{path}: {twice[0]!r} is set in [options] and swept in [sweep]; keep one of them")
    specs = []
    for values in itertools.product(*card.sweep.values()):
        chosen = dict(zip(card.sweep, values, strict=True))
        suffix = ",".join(f"{key}={_short(value)}" for key, value in chosen.items())
        specs.append(
            SystemSpec(
                name=f"{name}@{suffix}" if suffix else name,
                card=card,
                folder=path.parent.resolve(),
                options={**card.options, **chosen},
            )
        )
    names = [spec.name for spec in specs]
    if again := [variant for variant in names if names.count(variant) > 1]:
        raise CardError(f"{path}: [sweep] gives two variants the name {again[0]!r}; leave one of the values out")
    return specs


def check_name(name: str, path: Path) -> str:
    """The name, if a card may have it; raises CardError."""
    if not NAME.fullmatch(name):
        raise CardError(
            f"{path}: the file's name is the card's name, and {name!r} can't be one: use lower-case letters, digits, "
            "'.', '_' and '-', beginning with a letter or digit"
        )
    return name


def _short(value: Option) -> str:
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9._-]{1,30}", text) else digest_of(value)[:8]
