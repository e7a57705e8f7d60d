"""The sbatch script of ``workbench sweep --slurm``: a job array of workers that share a study through its database."""

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

DEFAULT_TASKS = 8
SAVED = 128 + getattr(signal, "SIGUSR1", 10)  # exit status of a command that saved because of SIGUSR1


def job_array(command: Sequence[str], name: str, num_tasks: int) -> str:
    """The script; each task runs ``workbench COMMAND`` on a GPU of its own, and is requeued at its time limit."""
    worker = shlex.join([sys.executable, "-m", "workbench", *command])
    return f"""\
#!/bin/bash
# Workers of study {name}: each task claims and trains runs until none is left. Submit with: sbatch FILE
# Edit before: partition and account, cores, memory and time of a task, and what activates the environment.
#SBATCH --job-name={name}
##SBATCH --partition=gpu
#SBATCH --array=0-{num_tasks - 1}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
# Two minutes before the time limit the worker gets SIGUSR1, finishes its step, saves, and exits with status {SAVED}.
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# Relative paths in recipes and studies start here.
#SBATCH --chdir={shlex.quote(str(Path.cwd()))}

# module load cuda
# source .venv/bin/activate

srun --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" \\
    {worker}
status=$?
# Slurm requeues preempted tasks by itself, but not those that reach their time limit.
if [ "$status" -eq {SAVED} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""
