"""Download a published archive, resumable and checked, and unpack it: `python -m slr_lib.download slovo`.

Beside the archive lie `<name>.json` (where it came from, its validators, sha256, whether it is unpacked) and
`<name>.sha256` in the form of sha256sum, since the authors publish no checksum.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import requests
from tqdm import tqdm

from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError, exit_status

# the authors' object storage, from the README of GitHub hukenovs/slovo
BASE_URLS = {"slovo": "https://n-ws-620xz-pd11.s3pd11.sbercloud.ru/b-ws-620xz-pd11-jux/slovo/"}
ARCHIVES = {"slovo": "slovo.zip"}  # 16 GB, trimmed clips

_CHUNK = 1 << 20
_PIECE = 1 << 16  # what a lost connection costs at most
_ATTEMPTS = 5  # in a row without a byte
_PAUSE = 2.0  # seconds before the second attempt, doubled for each further one
_TIMEOUT = (20, 60)  # seconds to connect, and without a byte


def fetch(url: str, target: Path, extra_space: float = 0.0) -> None:
    """Download a file to `target`; a run that was cut short goes on where it stopped.

    The partial file is `<target>.part`. It is continued only if the server says that its file is still the same (by
    ETag or date of change, and size), else begun anew. A lost connection is tried again by itself.

    Args:
        extra_space: free disk wanted beside the file itself, as a multiple of its size.

    Raises:
        InputError: the server cannot be reached or refuses, the connection stays lost, the disk is too small, or
            another download of this file runs. What has arrived is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures = 0
    with _locked(part):
        while True:
            before = part.stat().st_size
            try:
                _continue(url, part, extra_space)
                part.replace(target)
                return
            except requests.RequestException as error:
                size = part.stat().st_size
                failures = 1 if size > before else failures + 1
                if failures >= _ATTEMPTS or isinstance(error, ValueError):  # an address that is none
                    raise InputError(
                        f"{url}: the connection fails ({_short(error)}); {size} bytes are kept, run the command again "
                        "to go on from there, or give another address by --base-url."
                    ) from error
                time.sleep(_PAUSE * 2 ** (failures - 1))


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive in Slovo's layout into `folder`: annotations.csv, train/, test/; returns the number of files.

    A folder around them in the archive is left away. Every member's CRC is tested, as it is unpacked or, where a file
    of its size is there already, against that. Files are written whole or not at all.

    Raises:
        InputError: no zip archive, members that are damaged or would leave the folder, or a disk too small.
    """
    again = f"delete {archive} and run the command again"
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _targets(packed, archive)
            look = tqdm(members.items(), desc="compare", unit="file", disable=None)
            wanted = {info: target for info, target in look if not _is_there(info, folder / target)}
            size = sum(info.file_size for info in wanted)
            _require_space(folder, size, f"to unpack {archive.name}")
            damaged = []
            with tqdm(total=size, desc="unpack", unit="B", unit_scale=True, disable=None) as bar:
                for info, target in wanted.items():
                    try:
                        _write_member(packed, info, folder / target, bar)
                    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                        damaged.append(f"{info.filename} ({_short(error)})")
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{archive} is no sound zip archive ({_short(error)}); {again}.") from error
    except OSError as error:
        raise InputError(f"{folder}: unpacking fails ({_short(error)}); mend this and run again.") from error
    if damaged:
        raise InputError(
            f"{archive}: {len(damaged)} of its {len(members)} members are damaged, the first is {damaged[0]}; {again} "
            "(sound members stay unpacked)."
        )
    return len(members)


def download(name: str, base_url: str | None = None) -> str:
    """Download and unpack a published data set; finished steps are not repeated.

    Returns:
        One line that says what is where.

    Raises:
        InputError: see `fetch` and `unpack`; or the archive brings no table and none lies beside it.
    """
    root = load_data_set(name).root
    base = (base_url or BASE_URLS[name]).rstrip("/") + "/"
    archive = root.parent / ARCHIVES[name]
    record_path = archive.with_name(archive.name + ".json")
    record = _read_record(record_path)
    if record.get("unpacked") and (root / "annotations.csv").is_file():
        return f"{root}: unpacked already, {record['members']} files of {record['url']} (sha256 {record['sha256']})."
    if not archive.is_file():
        fetch(base + archive.name, archive, extra_space=1.0)  # videos do not shrink in a zip: as much again unpacked
        record = {"url": base + archive.name}
    if record.get("bytes") != archive.stat().st_size:
        url = record.get("url", "an unknown address (the file was there)")
        record = {"url": url, "bytes": archive.stat().st_size, "sha256": sha256(archive)}
        _write(record_path, json.dumps(record, indent=2) + "\n")
        _write(archive.with_name(archive.name + ".sha256"), f"{record['sha256']}  {archive.name}\n")
    members = unpack(archive, root)
    _find_table(root, base)
    _write(record_path, json.dumps(record | {"members": members, "unpacked": True}, indent=2) + "\n")
    return f"{root}: {members} files unpacked from {archive} (sha256 {record['sha256']}); the archive may be deleted."


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file, tqdm(
        total=path.stat().st_size, desc="sha256", unit="B", unit_scale=True, disable=None
    ) as bar:
        while block := file.read(_CHUNK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _continue(url: str, part: Path, extra_space: float) -> None:
    """One request: append what is missing to the partial file, or begin anew where the server's file is another one."""
    state_path = part.with_name(part.name + ".json")
    state, have = _read_record(state_path), part.stat().st_size
    headers = {"Accept-Encoding": "identity"}
    if have and state:
        headers["Range"] = f"bytes={have}-"
        if state["validator"]:
            headers["If-Range"] = state["validator"]
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is missing, or the file is shorter now
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have) == str(state.get("bytes")):
                state_path.unlink(missing_ok=True)
                return
            _truncate(part)
            raise requests.ConnectionError("the server's file has changed")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise requests.ConnectionError(f"the server answers {answer.status_code} {answer.reason}")
        if answer.status_code not in (200, 206):
            raise InputError(
                f"{url}: the server answers {answer.status_code} {answer.reason}; give another address by --base-url."
            )
        now = _state_of(answer, url, have)
        if answer.status_code == 200 or not have or any(now[key] != state.get(key) for key in now):
            if answer.status_code == 206 and have:
                _truncate(part)
                raise requests.ConnectionError("the server's file has changed")
            _truncate(part)
            have = 0
            _write(state_path, json.dumps(now) + "\n")
        if now["bytes"] is not None:
            _require_space(part.parent, now["bytes"] * (1 + extra_space) - have, f"for {url}")
        bar = tqdm(total=now["bytes"], initial=have, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with part.open("ab", buffering=0) as file, bar:
            for block in answer.iter_content(_PIECE):
                try:
                    file.write(block)
                except OSError as error:
                    remedy = "free disk space and run the command again"
                    raise InputError(f"{part}: cannot be written ({error.strerror}); {remedy}.") from error
                bar.update(len(block))
    size = part.stat().st_size
    if now["bytes"] is not None and size != now["bytes"]:
        raise requests.ConnectionError(f"{size} of {now['bytes']} bytes arrived")
    state_path.unlink(missing_ok=True)


def _state_of(answer: requests.Response, url: str, have: int) -> dict:
    """What identifies the server's file: address, size (None if it does not say), ETag or date of change."""
    total = answer.headers.get("Content-Length")
    if answer.status_code == 206:
        span, _, total = answer.headers.get("Content-Range", "").partition("/")
        if not span.startswith(f"bytes {have}-"):
            raise requests.ConnectionError("the server sent another range than asked for")
    etag = answer.headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
    return {"url": url, "bytes": int(total) if total and total.isdecimal() else None, "validator": validator}


def _targets(packed: zipfile.ZipFile, archive: Path) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Where each file of the archive goes; __MACOSX and hidden files go nowhere."""
    names = {}
    for info in packed.infolist():
        path = PurePosixPath(info.filename)
        unsafe = path.is_absolute() or ".." in path.parts or "\\" in info.filename
        if unsafe or stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{archive} has the member {info.filename}, which would leave the folder; do not use it.")
        if not info.is_dir() and not any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            names[info] = path
    folders = {path.parent.parent for path in names.values() if path.parent.name in ("train", "test")}
    top = min(folders, key=lambda path: len(path.parts), default=PurePosixPath())
    targets = {info: path.relative_to(top) if path.is_relative_to(top) else path for info, path in names.items()}
    tables = [path for path in targets.values() if path.name == "annotations.csv"]
    table = min(tables, key=lambda path: len(path.parts), default=None)
    return {info: PurePosixPath(path.name) if path == table else path for info, path in targets.items()}


def _is_there(info: zipfile.ZipInfo, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != info.file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _write_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, bar: tqdm) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with packed.open(info) as source, partial.open("wb") as file:  # zipfile tests the CRC at the member's end
            while block := source.read(_CHUNK):
                file.write(block)
                bar.update(len(block))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _find_table(root: Path, base: str) -> None:
    """Take annotations.csv from beside the archive, on disk or on the server, where the archive did not bring it."""
    table = root / "annotations.csv"
    if table.is_file():
        return
    beside = root.parent / "annotations.csv"
    if not beside.is_file():
        try:
            fetch(base + "annotations.csv", beside)
        except InputError as error:
            raise InputError(
                f"{table} is not in the archive and not beside it ({error}); take it from GitHub hukenovs/slovo, put "
                "it there and run the command again."
            ) from error
    shutil.copyfile(beside, table)


def _require_space(folder: Path, size: float, purpose: str) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        needed = f"{size / 1e9:.1f} GB are needed {purpose}, {free / 1e9:.1f} GB are free"
        raise InputError(f"{folder}: {needed}; make room, or set `path` in the data set's YAML to another disk.")


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{part}: another download of this file is running; wait for it or stop it.") from error
        yield


def _truncate(part: Path) -> None:
    os.truncate(part, 0)


def _read_record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.download", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(ARCHIVES), help="data set to download")
    parser.add_argument("--base-url", help="address of the folder that holds the archive (default: the authors')")
    options = parser.parse_args(arguments)
    return exit_status(lambda: download(options.name, options.base_url))


if __name__ == "__main__":
    sys.exit(main())
