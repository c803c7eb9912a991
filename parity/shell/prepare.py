"""Puts CIFAR-10 where both sides read it. Imports no framework."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jax_impl.data import archive as cifar10
from jax_impl.data import datasets
from jax_impl.errors import InputError, one_line, shown
from torch_ref import layout

MANIFEST = "prepared.json"
SCHEMA = 1
PROBE_SECONDS = 3.0
STAGING, LOCK, OLD = ".preparing-", "lock", "old"
"""What a preparation is made in; in it what is locked until it ends, and what it replaces."""

Log = Callable[[str], None]


class NoNetwork(InputError):
    """The published archive cannot be had: no network, or nothing to download it with."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """CIFAR-10 as it lies in `directory`, and the archive it came from.

    `sha256` is that of the archive's file, None for a folder; `official` says whether it is one
    that the data set's authors publish.
    """

    directory: Path
    source: str
    sha256: str | None
    official: bool


def find(data_dir: Path) -> Prepared | None:
    """What `prepare` left in `data_dir`, or None if it did not, or not all is there any more.

    Raises:
        InputError: the manifest is unreadable.
    """
    path = data_dir / MANIFEST
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: not UTF-8; pass --overwrite") from error
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        manifest = json.loads(text)
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema {manifest['schema']}, not {SCHEMA}")
        complete = all((data_dir / name).is_file() for name in manifest["files"])
        prepared = Prepared(data_dir, manifest["source"], manifest["sha256"], manifest["official"])
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        problem = shown(repr(error), 200)
        raise InputError(f"{path} is damaged ({problem}); pass --overwrite") from error
    return prepared if complete else None


def prepare(
    data_dir: Path,
    archive: Path | None = None,
    overwrite: bool = False,
    log: Log = print,
    records: int = cifar10.RECORDS,
) -> Prepared:
    """Fills `data_dir` with CIFAR-10 in the layouts of TFDS and of torchvision, and a manifest.

    All is built in a temporary folder and then moved into place, the manifest last; after an
    error or an interruption `data_dir` is as it was. TFDS's layout is left out where TFDS is not
    installed: `jax_impl.data.datasets` then reads torchvision's.

    Args:
        data_dir: made if it is missing.
        archive: what `archive.read` takes; None downloads the published binary archive.
        overwrite: replace what is there.
        log: gets each line for the user.
        records: images in each file of the archive.

    Raises:
        NoNetwork: nothing is prepared, no archive named, and none can be downloaded.
        InputError: the archive is unusable, something else is there, or it cannot be written.
    """
    for folder in data_dir.glob(f"{STAGING}*"):
        _remove_abandoned(folder)
    if not overwrite and (found := _keep(data_dir, archive)) is not None:
        log(f"CIFAR-10 is already prepared in {data_dir}")
        return found
    if archive is None:
        check_network()
    with _staging(data_dir) as staging:
        if archive is None:
            log(f"downloading {cifar10.URL}")
            content = _published(staging / "download", records)
        else:
            log(f"reading {archive}")
            content = cifar10.read(archive, records)
            if not content.official:
                log(_unofficial(archive, content.sha256))
        prepared = Prepared(
            data_dir,
            cifar10.URL if archive is None else str(archive.resolve()),
            content.sha256,
            content.official,
        )
        new = staging / "new"
        new.mkdir()
        _build(new, content.dataset, prepared, log)
        if not overwrite and (found := _keep(data_dir, archive)) is not None:
            log(f"CIFAR-10 was prepared in {data_dir} by another process meanwhile")
            return found
        _install(new, data_dir, staging / OLD)
    log(f"prepared CIFAR-10 in {data_dir}")
    return prepared


def _keep(data_dir: Path, archive: Path | None) -> Prepared | None:
    """What is prepared already and serves as it is; refuses to go on if something else is there."""
    prepared = find(data_dir)
    if prepared is None:
        for target in _targets(data_dir):
            if target.exists() and not (data_dir / MANIFEST).exists():
                raise InputError(
                    f"{target} exists and was not prepared here; pass --overwrite to replace it, "
                    "or another --data-dir"
                )
        return None
    if archive is not None and not _same(prepared, archive):
        raise InputError(
            f"{data_dir} already holds CIFAR-10 from {prepared.source}, not from {archive}; pass "
            "--overwrite to replace it, or another --data-dir"
        )
    return prepared


def _same(prepared: Prepared, archive: Path) -> bool:
    if archive.is_dir():
        return prepared.source == str(archive.resolve())
    return prepared.sha256 == cifar10.checksums(archive)[0]


def _targets(data_dir: Path) -> list[Path]:
    """What a preparation puts into the data directory, the manifest last."""
    return [data_dir / name for name in (datasets.TFDS_FOLDER, layout.FOLDER, MANIFEST)]


def _unofficial(archive: Path, sha256: str | None) -> str:
    if sha256 is None:
        return f"{archive} is a folder, which no published checksum covers; used all the same"
    return f"{archive} has SHA-256 {sha256}, not that of a published archive; used all the same"


@contextlib.contextmanager
def _staging(data_dir: Path) -> Iterator[Path]:
    """A temporary folder in `data_dir`, which is gone afterwards.

    So is each folder that had to be made for it and holds nothing.
    """
    made = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked_folder(data_dir) as staging:
            yield staging
    except OSError as error:
        where = error.filename or data_dir
        raise InputError(f"cannot write {where}: {error.strerror or error}") from error
    finally:
        for folder in made:
            _remove_empty(folder)


@contextlib.contextmanager
def _locked_folder(data_dir: Path) -> Iterator[Path]:
    """A new folder in `data_dir` that no other preparation takes for abandoned."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=data_dir))
        try:
            with open(folder / LOCK, "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (folder / LOCK).exists():  # one removed it before it was locked
                    continue
                yield folder
        except FileNotFoundError:
            if folder.exists():
                raise
            continue  # the same, before there was a lock
        finally:
            _remove_staging(folder)
        return


def _remove_staging(folder: Path) -> None:
    """Removes it, the lock last: what has none is empty, should the process be ended meanwhile."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Removes what a preparation was made in, if its process is gone: with it went its lock.

    What it had put aside goes back where it was, unless all that replaces it is in place.
    """
    with contextlib.suppress(OSError):
        try:
            with open(folder / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (folder.parent / MANIFEST).exists():
                    _put_back(folder / OLD, folder.parent)
                _remove_staging(folder)
        except FileNotFoundError:
            folder.rmdir()


def _put_back(old: Path, data_dir: Path) -> None:
    """Moves what is in `old` back, the manifest last; what lies there now is of the new."""
    for target in _targets(data_dir):
        source = old / target.relative_to(data_dir)
        if source.exists():
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)


def _build(folder: Path, dataset: datasets.Dataset, prepared: Prepared, log: Log) -> None:
    """Writes both layouts and the manifest into an empty folder."""
    train, test = dataset.train, dataset.test
    sums = layout.write(
        folder, (train.images, train.labels), (test.images, test.labels), dataset.class_names
    )
    files = {f"{layout.FOLDER}/{name}": md5 for name, md5 in sums.items()}
    if datasets.has_tfds():
        datasets.write_tfds(dataset, folder)
        for path in sorted((folder / datasets.TFDS_FOLDER).iterdir()):
            files[path.relative_to(folder).as_posix()] = _md5(path)
    else:
        log("tensorflow-datasets is not installed: its layout is left out")
    manifest = {
        "schema": SCHEMA,
        "source": prepared.source,
        "sha256": prepared.sha256,
        "official": prepared.official,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, functools.partial(hashlib.md5, usedforsecurity=False)
        ).hexdigest()


def _install(new: Path, data_dir: Path, old: Path) -> None:
    """Moves what is in `new` into `data_dir`, and what it replaces to `old`; all of it or none."""
    with contextlib.ExitStack() as undo:
        # The manifest goes first and comes last: with it, the rest is complete.
        for target in reversed(_targets(data_dir)):
            if target.exists():
                _move(target, old / target.relative_to(data_dir), undo)
        for target in _targets(data_dir):
            source = new / target.relative_to(data_dir)
            if source.exists():
                _move(source, target, undo)
        undo.pop_all()


def _move(source: Path, target: Path, undo: contextlib.ExitStack) -> None:
    def move_back() -> None:
        if target.exists() and not source.exists():
            target.rename(source)

    # Registered first: an interruption may come right after the renaming.
    if not target.parent.exists():
        undo.callback(_remove_empty, target.parent)
    undo.callback(move_back)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_network() -> None:
    """Returns if the published archive can be downloaded, and raises within a few seconds if not.

    Raises:
        NoNetwork: no answer, an answer that is an error, or TensorFlow Datasets is missing.
    """
    advice = "prepare a local copy with `parity prepare --archive FILE`"
    if not datasets.has_tfds():
        raise NoNetwork(f"CIFAR-10 cannot be downloaded without tensorflow-datasets; {advice}")
    answers: list[str] = []
    # In a thread, for no timeout of requests covers the look-up of the host's address.
    prober = threading.Thread(target=lambda: answers.append(_probe(cifar10.URL)), daemon=True)
    prober.start()
    prober.join(PROBE_SECONDS + 1)
    problem = answers[0] if answers else "no answer"
    if problem:
        raise NoNetwork(f"CIFAR-10 cannot be downloaded ({problem}); {advice}")


def _probe(url: str) -> str:
    """What keeps `url` from being read, or an empty string. Honours the proxies that are set."""
    import requests

    try:
        status = requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True).status_code
    except requests.RequestException as error:
        return f"no network: {type(error).__name__}"
    return "" if status < 400 else f"the server answers {status}"


def _published(folder: Path, records: int) -> cifar10.Archive:
    """The published archive, by TFDS's download manager, which verifies its registered checksum."""
    import tensorflow_datasets as tfds

    try:
        with datasets.quiet_tfds():
            manager = tfds.download.DownloadManager(download_dir=folder, dataset_name="cifar10")
            path = Path(manager.download(cifar10.URL))
    # requests, TFDS and its promises report a failed download with errors of many types.
    except Exception as error:
        raise InputError(f"the download of {cifar10.URL} failed: {one_line(error)}") from error
    content = cifar10.read(path, records)
    if not content.official:
        raise InputError(
            f"the download of {cifar10.URL} is not the published archive: its SHA-256 is "
            f"{content.sha256}"
        )
    return content
