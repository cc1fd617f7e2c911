import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import LinearHead
from openmixup.registry import MODELS


def test_shape_and_initialisation():
    torch.manual_seed(0)
    head = MODELS.build({'type': 'LinearHead', 'in_features': 512, 'num_classes': 100})
    assert head(torch.randn(3, 512)).shape == (3, 100)
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.fc.weight.mean().item() == pytest.approx(0, abs=2e-4)
    assert not head.fc.bias.any()


def test_dropout_acts_in_training_only():
    head = LinearHead(64, 4, dropout=0.5)
    x = torch.ones(1, 64)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head.fc(x))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'num_classes': 0}, 'at least 1'),
        ({'in_features': 0}, 'at least 1'),
        ({'dropout': 1.0}, r'dropout=1.0 .* \[0, 1\)'),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        LinearHead(**{'in_features': 8, 'num_classes': 2, **arguments})
