"""Fetch open data: the listening log, tables of vectors, the published split, genres and artists.

    python get_data.py --list                                       # what there is, and its licence
    python get_data.py --root onion --tables mfcc_stats,maest --split journal --about
    python get_data.py --root onion --log                           # 2.2 GB
    python get_data.py --root onion --tables maest --mirror http://127.0.0.1:8000 --limit-rate 2MB

Reads   data_sources.yaml     the list of files: address, size, checksum, licence; edit it, or name
                              your own with --sources
Writes  downloads/FILE        whole and verified, under its own name
        downloads/FILE.json   where it is from, its sha256, which checksum it was compared with
        about.tsv             with --about: id, artist, genres of the tracks, for the report
        about.json            its fingerprint

What was cut goes on where it was, also after an interruption, by the same command. A file with a
wrong checksum is not kept. Where no checksum is known, the one found is recorded and named. Without
a network the addresses are printed, and where to put the files: what is there is checked and used.
"""

from dataclasses import dataclass
from pathlib import Path

import core.start  # noqa: F401  before what is heavy

from core.artifacts import exclusive
from core.late import options_are_read
from core.options import InputError, WorkError, option, run
from open_data.sources import Source, choose, from_mirror, listing, read_sources

if options_are_read(__name__):
    from tqdm import tqdm

    from open_data.fetching import by_hand, check_space, fetch_all, is_here
    from open_data.transfer import Pace, Transfer, Unreachable, check_rate

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class DataConfig:
    root: Path = option(Path("."), "folder of downloads/", outcome=False)
    log: bool = option(False, "the listening log, 2.2 GB")
    tables: tuple[str, ...] = option((), "tables of vectors by name, as maest,mfcc_stats; or all")
    split: str | None = option(None, "a published split: journal")
    about: bool = option(False, "genres and artists of the tracks; writes about.tsv")
    list: bool = option(False, "print the list of files and fetch nothing", outcome=False)
    mirror: str | None = option(None, "server or folder that has the files by their names")
    sources: Path = option(HERE / "data_sources.yaml", "the list of files")
    at_once: int = option(3, "files fetched at a time", outcome=False)
    limit_rate: str | None = option(
        None, "most bytes a second of all together, as 2MB; none: no limit", outcome=False
    )
    tries: int = option(8, "failures in a row before an address is given up", outcome=False)
    base_wait: float = option(
        1.0, "seconds before the second try; doubled for each further one", outcome=False
    )


def main(config: DataConfig) -> None:
    if min(config.at_once, config.tries) < 1 or config.base_wait < 0:
        raise InputError("--at-once and --tries must be at least 1, --base-wait at least 0")
    sources, folder = read_sources(config.sources), config.root / "downloads"
    rate = check_rate(config.limit_rate)
    if config.list:
        print(listing(sources, folder))
        return
    chosen = choose(
        sources,
        log=config.log,
        tables=config.tables,
        split=config.split,
        about=config.about,
    )
    if not chosen:
        raise InputError("nothing is asked for: --log, --tables, --split or --about; see --list")
    chosen = [from_mirror(source, config.mirror) for source in chosen]
    with exclusive(folder / ".lock", f"{folder}"):
        missing = [source for source in chosen if not is_here(source, folder / source.file)]
        for source in chosen:
            if source not in missing:
                print(f"{source.name:<18} is here: {folder / source.file}")
        try:
            if missing:
                check_space(missing, folder)
                fetch(config, missing, folder, rate)
        finally:
            if config.about and any(
                (folder / s.file).exists() for s in chosen if s.group == "about"
            ):
                print(write_about(config.root, folder, sources))


def write_about(root: Path, folder: Path, sources: dict[str, Source]) -> str:
    """Write about.tsv of what is there; see open_data.about."""
    from listening_log.large_tables import thread_count  # with pyarrow, which downloads need not
    from open_data import about

    return about.write_about(root, folder, sources, thread_count(None))


def fetch(config: DataConfig, missing: list[Source], folder: Path, rate: float | None) -> None:
    """Fetch with a bar and a line for every file; without a network say what to do by hand."""
    known = sum(source.bytes or 0 for source in missing)
    unknown = sum(source.bytes is None for source in missing)
    more = f" and {unknown} of unknown size" if unknown else ""
    print(f"fetching {len(missing)} files, {known:,} bytes{more}, into {folder}", flush=True)
    total = None if unknown else known
    with tqdm(total=total, unit="B", unit_scale=True, disable=None, smoothing=0.05) as bar:
        transfer = Transfer(
            tries=config.tries,
            pace=Pace(rate),
            base_wait=config.base_wait,
            progress=lambda source, n: bar.update(n),
            tell=lambda line: tqdm.write(line),
        )
        try:
            fetch_all(missing, folder, transfer, config.at_once, done=_say)
        except Unreachable as error:
            bar.close()
            gone = [source for source in missing if not (folder / source.file).exists()]
            print(by_hand(gone, folder), flush=True)
            raise WorkError(
                f"no address answers, see above what to fetch by hand: {error}"
            ) from error


def _say(source: Source, facts: dict) -> None:
    if facts["checked"]:
        checked = f"{' and '.join(facts['checked'])} as listed"
    else:
        checked = f"no checksum is known; sha256 {facts['sha256']} is recorded"
    tqdm.write(
        f"{source.name:<18} {facts['bytes']:>15,} bytes, {checked}; licence {source.licence}"
    )


if __name__ == "__main__":
    run(main, DataConfig, __doc__)
