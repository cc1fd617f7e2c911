"""The loss of mixed regression targets, and the learner that trains on them."""

import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.models.losses import RegressionLoss
from openmixup.policies import Mixture
from openmixup.registry import MODELS


@pytest.mark.parametrize('kind', ['l1', 'mse', 'smooth_l1'])
def test_the_targets_are_mixed_as_the_images(kind):
    labels = torch.tensor([[0.0, 1.0], [10.0, 3.0], [4.0, -2.0]])
    mixture = Mixture(torch.tensor([[0, 1], [2, 0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    logits = torch.tensor([[7.0, 0.0], [0.0, 0.0]], requires_grad=True)
    found = RegressionLoss(kind)(logits, labels, mixture)
    mixed = torch.tensor([[7.5, 2.5], [2.0, -0.5]])
    expected = {'l1': F.l1_loss, 'mse': F.mse_loss, 'smooth_l1': F.smooth_l1_loss}[kind](
        logits, mixed, reduction='none'
    )  # fmt: skip
    assert torch.allclose(found, expected.mean(1))
    assert found.requires_grad
    assert found.shape == (2,)


def test_one_target_may_be_a_vector():
    mixture = Mixture(torch.tensor([[0], [1]]), torch.ones(2, 1))
    assert RegressionLoss()(torch.zeros(2, 1), torch.tensor([3.0, -4.0]), mixture).tolist() == [3, 4]
    half = RegressionLoss()(torch.zeros(2, 1, dtype=torch.bfloat16), torch.tensor([3.0, -4.0]), mixture)
    assert half.dtype == torch.float32


def test_refusals():
    mixture = Mixture(torch.tensor([[0], [1]]), torch.ones(2, 1))
    with pytest.raises(InputError, match="did you mean 'smooth_l1'"):
        RegressionLoss('smoothl1')
    with pytest.raises(InputError, match='as many floating targets'):
        RegressionLoss()(torch.zeros(2, 3), torch.zeros(2), mixture)
    with pytest.raises(InputError, match='as many floating targets'):
        RegressionLoss()(torch.zeros(2, 1), torch.zeros(2).long(), mixture)


def test_the_learner_mixes_values_and_says_no_agreement():
    torch.manual_seed(0)
    learner = MODELS.build(
        {
            'type': 'MixClassifier',
            'backbone': {'type': 'CifarResNet', 'depth': 8, 'width': 4},
            'head': {'type': 'LinearHead', 'num_classes': 1},
            'policy': {'type': 'CMixup', 'sigma': 0.2},
            'loss': {'type': 'RegressionLoss', 'kind': 'mse'},
            'target': 'regression',
        }
    ).train()
    images, labels = torch.randn(6, 3, 8, 8), torch.rand(6)
    terms = learner(images, labels, mode='loss')
    assert set(terms) == {'loss_main'}
    view = learner.last_plan.views[0]
    with torch.no_grad():
        values = learner.student(view.inputs).logits[:, 0]
    assert torch.allclose(terms['loss_main'], F.mse_loss(values, view.mixture.of(labels)), atol=1e-6)
    assert learner.predict(images)['student'].shape == (6, 1)
