"""What a run says of the machine and the code."""

import torch

from openmixup.engine import environment


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert environment.commit() == ''


def test_the_hardware_is_that_of_this_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 8)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'GPU')
    assert environment.hardware() == 'GPU x 1'
