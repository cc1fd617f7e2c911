"""Reading and changing configs."""

from __future__ import annotations

import pytest

from openmixup.engine.config import find_config, load_config
from openmixup.engine.resume import config_hash
from openmixup.errors import InputError

DIGITS = 'digits/resnet8_mixup_1xb50-30e_digits'


def test_a_shipped_config_is_found_by_its_name():
    assert len({find_config(name).resolve() for name in (DIGITS, f'{DIGITS}.py', f'configs/{DIGITS}.py')}) == 1


def test_options_change_values_lists_and_add_accepted_arguments():
    config = load_config(DIGITS, [
        'model.policy.per=sample', 'val_evaluator.0.topk=(1,)', 'optim_wrapper.clip_grad={"max_norm": 5}',
        'train_dataloader.drop_last=true', 'resume=True', 'optim_wrapper.optimizer.nesterov=true',
    ])  # fmt: skip
    assert config.model.policy == {'type': 'Mixup', 'alpha': 1.0, 'per': 'sample'}
    assert config.val_evaluator[0].topk == (1,)
    assert config.optim_wrapper.clip_grad.max_norm == 5
    assert config.train_dataloader.drop_last is True
    assert config.optim_wrapper.optimizer.nesterov is True


def test_the_policy_is_replaced_as_a_whole_before_options():
    config = load_config(DIGITS, ['model.policy.pairing=flip'], policy='CutMix')
    assert config.model.policy == {'type': 'CutMix', 'pairing': 'flip'}


def test_data_sets_the_root_of_all_loaders():
    config = load_config('fashion_mnist/resnet8_1xb100-5e_fashion_mnist', data='/somewhere')
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    assert {config[loader].dataset.root for loader in loaders} == {'/somewhere'}


def test_helper_variables_begin_with_an_underscore(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {str(find_config(DIGITS))!r}\n_epochs = 7\ntrain_cfg = dict(max_epochs=_epochs)\n')
    config = load_config(path)
    assert config.train_cfg.max_epochs == 7
    assert '_epochs' not in config
    path.write_text(path.read_text().replace('_epochs', 'epochs'))
    with pytest.raises(InputError, match="unknown key 'epochs'.*begins with _"):
        load_config(path)


def test_the_hash_sees_what_is_computed_and_not_where():
    plain = config_hash(load_config(DIGITS))
    assert plain == config_hash(load_config(DIGITS, ['work_dir=elsewhere', 'default_hooks.log.interval=3']))
    assert plain != config_hash(load_config(DIGITS, ['model.policy.alpha=0.3']))
