"""The study as a page to look at and listen to: report/index.html, opened without a server.

    python report.py --root sample --audio sample/audio
    python report.py --root m4a --audio audio --about id_information.csv,id_genres.csv
    python report.py --root m4a --against m4a_of_last_year       # or its report's folder
    python report.py --root m4a --audio audio --copy-audio --listen-tracks 200 --listen-users 20

Reads   tables/*.csv (table.py), runs/*/{config.yaml,metrics.json,log.jsonl,recs.pqt},
        embeddings/*.{npy,json}, data/{train,val,test}.pqt, trackid_sorted.csv
Writes  report/index.html     the answer, tables that sort, figures, every run's configuration
        report/listen.html    tracks and their neighbours, users and their lists, to hear
        report/data/          every track's neighbours, maps, users' lists: loaded when asked for
        report/figures/       every figure as NAME.pdf and NAME.png; -dark, -narrow for the page
        report/audio/         copies of the audio files that the page links to (--copy-audio only)
        report/report.json    what it was made from; written last

The pages hold their data and ask no network. Audio is linked to where it lies, by a relative path;
Music4All may not be passed on, so think before you pass on a report with --copy-audio.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import core.start  # noqa: F401  before what is heavy

from core.artifacts import atomic_path, exclusive, read_json, sha256, write_json
from core.late import options_are_read
from core.options import InputError, at_least, option, outcome_options, run
from core.trackids import read_trackids

if options_are_read(__name__):
    from tqdm import tqdm

    from core.splits import read_split
    from evaluation.finished import refuse_other_split
    from evaluation.tables import read_csv
    from reporting.against import KEPT, changes, name_of, read_old
    from reporting.answer import answer
    from reporting.compared import Earlier, compare_embeddings
    from reporting.drawing import draw_all, figure_metrics
    from reporting.factors import factor_table
    from reporting.gains import first_pair, write_gains
    from reporting.in_words import in_words
    from reporting.listening import audio_files, draw, file_name, listening_data
    from reporting.pages import write_index, write_listen
    from reporting.study import Study, read_study
    from reporting.tracks import found_about, read_tracks
    from reporting.users import user_rows

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class ReportConfig:
    root: Path = option(Path("."), "folder of all that is read and written", outcome=False)
    audio: Path | None = option(None, "folder of TRACKID.EXT, to hear tracks; none: no players")
    pattern: str | None = option(None, "the files in --audio that are meant, such as '**/*.mp3'")
    copy_audio: bool = option(False, "copy the audio that the page links to into report/audio")
    about: tuple[Path, ...] = option(
        (),
        "tables with a column id and artist, song or genres: Music4All's, by commas; auto: "
        "about.tsv, what get_data.py --about found",
    )
    listen_tracks: int = option(1000, "tracks that a random one is drawn from on the page, at most")
    neighbours: Literal["all", "drawn"] = option(
        "all", "the page's neighbours: of every track, or only of those to draw from, in less time"
    )
    listen_users: int = option(100, "users to choose from on the listening page, at most")
    map_tracks: int = option(5000, "tracks of figures of maps and similarities, at most")
    against: Path | None = option(None, "an earlier root or report: tell which numbers moved")
    seed: int = option(0, "draws these samples")
    overwrite: bool = option(False, "make it again, also when nothing changed", outcome=False)

    def __post_init__(self):
        at_least(self, listen_tracks=1, listen_users=1, map_tracks=20, seed=0)
        if self.pattern and self.audio is None:
            raise InputError("--pattern needs --audio DIR, the folder it is about")
        if self.copy_audio and self.audio is None:
            raise InputError("--copy-audio needs --audio DIR, the folder to copy from")
        if self.audio is not None and not self.audio.is_dir():
            raise InputError(f"--audio {self.audio} is not a folder; expected TRACKID.mp3 in it")


def main(config: ReportConfig) -> None:
    ids = read_trackids(config.root)
    study = read_study(config.root, len(ids))
    folder = config.root / "report"
    audio = audio_files(config.audio, ids, config.pattern) if config.audio else {}
    if config.audio and not audio:
        raise InputError(f"--audio {config.audio} holds no audio of the {len(ids):,} track ids")
    made_from = fingerprint(config, study, audio)
    page = folder / "index.html"
    with exclusive(folder / ".lock", str(folder)):
        earlier = _earlier(folder)
        if (
            not config.overwrite
            and earlier.get("made_from") == made_from
            and _whole(earlier, folder)
        ):
            print(f"{page} is up to date; --overwrite makes it again")
            return
        (folder / "report.json").unlink(missing_ok=True)
        kept = {} if config.overwrite else earlier.get("embeddings", {})
        known = Earlier(folder, kept, earlier.get("sha256", {}))
        files, embeddings = build(config, study, ids, audio, folder, known)
        for old in set(earlier.get("files", [])) - set(files):
            (folder / old).unlink(missing_ok=True)  # of an earlier report, and of no use now
        digests = {name: sha256(folder / name) for name in files if not is_copy(name)}
        record = {"made_from": made_from, "files": files, "sha256": digests}
        record["embeddings"] = embeddings
        write_json(folder / "report.json", record)
    size = sum((folder / name).stat().st_size for name in digests)
    print(f"runs    {len(study.runs):>9,}")
    print(f"figures {sum(name.endswith('.pdf') for name in files):>9,} in {folder / 'figures'}")
    print(f"size    {size / 1e6:>9,.1f} MB without audio")
    print(f"open    {page.resolve()}")


def build(
    config: ReportConfig, study: Study, ids: list[str], audio: dict, folder: Path, earlier: Earlier
) -> tuple[list[str], dict[str, dict]]:
    """Write the report's files, index.html last.

    Args:
        earlier: what need not be made again of an embedding.

    Returns:
        Their names inside the folder, and {embedding: {made_from, files}} for the next report.
    """
    split = read_split(config.root)
    refuse_other_split(config.root, study.runs, split.fingerprint)
    tracks = read_tracks(config.root, ids, split["train"], config.about)
    drawn = draw(
        ids, split, audio, n_tracks=config.listen_tracks, n_users=config.listen_users,
        n_map=config.map_tracks, seed=config.seed,
    )  # fmt: skip
    # What can be missing comes before what takes long.
    data, lists = listening_data(study, tracks, split, audio, drawn, folder / "data")

    changed = None
    if config.against:
        changed = changes(study.results, read_old(config.against), name_of(config.against))
        print(changed["told"])
    metrics = figure_metrics(study)
    users = user_rows(study)
    told = answer(study, metrics[0], users)
    compared = compare_embeddings(
        study, drawn.candidates, drawn.on_map, drawn.queries,
        of_all=config.neighbours == "all", folder=folder / "data", earlier=earlier,
    )  # fmt: skip
    told["words"] = in_words(study, metrics[0], compared.rows)
    fields = [card["field"] for card in told["cards"]]
    figures = draw_all(study, metrics[0], fields, tracks, compared, folder / "figures")
    gains, more = write_gains(folder / "data", users, metrics, split["train"], tracks)
    of_embeddings = [path for paths in compared.files.values() for path in paths]
    beside = [lists, *of_embeddings, *more, keep_table(config, study, folder)]
    mentioned = data.pop("mentioned") | compared.places
    if config.copy_audio:  # the others are found and silent: a report to pass on is not a library
        for place, track in enumerate(data["tracks"]):
            track[-1] = track[-1] if place in mentioned else ""
    copies = copy_audio(config, data, folder) if config.copy_audio else []
    data["k"] = study.k
    data["audio"] = link(config, folder) if audio else ""
    pages = [
        write_listen(folder, study, data, silence()),
        write_index(
            folder, study, told, figures,
            {
                "metrics": metrics,
                "changed": changed,
                "factors": factor_table(users, metrics[0]),
                "gains": {**gains, "first": first_pair(gains, told, users)} if gains else {},
                "n_map": len(drawn.on_map),
                "sampled": len(drawn.on_map) < len(drawn.candidates),
                "tracks_what": tracks.what,
            },
        ),
    ]  # fmt: skip
    images = [path for figure in figures.values() for path in figure["files"]]
    embeddings = {
        name: {"made_from": compared.made_from[name], "files": _inside(folder, paths)}
        for name, paths in compared.files.items()
    }
    return _inside(folder, [*images, *copies, *beside, *pages]), embeddings


def _inside(folder: Path, paths: list[Path]) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def keep_table(config: ReportConfig, study: Study, folder: Path) -> Path:
    """Copy the table into the report, for a later one to be compared with.

    Raises:
        InputError: it is another one by now than the report was made from.
    """
    kept, table = folder / "data" / KEPT, config.root / "tables" / "results.csv"
    with atomic_path(kept) as temporary:
        shutil.copyfile(table, temporary)
        if not read_csv(temporary, "python table.py").equals(study.results):
            raise InputError(
                f"{table} was replaced while the report was made; run the same command again"
            )
    return kept


def fingerprint(config: ReportConfig, study: Study, audio: dict) -> str:
    """Return a hash of all that decides the report: options, results, embeddings, this code."""
    root = config.root
    small = [*(root / "tables").glob("*.csv"), *(root / "embeddings").glob("*.json")]
    if config.against:
        small += [config.against / "tables" / "results.csv", config.against / "data" / KEPT]
    small += [
        root / "data" / "split.json",
        root / "data" / "users.pqt",
        root / "sample.json",
        *(config.about or found_about(config.root)),
    ]
    small += [p for run in study.runs for p in (root / "runs" / run["folder"]).glob("[cm]*.[yj]*")]
    small += [HERE / "report.py", *(HERE / "reporting").rglob("*.*")]
    digest = hashlib.sha256(repr(sorted(outcome_options(config).items())).encode())
    digest.update(
        sha256(*(p for p in sorted(small) if p.is_file() and p.suffix != ".pyc")).encode()
    )
    for name, matrix in study.matrices.items():
        digest.update(f"{name} {matrix.sha256}".encode())
    digest.update(repr(sorted(audio.items())).encode())
    return digest.hexdigest()


def _earlier(folder: Path) -> dict:
    path = folder / "report.json"
    return read_json(path, "python report.py --overwrite") if path.exists() else {}


def is_copy(name: str) -> bool:
    """Say whether a file of the report is a copy of audio: as many bytes as the library has."""
    return name.startswith("audio/")


def _whole(earlier: dict, folder: Path) -> bool:
    """Say whether a report's files are those that it wrote; copies of audio need to be there."""
    told = earlier.get("sha256", {})
    return all(
        (folder / name).exists() and (name not in told or sha256(folder / name) == told[name])
        for name in earlier.get("files", [])
    )


def link(config: ReportConfig, folder: Path) -> str:
    """Return what every link to audio begins with, relative to the report's folder."""
    if config.copy_audio:
        return "audio/"
    path = os.path.relpath(config.audio.resolve(), folder.resolve())
    return "/".join(quote(part) for part in Path(path).parts) + "/"


def silence() -> str:
    """Return why there are no players, for the page to say."""
    return (
        "report.py was not told where the clips are. To hear them, run it again with --audio DIR, "
        "the folder of TRACKID.mp3"
    )


def copy_audio(config: ReportConfig, data: dict, folder: Path) -> list[Path]:
    """Copy the audio of every track that the page mentions; return the copies.

    What is there already, equally long and not older, is left.
    """
    names = [file_name(id_, ending) for id_, _, _, _, ending in data["tracks"] if ending]
    sizes = [(config.audio / name).stat().st_size for name in names]
    print(
        f"copying {len(names):,} audio files, {sum(sizes) / 1e6:,.0f} MB, into {folder / 'audio'}"
    )
    copies = []
    for name, size in zip(tqdm(names, "audio", unit=" files", disable=None), sizes, strict=True):
        source, copy = config.audio / name, folder / "audio" / name
        copies.append(copy)
        if copy.exists():
            there = copy.stat()
            if there.st_size == size and there.st_mtime >= source.stat().st_mtime:
                continue
        with atomic_path(copy) as temporary:
            shutil.copyfile(source, temporary)
    return copies


if __name__ == "__main__":
    run(main, ReportConfig, __doc__)
