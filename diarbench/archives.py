"""Unpack zip and tar archives so that nothing lands outside of the folder that is meant."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from diarbench.errors import InputError, StoreError

_REFUSED: type[Exception] = getattr(tarfile, "FilterError", tarfile.TarError)  # Python 3.11.4 brought it


def unpack(archive: Path, folder: Path) -> int:
    """Put the files of a zip or tar archive into the folder, over what is there; how many they are.

    They are unpacked beside their place and then moved, so that no file is there in part. Raises InputError for an
    archive that is damaged, or that holds a path out of the folder, a link out of it, or a device; StoreError where
    the files can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, scratch)
            elif tarfile.is_tarfile(archive):
                _unpack_tar(archive, scratch)
            else:
                raise InputError(f"{archive}: is no zip or tar archive")
            return _move(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{archive}: is damaged ({error})") from error
    except _REFUSED as error:
        raise InputError(f"{archive}: {_leads_out(str(error))}") from error
    except tarfile.TarError as error:
        raise InputError(f"{archive}: is damaged ({error})") from error
    except OSError as error:
        raise StoreError(f"{folder}: {archive.name} can't be unpacked there ({error.strerror or error})") from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            path = PurePosixPath(member.filename.replace("\\", "/"))
            # zipfile itself would drop the dots and go on, with another file than the archive names.
            if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
                raise InputError(f"{archive}: {_leads_out(repr(member.filename))}")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"{archive}: holds the link {member.filename!r}, which zip archives of data have not")
            if member.flag_bits & 1:
                raise InputError(f"{archive}: is locked by a password; unpack it by hand, as the card says")
            file.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            # This filter refuses paths and links out of the folder, and devices (PEP 706).
            file.extractall(folder, filter="data")
        else:
            file.extractall(folder, _harmless(file, archive, folder))  # noqa: S202  each was looked at
        while file.fileobj is not None and file.fileobj.read(1 << 20):  # to the end, where the checksum is
            pass


def _harmless(file: tarfile.TarFile, archive: Path, folder: Path) -> Iterator[tarfile.TarInfo]:
    """The members of an archive one by one, as PEP 706 would let them through: for Python before 3.11.4."""
    root = os.path.realpath(folder)
    for member in file:
        member.name = member.name.lstrip("/")
        place = os.path.join(root, member.name)
        reached = [place]
        if member.issym():
            reached.append(os.path.join(os.path.dirname(place), member.linkname))
        elif member.islnk():
            reached.append(os.path.join(root, member.linkname))
        elif not (member.isfile() or member.isdir()):
            raise InputError(f"{archive}: {_leads_out(f'the device {member.name!r}')}")
        # What earlier members linked is followed.
        if any(os.path.commonpath([root, os.path.realpath(path)]) != root for path in reached):
            raise InputError(f"{archive}: {_leads_out(repr(member.name))}")
        member.mode &= 0o755
        yield member


def _leads_out(what: str) -> str:
    return f"{what} leads out of the folder that it is unpacked into; the archive is not used"


def _move(scratch: Path, folder: Path) -> int:
    count = 0
    for place, folders, names in os.walk(scratch):
        target = folder / Path(place).relative_to(scratch)
        target.mkdir(parents=True, exist_ok=True)
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in [*names, *links]:
            os.replace(Path(place, name), target / name)
            count += 1
    return count
