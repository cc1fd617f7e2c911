"""A Slurm of one node on this machine: controller, node and authentication daemons, started and ended by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = ('slurmctld', 'slurmd', 'munged', 'srun', 'sbatch', 'scontrol', 'sinfo')
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
KillWait=60
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=part Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('127.0.0.1', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope='session')
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment in which ``srun`` and ``sbatch`` reach the cluster."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f'needs root and {", ".join(missing) or "its rights"}: apt-get install slurm-wlm munge')
    base = tmp_path_factory.mktemp('slurm')
    for name in ('munge', 'state', 'spool'):
        (base / name).mkdir()
    os.chmod(base, 0o755)
    for folder in base.parents:
        if folder.stat().st_mode & 0o055 != 0o055 and str(folder).startswith('/tmp/'):
            os.chmod(folder, 0o755)
    key = base / 'munge' / 'key'
    key.write_bytes(os.urandom(128))
    os.chmod(key, 0o400)
    ctld, slurmd = free_ports(2)
    host = socket.gethostname().split('.')[0]
    conf = base / 'slurm.conf'
    conf.write_text(CONF.format(host=host, ctld=ctld, slurmd=slurmd, base=base, cpus=os.cpu_count()))
    environ = {**os.environ, 'SLURM_CONF': str(conf), 'OMP_NUM_THREADS': '1'}
    environ['PATH'] = f'{Path(sys.executable).parent}:{environ["PATH"]}'
    munge = ['munged', '--foreground', '--force', f'--key-file={key}', f'--socket={base}/munge/socket']
    munge += [f'--pid-file={base}/munge/pid', f'--log-file={base}/munge/log', f'--seed-file={base}/munge/seed']
    commands = [munge, ['slurmctld', '-D', '-c'], ['slurmd', '-D', '-c', '-N', host]]
    daemons = []
    try:
        for command in commands:
            daemons.append(subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        end = time.monotonic() + 60
        while (
            'idle'
            not in subprocess.run(
                ['sinfo', '-h', '-o', '%t'], env=environ, capture_output=True, text=True, check=False
            ).stdout
        ):
            if time.monotonic() > end:
                logs = ''.join(path.read_text()[-1500:] for path in base.rglob('*log'))
                pytest.fail(f'the node does not become idle: {logs}')
            time.sleep(0.5)
        yield environ
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
