"""How many stages of a study this machine takes at a time."""

from __future__ import annotations

from pathlib import Path

from core.options import NOTHING, read_yaml_options, yaml_files
from core.registry import ALL
from extract_item_embeddings.engine.jobs import available_cores
from study.config import HERE, StudyConfig
from study.open_stages import OPTIONS

SAMPLE, LARGE = 1.5e9, 3e9  # bytes: more than a stage of each has taken (docs/speed.md)
MOST = 8  # each has threads for all cores as well


def stages_at_once(config: StudyConfig) -> tuple[int, str]:
    """Return how many stages run at a time, and why not more."""
    if config.at_once:
        return config.at_once, "as asked for"
    if limited := _ended_by_the_clock(config):
        return 1, f"{limited} ends a training by the clock, which beside others would learn less"
    cores, free, each = available_cores(), free_memory(), SAMPLE if is_sample(config) else LARGE
    n = max(1, min(cores, MOST, int(free // each)))
    return n, f"{cores} cores, {free / 1e9:.0f} GB free, {each / 1e9:g} GB a stage"


def settings_of(config: StudyConfig) -> dict[str, str]:
    """Return the settings in which stages run that say nothing else.

    A stage of the sample has one thread, however many run at a time: of networks so small two take
    a third more of the processor, and results would depend on the number of cores.
    """
    return {"OMP_NUM_THREADS": "1"} if is_sample(config) else {}


def is_sample(config: StudyConfig) -> bool:
    """Say whether the study makes its own data."""
    return config.log is None and not config.onion


def free_memory(root: Path = Path("/")) -> float:
    """Return the bytes that are free, or the limit of this process's control group if less.

    Args:
        root: the folder that holds proc/ and sys/.
    """
    known = (root / "proc/meminfo").read_text().split()
    sizes = [1024 * int(known[known.index("MemAvailable:") + 1])]
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, kinds, group = line.split(":", 2)
        group = group.strip("/")
        folder, name = root / "sys/fs/cgroup", "memory.max"
        if "memory" in kinds.split(","):
            folder, name = folder / "memory", "memory.limit_in_bytes"
        elif kinds:
            continue
        for path in (folder / group, *(folder / group).parents):
            if path.is_relative_to(folder) and (path / name).exists():
                said = (path / name).read_text().strip()
                sizes += [int(said)] if said.isdecimal() else []
    return min(sizes)


def _ended_by_the_clock(config: StudyConfig) -> str:
    """Return whose options set max_minutes, a recommender's name; '' where none do."""
    path = config.config
    if path is None and config.onion:
        path = HERE / OPTIONS[config.onion]
    for name in ALL:
        options: dict = {}
        for file in yaml_files(name, path):
            options |= read_yaml_options(file, name)
        if options.get("max_minutes") not in (None, *NOTHING):
            return f"max_minutes of {name}"
    return ""
