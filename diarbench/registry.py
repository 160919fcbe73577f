"""Find cards by name: in folders given, in the working folder, in installed plug-ins, and among those shipped."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diarbench.cards import DatasetCard, ReportCard, SystemCard, SystemSpec, expand, read_card
from diarbench.errors import CardError, NotFoundError, did_you_mean
from diarbench.files import without_home

# How deep cards lie: systems come in families, one folder each.
_PATTERNS = {
    "systems": ("*.toml", "*/*.toml"),
    "datasets": ("*.toml",),
    "reports": ("*.toml",),
    "reports/published": ("*.toml",),
}


def shipped() -> Path:
    """The folder of the cards that come with diarbench: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "_shipped"
    return inside if inside.is_dir() else package.parent


@dataclass(frozen=True)
class Registry:
    """Cards by name; where two roots have one name, the earlier root wins.

    A root is a folder that holds `systems/`, `datasets/` or `reports/`. A card that is wrong (its name, too) is found
    like the others, and refused when it is read: one broken card does not hide the rest.
    """

    roots: tuple[Path, ...]

    @classmethod
    def standard(cls, extra: Sequence[Path] = ()) -> Registry:
        """`extra` roots, then the working folder, then plug-ins (entry points "diarbench.cards"), then those shipped.

        Raises CardError where an extra root or a plug-in's folder holds none of the three folders.
        """
        for root in extra:
            _check_root(root, f"{root}:")
        try:
            here = [Path.cwd()]
        except FileNotFoundError:  # the working folder was removed meanwhile
            here = []
        return cls((*extra, *here, *_plugins(), shipped()))

    @cached_property
    def systems(self) -> dict[str, Path]:
        """System cards by name."""
        return self._find("systems")

    @cached_property
    def datasets(self) -> dict[str, Path]:
        """Dataset cards by name."""
        return self._find("datasets")

    @cached_property
    def reports(self) -> dict[str, Path]:
        """Report cards by name."""
        return self._find("reports")

    @cached_property
    def published(self) -> dict[str, Path]:
        """Published tables by name."""
        return self._find("reports/published")

    def choose_systems(self, wanted: Iterable[str]) -> list[SystemSpec]:
        """Systems by name, variant ("diarizen@window=8"), pattern ("silero-*") or path of a card, each once.

        Raises NotFoundError ("did you mean") or CardError.
        """
        chosen: dict[str, SystemSpec] = {}
        for text in wanted:
            if text.endswith(".toml"):
                path = Path(text)
                found = self.expand(path.stem, path)
            elif text in self.systems:
                found = self.expand(text, self.systems[text])
            elif text.split("@")[0] in self.systems:
                base = text.split("@")[0]
                variants = self.expand(base, self.systems[base])
                found = [spec for spec in variants if fnmatch.fnmatchcase(spec.name, text)]
                if not found:
                    raise NotFoundError(
                        f"no system {text!r}{did_you_mean(text, [s.name for s in variants if '@' in s.name])}"
                    )
            else:
                names = fnmatch.filter(self.systems, text)
                if not names:
                    raise NotFoundError(f"no system {text!r}{did_you_mean(text, self.systems)}")
                found = [spec for name in sorted(names) for spec in self.expand(name, self.systems[name])]
            for spec in found:
                before = chosen.setdefault(spec.name, spec)
                if before.folder != spec.folder:
                    raise CardError(
                        f"two cards named {spec.name!r} are asked for, in {before.folder} and in {spec.folder}; "
                        "results are kept by name: rename one"
                    )
        return list(chosen.values())

    def expand(self, name: str, path: Path) -> list[SystemSpec]:
        """The systems of one card."""
        return expand(name, path, read_card(path, SystemCard))

    def choose_datasets(self, wanted: Iterable[str]) -> dict[str, tuple[Path, DatasetCard]]:
        """Dataset cards by name, pattern or path of a card. Raises NotFoundError or CardError."""
        chosen: dict[str, Path] = {}
        for text in wanted:
            if text.endswith(".toml"):
                paths = [Path(text)]
            elif text in self.datasets:
                paths = [self.datasets[text]]
            else:
                paths = [self.datasets[name] for name in sorted(fnmatch.filter(self.datasets, text))]
            if not paths:
                raise NotFoundError(f"no dataset {text!r}{did_you_mean(text, self.datasets)}")
            for path in paths:
                before = chosen.setdefault(path.stem, path)
                if before.resolve() != path.resolve():
                    raise CardError(
                        f"two cards named {path.stem!r} are asked for, {before} and {path}; "
                        "results are kept by name: rename one"
                    )
        return {name: (path, read_card(path, DatasetCard)) for name, path in chosen.items()}

    def choose_report(self, wanted: str, *, also: Iterable[str] = ()) -> tuple[str, ReportCard]:
        """A report card by name or path; of an unknown name, names in `also` may have been meant too.

        Raises NotFoundError or CardError.
        """
        is_path = wanted.endswith(".toml")
        lies_there = is_path and Path(wanted).resolve().parent.name == "published"
        if lies_there or (wanted in self.published and wanted not in self.reports):
            raise NotFoundError(f"{wanted} is a published table; `diarbench report {wanted}` shows it")
        if is_path:
            return Path(wanted).stem, read_card(Path(wanted), ReportCard)
        if wanted not in self.reports:
            raise NotFoundError(f"no report {wanted!r}{did_you_mean(wanted, [*self.reports, *also])}")
        return wanted, read_card(self.reports[wanted], ReportCard)

    def hidden(self, kind: str) -> dict[str, Path]:
        """Shipped cards of a kind ("systems", "datasets", "reports"), by name, that another of that name hides."""
        if shipped() not in self.roots:
            return {}
        found = self._find(kind)
        ours = Registry((shipped(),))._find(kind)
        return {name: path for name, path in ours.items() if not found[name].samefile(path)}

    def remarks(self, kind: str, names: Iterable[str] | None = None) -> list[str]:
        """What to say of cards that hide shipped ones: of all, or of those named (variants, too)."""
        wanted = None if names is None else {name.split("@")[0] for name in names}
        return [
            f"{name}: {shown(self._find(kind)[name])} hides the card of that name that comes with diarbench; "
            "another name would keep both"
            for name in self.hidden(kind)
            if wanted is None or name in wanted
        ]

    def match_published(self, wanted: str) -> list[str]:
        """Names of published tables by name or pattern ("pruning-*"; "*" may find none). Raises NotFoundError."""
        names = [wanted] if wanted in self.published else sorted(fnmatch.filter(self.published, wanted))
        if not names and wanted != "*":
            raise NotFoundError(f"no published table {wanted!r}{did_you_mean(wanted, self.published)}")
        return names

    def _find(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self.roots:
            here: dict[str, Path] = {}
            for pattern in _PATTERNS[kind]:
                for path in sorted((root / kind).glob(pattern)):
                    if path.stem in here:
                        raise CardError(f"{path}: another card has that name: {here[path.stem]}")
                    here[path.stem] = path
            for name, path in here.items():
                found.setdefault(name, path)
        return dict(sorted(found.items()))


def shown(path: Path) -> str:
    """A path as somebody in the working folder would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return without_home(str(path))


def _plugins() -> list[Path]:
    """Folders of the packages that entry points in the group "diarbench.cards" name; nothing is imported."""
    folders = []
    for point in importlib.metadata.entry_points(group="diarbench.cards"):
        spec = importlib.util.find_spec(point.value.split(".")[0])
        if spec is None or not spec.submodule_search_locations:
            raise CardError(
                f"the plug-in {point.name!r} points to {point.value!r}, which is no installed package; "
                f"reinstall or remove the distribution {point.dist.name if point.dist else 'it comes from'}"
            )
        folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*point.value.split(".")[1:])
        _check_root(folder, f"the plug-in {point.name!r} points to {point.value!r}, but {folder}")
        folders.append(folder)
    return folders


def _check_root(root: Path, who: str) -> None:
    if not any((root / kind).is_dir() for kind in _PATTERNS):
        raise CardError(f"{who} holds none of the folders systems/, datasets/ and reports/")
