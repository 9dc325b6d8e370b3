"""The scripts in launch/, with mocks of the programs that they call."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import ssagan_jax.main  # noqa: F401  Defines the flags.

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "launch").iterdir() if path.suffix in (".sh", ".sbatch"))
EXTRA_FLAGS = ("--config=configs/bert.py:my_cars", "--config.data.dir=two words")
# Records its arguments. As the training command it runs $TRAINING with its process id as `number`.
PYTHON = f"""#!{sys.executable}
import json, os, re, signal, sys
from pathlib import Path

arguments, notes = sys.argv[1:], Path(os.environ["NOTES"])
command = " ".join(arguments)
if arguments[0] == "-c":
    exec(arguments[1] if "jax" not in arguments[1] else "print('devices: 4 x mock')")
elif arguments[:2] == ["-m", "venv"]:
    Path(arguments[-1], "bin").mkdir(parents=True)
    Path(arguments[-1], "bin/python").symlink_to(__file__)
elif arguments[1] == "pip":
    notes.joinpath("pip").write_text(command)
    sys.exit(int(os.environ.get("PIP_CODE", "0")))
else:
    number = int((re.search("--process_id=([0-9]+)", command) or ["", "0"])[1])
    notes.joinpath(f"train{{number}}").write_text(
        json.dumps([arguments, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpgrp() == os.getpid()])
    )
    exec(os.environ.get("TRAINING", ""))
"""
# Announces itself, waits for a signal, records it and exits as a stopped run does.
UNTIL_STOPPED = """
def stop(number_of_signal, frame):
    notes.joinpath(f"stopped{number}").write_text(str(number_of_signal))
    sys.exit(128 + number_of_signal)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
notes.joinpath("there").open("w").close()
signal.pause()
"""
# Exits with 3 once the other process has started.
FAILS = """
notes.joinpath("there").open().close()
sys.exit(3)
"""


class Machine:
    """A copy of the project's scripts with mocks of the programs that they call."""

    def __init__(self, folder):
        self.root, self.programs, self.notes = (folder / n for n in ("root", "programs", "notes"))
        for path in (self.root, self.programs, self.notes):
            path.mkdir()
        shutil.copytree(ROOT / "launch", self.root / "launch")
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root)
        self.program("python3", PYTHON)
        self.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
        self.environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "NOTES": str(self.notes),
        }

    def program(self, name, content):
        path = self.programs / name
        path.write_text(content)
        path.chmod(0o755)

    def gpus(self, count, driver="580.65.06", capability="9.0"):
        listed = {f"GPU {number}: x" for number in range(count)}
        queried = [f"{driver}, {capability}"] * count
        self.program(
            "nvidia-smi",
            f"#!/bin/sh\n[ $1 = --list-gpus ] && echo '{chr(10).join(listed)}' || "
            f"echo '{chr(10).join(queried)}'\n",
        )

    def start(self, *command, **environment):
        return subprocess.Popen(
            ["bash", *command],
            cwd=self.root,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Bash cannot trap a signal that was ignored when it started, as in background jobs.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *command, **environment):
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def note(self, name):
        return (self.notes / name).read_text()

    def training(self, number=0):
        arguments, gpus, own_group = json.loads(self.note(f"train{number}"))
        assert arguments[:2] == ["-m", "ssagan_jax.main"]
        return arguments[2:], gpus, own_group


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_names_flags_and_configs_that_exist(script):
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    if script.name == "environment.sh":
        return
    content = script.read_text()
    header = content.partition("set -euo pipefail")[0]
    commands = re.findall(r"^# (?:bash|sbatch) .*", header, re.MULTILINE)
    assert commands and all(f"launch/{script.name}" in command for command in commands)
    passed = re.findall(r"ssagan_jax\.main(.*?)\n(?! )", content, re.DOTALL)
    named = re.findall(r"--(\w+)\b", " ".join([*commands, *passed]))
    own = set(re.findall(r'"?\$\{1:-\}"? !?= --(\w+)', content))
    assert set(named) - own <= set(flags.FLAGS)
    for config in re.findall(r"configs/\w+\.py", " ".join([*commands, *passed])):
        assert (ROOT / config).is_file()


@pytest.mark.parametrize("name", ["quickstart.sh", "local.sh"])
def test_further_flags_are_passed_on_and_nothing_is_installed_twice(name, machine):
    assert machine.run(f"launch/{name}", *EXTRA_FLAGS).returncode == 0
    (machine.notes / "pip").unlink()
    done = machine.run(f"launch/{name}", *EXTRA_FLAGS, TRAINING="sys.exit(75)")
    assert done.returncode == 75, done.stderr
    assert machine.training()[0][-2:] == list(EXTRA_FLAGS)
    assert not (machine.notes / "pip").exists()


@pytest.mark.parametrize(
    ("driver", "capability", "extra"),
    [
        ("580.65.06", "9.0", "cuda13"),
        ("581.0", "12.0", "cuda13"),
        ("570.124.06", "9.0", "cuda12"),
        ("580.65.06", "7.0", "cuda12"),
        (None, None, ""),
    ],
)
def test_the_extra_matches_driver_and_gpu(driver, capability, extra, machine):
    if driver:
        machine.gpus(2, driver, capability)
    done = machine.run("launch/local.sh", *EXTRA_FLAGS)
    assert done.returncode == 0, done.stderr
    assert machine.note("pip").endswith(f"-e .[{extra}]" if extra else "-e .")
    assert "devices: 4 x mock" in done.stdout


def test_a_faster_allocator_is_used_where_the_machine_has_one(machine, tmp_path):
    show = "set -euo pipefail; . launch/environment.sh; echo preloaded: $LD_PRELOAD"
    machine.program("ldconfig", "#!/bin/sh\nexit 1\n")
    assert "preloaded:\n" in machine.run("-c", show, LD_PRELOAD="").stdout
    # Any library will do, but the loader warns if it cannot load one.
    libm = re.search(r"/\S*/libm[.-]\S*", Path("/proc/self/maps").read_text())[0]
    library, other = tmp_path / "libtcmalloc_minimal.so.4", tmp_path / "libother.so"
    for path in (library, other):
        path.symlink_to(libm)
    machine.program(
        "ldconfig",
        f"#!/bin/sh\nprintf '\\tlibtcmalloc_minimal_debug.so.4 (libc6,x86-64) => /debug\\n"
        f"\\tlibtcmalloc_minimal.so.4 (libc6,x86-64) => {library}\\n'\n",
    )
    for before, after in (("", library), (other, f"{other}:{library}"), (library, library)):
        done = machine.run("-c", show, LD_PRELOAD=str(before))
        assert f"preloaded: {after}\n" in done.stdout and done.stderr == ""


def test_a_python_without_ensurepip_works(machine):
    # As on Colab and Debian: venv fails without --without-pip, leaving an incomplete folder.
    machine.program(
        "python3",
        PYTHON.replace(
            'elif arguments[:2] == ["-m", "venv"]:',
            'elif arguments[:2] == ["-m", "venv"] and "--without-pip" not in arguments:\n'
            "    sys.exit(1)\nelif arguments[:2] == ['-m', 'venv']:",
        ).replace('"pip").write_text(command)', '"pip").open("a").write(command + "\\n")'),
    )
    done = machine.run("launch/local.sh", *EXTRA_FLAGS)
    assert done.returncode == 0, done.stderr
    first, second = machine.note("pip").splitlines()
    assert first.startswith("-m pip --python .venv/bin/python install") and first.endswith(" pip")
    assert second.endswith("-e .")


def test_multihost_passes_address_and_process_id(machine):
    done = machine.run("launch/multihost.sh", "node0:1234", "3", "2", *EXTRA_FLAGS)
    assert done.returncode == 0, done.stderr
    assert machine.training(2)[0] == [
        "--distributed",
        "--coordinator_address=node0:1234",
        "--num_processes=3",
        "--process_id=2",
        *EXTRA_FLAGS,
    ]


def test_multihost_rejects_invalid_arguments(machine):
    for arguments in ("", "node0", "node0:1 2", "node0:1 2 2", "--local", "--local x"):
        done = machine.run("launch/multihost.sh", *arguments.split())
        assert done.returncode == 2 and not list(machine.notes.iterdir()), arguments
        assert done.stderr.startswith("bash launch/multihost.sh HOST:PORT N I"), arguments


def test_local_processes_share_an_address_and_divide_the_gpus(machine):
    machine.gpus(4)
    done = machine.run("launch/multihost.sh", "--local", "2", *EXTRA_FLAGS)
    assert done.returncode == 0, done.stderr
    (first, gpus, alone), (second, other_gpus, _) = map(machine.training, range(2))
    assert (gpus, other_gpus, alone) == ("0,1", "2,3", True)
    assert re.fullmatch(r"--coordinator_address=127\.0\.0\.1:\d+", first[1])
    assert first[1:3] == second[1:3] and first[2] == "--num_processes=2"
    assert first[4:] == second[4:] == list(EXTRA_FLAGS)
    done = machine.run("launch/multihost.sh", "--local", "3", *EXTRA_FLAGS)
    assert done.returncode == 2 and "must divide the 4 GPUs" in done.stderr


def test_local_processes_divide_the_gpus_that_the_user_chose(machine):
    machine.gpus(4)
    options = ("launch/multihost.sh", "--local", "2", *EXTRA_FLAGS)
    done = machine.run(*options, CUDA_VISIBLE_DEVICES="3,GPU-abc")
    assert done.returncode == 0, done.stderr
    assert [machine.training(number)[1] for number in (0, 1)] == ["3", "GPU-abc"]
    done = machine.run(*options, CUDA_VISIBLE_DEVICES="3")
    assert done.returncode == 2 and "must divide the 1 GPUs" in done.stderr


def test_a_failed_installation_is_repeated(machine):
    """Also where the caller does not stop at errors, as in the command for Slurm."""
    failed = machine.run("-c", ". launch/environment.sh; echo done", PIP_CODE="1")
    assert failed.returncode == 1 and "done" not in failed.stdout
    machine.notes.joinpath("pip").unlink()
    again = machine.run("-c", ". launch/environment.sh; echo done")
    assert again.returncode == 0 and "done" in again.stdout and machine.note("pip")


def test_an_interrupted_or_outdated_environment_is_made_anew(machine):
    assert machine.run("-c", ". launch/environment.sh").returncode == 0
    stamp = machine.root / ".venv/installed-project"
    stamp.write_text(stamp.read_text().replace(sys.version, "3.10"))
    assert "installing" in machine.run("-c", ". launch/environment.sh").stdout
    (machine.root / ".venv/bin/python").unlink()
    (machine.root / ".venv/bin/python").symlink_to("/bin/false")
    assert "creating a virtual" in machine.run("-c", ". launch/environment.sh").stdout


def test_local_processes_are_stopped_when_one_fails_and_its_exit_code_is_returned(machine):
    os.mkfifo(machine.notes / "there")
    training = f"exec({FAILS!r} if number == 1 else {UNTIL_STOPPED!r})"
    done = machine.run("launch/multihost.sh", "--local", "2", *EXTRA_FLAGS, TRAINING=training)
    assert done.returncode == 3, done.stderr
    assert machine.note("stopped0") == str(int(signal.SIGTERM))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_local_process(number, machine):
    for name in ("there0", "there1"):
        os.mkfifo(machine.notes / name)
    training = UNTIL_STOPPED.replace('"there"', 'f"there{number}"')
    process = machine.start("launch/multihost.sh", "--local", "2", *EXTRA_FLAGS, TRAINING=training)
    for name in ("there0", "there1"):
        (machine.notes / name).open().close()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert [machine.note(f"stopped{process}") for process in range(2)] == [str(int(number))] * 2


@pytest.fixture
def slurm(machine):
    """Runs the batch script as if `seconds` had passed, with tasks that exit with `code`."""
    machine.program(
        "srun",
        '#!/bin/sh\necho "$JAX_LOCAL_DEVICE_IDS" > "$NOTES/gpus"\n'
        'while [ "$1" != python ]; do echo "$1" >> "$NOTES/srun"; shift; done\n'
        'exec "$@"\n',
    )
    machine.program("scontrol", '#!/bin/sh\necho "$*" > "$NOTES/scontrol"\n')

    def run(code, seconds):
        return machine.run(
            "launch/slurm.sbatch",
            *EXTRA_FLAGS,
            TRAINING=f"sys.exit({code})",
            SECONDS=str(seconds),
            SLURM_SUBMIT_DIR=str(machine.root),
            SLURM_JOB_ID="17",
            SLURM_GPUS_ON_NODE="4",
            SLURM_CPUS_PER_TASK="16",
        )

    return run


@pytest.mark.parametrize(
    ("code", "seconds", "again"),
    [(0, 5, False), (2, 5000, False), (130, 5000, False), (143, 5, True), (1, 5000, False)]
    + [(75, 5, False), (75, 5000, True), (134, 5000, True)],
)
def test_a_slurm_job_is_requeued_if_a_retry_can_help(code, seconds, again, machine, slurm):
    done = slurm(code, seconds)
    assert done.returncode == code, done.stderr
    assert machine.training()[0] == ["--distributed", *EXTRA_FLAGS]
    assert machine.note("gpus") == "0,1,2,3\n" and "--cpus-per-task=16\n" in machine.note("srun")
    assert (machine.notes / "scontrol").exists() == again
    assert not again or machine.note("scontrol") == "requeue 17\n"


def test_a_tpu_worker_gets_the_project_and_trains_after_the_script_ends(machine):
    worker = machine.root.parent / "worker"
    worker.mkdir()
    machine.program(
        "gcloud",
        f"""#!/bin/bash
echo "$*" | head -n 1 >> "$NOTES/gcloud"
export HOME={worker}
cd
for argument; do
  case "$argument" in
    *.tar.gz) [ ! -f "$argument" ] || cp "$argument" . ;;
    --command=*) bash -c "${{argument#--command=}}" ;;
  esac
done
""",
    )
    # uv's installer, and a uv that has a Python.
    machine.program(
        "curl",
        f"""#!/bin/sh
echo 'cd; mkdir -p .local/bin; cd .local/bin'
echo 'printf "#!/bin/sh\\necho {machine.programs}/python3\\n" > uv; chmod +x uv'
""",
    )
    os.mkfifo(machine.notes / "there")
    ran = ("launch/tpu_vm.sh", "my-tpu", "my-zone", *EXTRA_FLAGS)
    done = machine.run(*ran, TRAINING=UNTIL_STOPPED)
    assert done.returncode == 0, done.stderr
    (machine.notes / "there").open().close()
    assert machine.note("pip").endswith("-e .[tpu]")
    assert machine.training()[0] == ["--distributed", *EXTRA_FLAGS]
    assert all(
        "my-tpu" in call and "--zone=my-zone" in call and "--worker=all" in call
        for call in machine.note("gcloud").splitlines()
    )
    assert "train.out" in done.stdout
    # It is not started twice, and the printed command stops it.
    again = machine.run(*ran)
    assert again.returncode == 2 and "already running here" in again.stderr
    (stop,) = re.findall(r"^To stop with a checkpoint: +gcloud (.*)$", done.stdout, re.MULTILINE)
    (machine.notes / "stopped0").unlink(missing_ok=True)
    os.mkfifo(machine.notes / "stopped0")
    machine.run("-c", f"gcloud {stop}")
    assert (machine.notes / "stopped0").read_text() == str(int(signal.SIGTERM))
