"""Get a dataset: download what its card says may be downloaded, and tell the steps for the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from diarbench.archives import unpack
from diarbench.cards import LAYOUTS, DatasetCard, DownloadFile, DownloadHub
from diarbench.download import OnBytes, Wanted, download
from diarbench.errors import InputError, MissingRequirementError, StoreError
from diarbench.files import read_json, write_json
from diarbench.hub import fetch_snapshot, files_in
from diarbench.loaders import data_roots, find_root, read_corpus
from diarbench.loaders.corpus import OnProgress

_OURS = ".diarbench"  # in a dataset's folder: archives while they are fetched, and which were unpacked


class Watcher(Protocol):
    """Who is told how far it has come."""

    def file(self, name: str, position: int, count: int) -> OnBytes:
        """The file at that position (from 1) begins; what to tell its bytes to."""
        ...


@dataclass(frozen=True, slots=True)
class Got:
    """What was fetched."""

    name: str
    folder: Path | None  # None: a dataset that lies in a cache
    fetched: tuple[str, ...]  # addresses
    kept: int  # files that were here
    unchecked: tuple[str, ...]  # addresses of files of which the card knows no SHA-256


@dataclass(frozen=True, slots=True)
class _Item:
    wanted: Wanted
    unpack_into: Path | None = None


def get_dataset(
    name: str,
    path: Path,
    card: DatasetCard,
    *,
    into: Path | None = None,
    agreed: bool = False,
    watcher: Watcher | None = None,
    on_progress: OnProgress | None = None,
) -> Got:
    """Download what the card says may be downloaded, unless it is here; make or fetch what lies in a cache.

    `into` is a data folder, below which the dataset's own folder is made; as if nothing is said, where the dataset
    already lies, or the first data folder. Where the card has terms, nothing is downloaded unless `agreed`. Raises
    MissingRequirementError for what can't be had now, InputError for what is wrong, StoreError where the disk is full.
    """
    folder = None if is_cached(card) else _folder(name, path, card, into)
    items = [] if folder is None else [item for file in card.download.files for item in _items(file, folder)]
    if card.download.terms is not None and not agreed and (items or card.download.hub is not None):
        raise MissingRequirementError(
            f"{name} has terms: read {card.download.terms}, and if you agree to them run "
            f"`diarbench data get {name} --agree`"
        )
    if folder is None:
        read_corpus(name, path.parent.resolve(), card, on_progress)
        return Got(name, None, (), 0, ())
    fetched: list[str] = []
    if items or card.download.hub is not None:
        with _alone(folder):
            fetched += _fetch_all(items, folder, watcher)
            if card.download.hub is not None:
                fetched += _from_hub(card.download.hub, folder)
    unchecked = tuple(item.wanted.url for item in items if item.wanted.sha256 is None)
    return Got(name, folder, tuple(fetched), len(items) - sum(url.startswith("http") for url in fetched), unchecked)


def is_cached(card: DatasetCard) -> bool:
    """Whether the layout itself fetches or makes the dataset."""
    return (
        card.wheel is not None
        or card.simulate is not None
        or (card.huggingface is not None and card.huggingface.hub is not None)
    )


def _folder(name: str, path: Path, card: DatasetCard, into: Path | None) -> Path:
    root: str = next(getattr(card, table) for table in LAYOUTS if getattr(card, table) is not None).root
    if into is not None:
        return into / root
    try:
        return find_root(name, card, path.parent.resolve(), root)
    except MissingRequirementError:
        wanted = Path(os.path.expanduser(root))
        return wanted if wanted.is_absolute() else data_roots()[0] / wanted


def _items(file: DownloadFile, folder: Path) -> Iterable[_Item]:
    for one in file.ids or [""]:
        url = file.url.replace("{id}", quote(one, safe=""))
        sha256 = file.sha256.get(one) if isinstance(file.sha256, dict) else file.sha256
        last = PurePosixPath(unquote(urlsplit(url).path)).name
        if last in ("", ".", ".."):
            last = "download"
        to = file.to.replace("{id}", one) if file.to is not None else last
        if to != "." and (PurePosixPath(to).is_absolute() or {"..", "."} & set(to.split("/"))):
            raise InputError(f"{url}: `to` = {to!r} leads out of the dataset's folder")
        if file.unpack:
            yield _Item(Wanted(url, folder / _OURS / last, file.bytes, sha256), folder / to)
        else:
            yield _Item(Wanted(url, folder / to, file.bytes, sha256))


def _fetch_all(items: list[_Item], folder: Path, watcher: Watcher | None) -> Iterable[str]:
    for position, item in enumerate(items, start=1):
        wanted = item.wanted
        done = folder / _OURS / f"{wanted.path.name}.json"
        if item.unpack_into is not None and _was_unpacked(done, wanted):
            continue
        on_bytes = watcher.file(wanted.path.name, position, len(items)) if watcher is not None else None
        fetched = download(wanted, on_bytes=on_bytes)
        if item.unpack_into is not None:
            unpack(wanted.path, item.unpack_into)
            write_json(done, {"url": wanted.url, "sha256": wanted.sha256})
            wanted.path.unlink()
        if fetched or item.unpack_into is not None:
            yield wanted.url


def _was_unpacked(done: Path, wanted: Wanted) -> bool:
    try:
        return done.is_file() and read_json(done) == {"url": wanted.url, "sha256": wanted.sha256}
    except StoreError:
        return False


def _from_hub(hub: DownloadHub, folder: Path) -> Iterable[str]:
    """Files of a repository: from the hub's cache as links to the same bytes, or as copies on another disk."""
    snapshot = fetch_snapshot(hub.repository, hub.revision, hub.files, gated=hub.gated, kind="dataset")
    for name in files_in(snapshot.folder, hub.files):
        source, target = (snapshot.folder / name).resolve(), folder / name
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            part.unlink(missing_ok=True)
            try:
                os.link(source, part)
            except OSError:
                shutil.copyfile(source, part)
            os.replace(part, target)
        except OSError as error:
            raise StoreError(f"{target}: can't be written ({error.strerror or error})") from error
        yield f"{hub.repository}/{name}"


class _alone:  # noqa: N801  used as a function
    """Nobody else fetches into the folder meanwhile. Raises StoreError where somebody does."""

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        try:
            (folder / _OURS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: can't be made ({error.strerror})") from error
        self._folder = folder
        self._lock = FileLock(folder / _OURS / "lock")

    def __enter__(self) -> None:
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"{self._folder}: another diarbench is fetching into it; wait until it is done") from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()
