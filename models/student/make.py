"""Everything in order: tests of the scenarios, training, export. `python models/student/make.py`

Interrupted, it goes on where it stopped: finished and half-finished trainings stand in $STUDENT_CHECKPOINTS (default:
`checkpoints/`, ignored by git). A training uses one core: small matrices lose more to waiting for a second thread than
they gain. Where two trainings depend on nothing of each other they run side by side.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# One after the other; those of one stage side by side, as all that they start from is there.
STAGES = [["first"], ["teacher", "plain"], ["continued", "distilled"], ["long"], ["deep_teacher"], ["deep"]]


def python(*arguments):
    """Starts one step in this folder with the same interpreter, one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], cwd=HERE, env=environment)


def main():
    """Runs the stages; stops with the code of the first step that fails."""
    trainings = [[["train.py", name] for name in stage] for stage in STAGES]
    steps = [[["-m", "unittest", "-q", "test_scenarios"]], *trainings, [["export.py"]]]
    for stage in steps:
        running = [python(*arguments) for arguments in stage]
        codes = [process.wait() for process in running]
        if any(codes):
            sys.exit(max(codes))


if __name__ == "__main__":
    main()
