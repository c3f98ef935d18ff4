"""Every stage of a study without Slurm, but its report: in one process, where one can be.

    python -m tests.study.one_process --root R --log FILE --audio DIR ...

What run_study.py does, without a start of Python and of torch for each stage.
"""

import subprocess
import sys

from core.options import parse_config
from study.checks import options_of
from study.config import StudyConfig
from study.stages import plan


def main(flags: list[str]) -> None:
    for stage in plan(parse_config(StudyConfig, "", flags)):
        if stage.script[0] == "-m":
            subprocess.run([sys.executable, *stage.script, *stage.flags], check=True)
        elif stage.name != "report":
            module, config = options_of(stage.script[0], stage.flags)
            module.main(config)


if __name__ == "__main__":
    main(sys.argv[1:])
