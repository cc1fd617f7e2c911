"""Two processes on the CPU, as torchrun starts them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.distributed import init_processes, slurm_environment, wrapper_options
from openmixup.engine.policy_checks import check_last_batch, check_unused
from openmixup.engine.resume import gather_states
from openmixup.engine.runner import Runner
from openmixup.errors import InputError
from openmixup.policies import AutoMix, LUMix, MixPolicy, Mixup, Network, RandomChoice, RecursiveMix, RegMixup, SUMix

ROOT = Path(__file__).parents[2]
TASK = {'SLURM_JOB_ID': '40123', 'SLURM_PROCID': '5', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '1'}
HOOK = """
import hashlib
from pathlib import Path
import torch
from mmengine.hooks import Hook
from openmixup.engine.distributed import learner_of
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Witness(Hook):
    def before_run(self, runner):
        self.lines = []
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        plan = learner_of(runner).last_plan
        weight = plan.views[0].mixture.weight
        self.lines.append(f'{type(plan.chosen).__name__} {weight[0, 0].item()}')
    def after_train(self, runner):
        weights = torch.cat([p.detach().flatten() for p in learner_of(runner).student.parameters()])
        teacher = torch.cat([p.flatten() for p in learner_of(runner).teacher.parameters()])
        top1 = runner.val_loop.run()['top1']
        evaluated = b''.join(b.detach().cpu().numpy().tobytes() for b in learner_of(runner).buffers())
        buffers = hashlib.sha256(evaluated).hexdigest()
        self.lines.append(f'{weights.double().sum().item()} {teacher.double().sum().item()} {top1} {buffers}')
        Path(runner.work_dir, f'rank{runner.rank}.txt').write_text('\\n'.join(self.lines))
"""


LEARNED = """
from pathlib import Path
import torch
from mmengine.hooks import Hook
from torch import nn
from openmixup.engine.distributed import learner_of
from openmixup.engine.resume import gather_states
from openmixup.policies import MixPolicy, Plan, View
from openmixup.registry import HOOKS, POLICIES

@POLICIES.register_module()
class Learned(MixPolicy):
    heads = ('second',)
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.history = {}
    def plan(self, batch, ctx):
        images = batch.images * self.gain
        for kept in self.history.values():
            images = images + kept.to(images).mean()
        # names, types and shapes differ between the processes
        kind = (torch.float32, torch.bfloat16)[ctx.rank]
        self.history = {f'kept{ctx.rank}': batch.images[: 2 + ctx.rank].to(kind)}
        if ctx.rank:
            self.history['few'] = batch.labels[:3] > 4
        mixture = self.unmixed(batch).views[0].mixture
        views = View(images, mixture), View(images.flip(-1), mixture, head='second')
        return Plan(batch, views, self)
    def rank_state(self):
        return dict(self.history)
    def load_rank_state(self, state):
        self.history = state

@HOOKS.register_module()
class Gradients(Hook):
    def before_train(self, runner):
        self.lines = []
        def look(optimizer, args, kwargs):
            trained = [p for p in learner_of(runner).parameters() if p.requires_grad]
            self.lines.append(str(sum(p.grad is None for p in trained)))
        runner.optim_wrapper.optimizer.register_step_pre_hook(look)
    def after_train(self, runner):
        empty = gather_states({})
        lone = gather_states({'x': torch.arange(3)} if runner.rank else {})
        self.lines += [str(empty), str([{k: v.tolist() for k, v in state.items()} for state in lone])]
        Path(runner.work_dir, f'rank{runner.rank}.txt').write_text('\\n'.join(self.lines))
"""


def test_two_processes_agree_on_weights_and_draw_their_own_mixtures(config_file, tmp_path, launch):
    (tmp_path / 'witness.py').write_text(HOOK)
    text = config_file.read_text()
    config_file.write_text(
        text + "custom_imports = dict(imports=['witness'])\ncustom_hooks = [dict(type='Witness', priority='LOWEST')]\n"
    )
    done = launch(config_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = ((tmp_path / 'work' / f'rank{rank}.txt').read_text().splitlines() for rank in (0, 1))
    assert first[-1] == second[-1]  # weights, teacher, accuracy over all samples, statistics that it was measured with
    policies = [[line.split()[0] for line in lines[:-1]] for lines in (first, second)]
    assert policies[0] == policies[1]  # the choice of a policy is shared
    assert len(set(policies[0])) == 2
    drawn = list(zip(first[:-1], second[:-1], strict=True))
    assert sum(a == b for a, b in drawn) <= 2  # lam is not; two boxes on 8x8 pixels may be as large by chance
    summary = json.loads((tmp_path / 'work' / 'summary.json').read_text())
    assert summary['steps'] == 9  # 80 images, 2 processes of batch 16, 3 epochs
    assert read_checkpoint(tmp_path / 'work' / 'epoch_3.pth')['progress']['world_size'] == 2
    again = launch(config_file, tmp_path / 'work', '--resume', processes=1)
    assert 'world_size: 2 -> 1' in again.stderr


def test_slurm_variables_become_those_of_torch():
    found = {'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1', 'MASTER_PORT': '20123'}
    assert slurm_environment({**TASK, 'MASTER_ADDR': 'node7'}) == {**found, 'MASTER_ADDR': 'node7'}
    with pytest.raises(InputError, match='SLURM_PROCID.*srun'):
        slurm_environment({'SLURM_JOB_ID': '1'})


def test_slurm_is_asked_for_the_first_node(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(InputError, match=r'scontrol show hostnames node\[3-4\] names no node .*: set MASTER_ADDR'):
        slurm_environment({**TASK, 'SLURM_JOB_NODELIST': 'node[3-4]'})
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "node[3-4]" ] && echo node3 && echo node4\n')
    scontrol.chmod(0o755)
    assert slurm_environment({**TASK, 'SLURM_JOB_NODELIST': 'node[3-4]'})['MASTER_ADDR'] == 'node3'


def test_a_launcher_without_its_environment_is_refused(monkeypatch):
    for name in ('RANK', *TASK):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match='start with torchrun'):
        init_processes('pytorch')
    with pytest.raises(InputError, match="'SLURM_JOB_ID' is not set; start the command with srun"):
        init_processes('slurm')
    with pytest.raises(InputError, match="launcher='mpi'"):
        init_processes('mpi')


@pytest.mark.parametrize(('script', 'arguments'), [
    ('dist_train.sh', []), ('dist_test.sh', ['config.py']), ('slurm_train.sh', ['part', 'job']),
    ('slurm_submit.sh', ['part', 'job']),
])  # fmt: skip
def test_the_launch_scripts_say_how_they_are_used(script, arguments):
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'usage:' in done.stderr


def test_each_process_continues_its_own_history_and_every_parameter_gets_a_gradient(config_file, tmp_path, launch):
    (tmp_path / 'learned.py').write_text(LEARNED)
    text = config_file.read_text()
    start = text.index("    policy=dict(type='RandomChoice'")
    config_file.write_text(
        text[:start] + "    policy=dict(type='Learned'))" + text[text.index('\ntrain_cfg') :]
        + "custom_imports = dict(imports=['learned'])\ncustom_hooks = [dict(type='Gradients')]\n"
        + "default_hooks['checkpoint'].update(by_epoch=False, keep=20)\n"
        + "optim_wrapper['policy'] = dict(lr=0.01)\nval_dataloader = val_cfg = val_evaluator = None\n"
    )  # fmt: skip
    done = launch(config_file, tmp_path / 'whole')
    assert done.returncode == 0, done.stderr[-6000:]
    lines = [(tmp_path / 'whole' / f'rank{rank}.txt').read_text().splitlines() for rank in (0, 1)]
    assert lines[0] == ['0'] * 9 + ['[{}, {}]', "[{}, {'x': [0, 1, 2]}]"]
    assert lines[1] == ['0'] * 9 + ['[]', '[]']
    saved = read_checkpoint(tmp_path / 'whole' / 'iter_4.pth')
    first, second = saved['rank_states']
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in first.items()} == {
        'kept0': (torch.float32, (2, 1, 8, 8))
    }
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in second.items()} == {
        'kept1': (torch.bfloat16, (3, 1, 8, 8)), 'few': (torch.bool, (3,))
    }  # fmt: skip
    again = launch(config_file, tmp_path / 'rest', '--resume', str(tmp_path / 'whole' / 'iter_4.pth'))
    assert again.returncode == 0, again.stderr[-6000:]
    one, other = (read_checkpoint(tmp_path / name / 'iter_9.pth') for name in ('whole', 'rest'))
    assert one['state_dict'].keys() == other['state_dict'].keys()
    assert all(torch.equal(one['state_dict'][key], other['state_dict'][key]) for key in one['state_dict'])
    for state, restored in zip(one['rank_states'], other['rank_states'], strict=True):
        assert state.keys() == restored.keys()
        assert all(torch.equal(state[name], restored[name]) for name in state)


PAUSING = """
from openmixup.policies import RandomChoice
from openmixup.registry import POLICIES

@POLICIES.register_module()
class Pausing(RandomChoice):
    def plan(self, batch, ctx):
        return self.around(self.policies[ctx.step % 3 == 2](batch, ctx))
"""


def test_half_accumulated_gradients_of_a_head_that_the_update_does_not_use_are_averaged(config_file, tmp_path, launch):
    """RecursiveMix has a head of its own, and takes no part in the last of three micro-batches."""
    (tmp_path / 'pausing.py').write_text(PAUSING)
    text = config_file.read_text()
    start = text.index("    policy=dict(type='RandomChoice'")
    config_file.write_text(
        text[:start] + "    policy=dict(type='Pausing', policies=[dict(type='RecursiveMix'), dict(type='Mixup')]))"
        + text[text.index('\ntrain_cfg') :] + "custom_imports = dict(imports=['pausing'])\n"
        + "find_unused_parameters = True\noptim_wrapper['accumulative_counts'] = 3\n"
        + "default_hooks['checkpoint'].update(by_epoch=False, keep=20)\n"
        + "val_dataloader = val_cfg = val_evaluator = None\n"
    )  # fmt: skip
    done = launch(config_file, tmp_path / 'whole')
    assert done.returncode == 0, done.stderr[-6000:]
    again = launch(config_file, tmp_path / 'rest', '--resume', str(tmp_path / 'whole' / 'iter_5.pth'))
    assert again.returncode == 0, again.stderr[-6000:]
    one, other = (read_checkpoint(tmp_path / name / 'iter_6.pth')['state_dict'] for name in ('whole', 'rest'))
    assert any('policies.0.head' in key for key in one)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_a_run_that_is_over_leaves_no_thread_of_its_process_group(config_file, tmp_path, launch, left_threads):
    config_file.write_text(config_file.read_text() + "custom_imports = dict(imports=['threads_left'])\n")
    trained = launch(config_file, tmp_path / 'run', '--cfg-options', 'train_cfg.max_epochs=1')
    assert trained.returncode == 0, trained.stderr[-6000:]
    assert left_threads() == [0, 0]
    weights = str(tmp_path / 'run' / 'epoch_1.pth')
    tested = launch(config_file, tmp_path / 'test', weights, tool='test')
    assert tested.returncode == 0, tested.stderr[-6000:]
    assert left_threads() == [0, 0]
    wider = ('--cfg-options', 'model.backbone.width=8')
    refused = launch(config_file, tmp_path / 'wide', weights, *wider, tool='test')  # when the group is there
    assert 'does not fit the model' in refused.stderr
    assert set(left_threads()) == {0}  # torchrun may end the second one before it can tell


def test_one_process_gathers_its_own_state():
    state = {'a': torch.ones(2, 3), 'b': torch.tensor(4)}
    (gathered,) = gather_states(state)
    assert gathered.keys() == state.keys()
    assert all(torch.equal(gathered[name], state[name]) for name in state)


def test_a_choice_of_learned_policies_must_be_announced_to_ddp():
    class Gain(MixPolicy):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

    learner = torch.nn.ModuleDict(
        {'student': torch.nn.Linear(2, 2), 'policy': RandomChoice([Gain(), {'type': 'Mixup'}])}
    )
    check_unused(learner, True)
    run = SimpleNamespace(distributed=True, cfg={})
    with pytest.raises(InputError, match='RandomChoice leaves learned .*set find_unused_parameters=True'):
        Runner.wrap_model(run, None, learner)
    for policy in (RandomChoice(), RandomChoice([Gain()]), Gain()):
        check_unused(torch.nn.ModuleDict({'policy': policy}), False)
    around = torch.nn.ModuleDict({'policy': torch.nn.Sequential(RandomChoice([Gain(), Gain()]))})
    with pytest.raises(InputError, match='RandomChoice leaves learned'):
        check_unused(around, False)
    for window in ((0, 5), (2, None)):  # one member, which has no part in the other epochs
        assert RandomChoice([Gain()], epochs=[window]).sometimes_unused
        assert not RandomChoice([Mixup()], epochs=[window]).sometimes_unused
    assert not RandomChoice([Gain()], epochs=[[0, None]]).sometimes_unused


NETWORK = Network(10, 16, ('one', 'two', 'three'), (4, 8, 16), (1, 1, 1), 16)


def wrapped(policy, find_unused_parameters=False):
    """What the check sees of a model in DDP."""
    policy.bind(NETWORK)
    module = torch.nn.ModuleDict({'policy': policy})
    return SimpleNamespace(module=module, find_unused_parameters=find_unused_parameters)


def loader(count, size=4, shuffle=True, **options):
    data = torch.utils.data.TensorDataset(torch.arange(count))
    return build_dataloader(data, size, shuffle=shuffle, world_size=2, **options)


@pytest.mark.parametrize(('policy', 'name'), [
    (AutoMix(), 'AutoMix'), (RegMixup(AutoMix(), join=False), 'AutoMix'), (LUMix(AutoMix()), 'AutoMix'),
    (RandomChoice([RecursiveMix()]), 'RandomChoice'), (RegMixup(RandomChoice([RecursiveMix()])), 'RandomChoice'),
    (SUMix(), 'SUMix'), (RegMixup(SUMix(RegMixup())), 'SUMix'),
])  # fmt: skip
def test_a_last_batch_of_one_is_refused_with_what_it_leaves_untrained(policy, name):
    model = wrapped(policy)
    match = f'{name} has parts .*one sample .9 samples of a process in batches of 4.*drop_last=True or another batch'
    for count in (17, 18):  # the order is lengthened, so that both processes have 9
        with pytest.raises(InputError, match=match):
            check_last_batch(loader(count), model)
    with pytest.raises(InputError, match=match):
        check_last_batch(loader(18, repeats=3), model)
    for last in (loader(16), loader(19), loader(17, drop_last=True), loader(17, infinite=True)):
        assert check_last_batch(last, model) is last
    check_last_batch(loader(17), wrapped(policy, find_unused_parameters=True))
    for one in (loader(8, 1, drop_last=True), loader(8, 1, infinite=True)):
        with pytest.raises(InputError, match='set train_dataloader.batch_size above 1'):
            check_last_batch(one, model)


def test_a_last_batch_of_one_is_fine_where_nothing_waits_for_it():
    """Nothing is learned, a history or a bank is mixed in, or the run is of one process."""
    for policy in (
        Mixup(), RegMixup(), RecursiveMix(), RegMixup(RecursiveMix()), SUMix(gamma=0.0), SUMix(RecursiveMix()),
    ):  # fmt: skip
        check_last_batch(loader(17), wrapped(policy))
    dataset = torch.utils.data.TensorDataset(torch.arange(17))
    dataset.labels = torch.arange(17) % 2
    with_bank = build_dataloader(dataset, 4, shuffle=True, world_size=2, bank={'weights': 'uniform'})
    check_last_batch(with_bank, wrapped(AutoMix()))
    check_last_batch(loader(17), torch.nn.ModuleDict({'policy': AutoMix()}))


def test_the_runner_refuses_a_last_batch_of_one_before_the_first_step():
    run = SimpleNamespace(model=wrapped(AutoMix()), _loader=lambda part, infinite: loader(17))
    with pytest.raises(InputError, match='AutoMix has parts'):
        Runner.build_train_loop(run, {'type': 'EpochLoop', 'max_epochs': 1})


def test_options_of_ddp_may_have_the_form_of_mmengine():
    options = {'find_unused_parameters': True, 'broadcast_buffers': False}
    assert wrapper_options({'type': 'MMDistributedDataParallel', **options}, False) == options
    assert wrapper_options(options, False) == options
    assert wrapper_options(None, True) == {'find_unused_parameters': True}


@pytest.mark.parametrize(('given', 'match'), [
    ({'type': 'MMFullyShardedDataParallel'}, "MMFullyShardedDataParallel'.*: expected 'MMDistributedDataParallel'"),
    ({'type': 'MMDistributedDataParalel'}, "did you mean 'MMDistributedDataParallel'"),
    ({'broadcast_bufers': False}, "did you mean 'broadcast_buffers'"),
    ({'device_ids': [0]}, 'device_ids is set by the runner: leave it out'),
    ('MMDistributedDataParallel', "write {'type': 'MMDistributedDataParallel'}"),
])  # fmt: skip
def test_wrong_options_of_ddp_are_refused_also_in_one_process(given, match):
    run = SimpleNamespace(distributed=False, cfg={})
    with pytest.raises(InputError, match=match):
        Runner.wrap_model(run, given, torch.nn.Linear(2, 2))
