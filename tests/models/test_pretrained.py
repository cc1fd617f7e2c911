import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import TimmBackbone, TorchvisionBackbone

VIT = {'img_size': 32, 'patch_size': 8, 'depth': 2, 'embed_dim': 24, 'num_heads': 2}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kind', [TimmBackbone, TorchvisionBackbone])
def test_pretrained_file_round_trip(tmp_path, kind, suffix):
    import timm
    from torchvision import models

    full = timm.create_model('resnet18') if kind is TimmBackbone else models.resnet18()
    path = tmp_path / f'full{suffix}'
    if suffix == '.pth':
        torch.save({'state_dict': full.state_dict()}, path)
    else:
        from safetensors.torch import save_file

        save_file(full.state_dict(), path)
    backbone = kind('resnet18', pretrained=str(path)).eval()
    head = full.eval().fc
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(head(backbone(images)), full(images))


@pytest.mark.parametrize('prefix', ['student.backbone.', 'backbone.', 'module.net.', ''])
def test_pretrained_checkpoint_of_ours(tmp_path, prefix):
    source = TimmBackbone('resnet10t', stem='cifar', in_channels=1)
    state = source.state_dict() if 'net' not in prefix else source.net.state_dict()
    state = {prefix + k: v for k, v in state.items()}
    if 'backbone' in prefix:
        state |= {'student.head.fc.weight': torch.zeros(2, 2), 'policy.block.weight': torch.zeros(2)}
    torch.save({'state_dict': state, 'meta': {'epoch': 3}}, tmp_path / 'epoch_3.pth')
    loaded = TimmBackbone('resnet10t', tmp_path / 'epoch_3.pth', stem='cifar', in_channels=1)
    for key, value in source.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key


def test_pretrained_vit_of_another_size_is_converted_by_timm(tmp_path):
    options = VIT | {'img_size': 64}
    torch.save(TimmBackbone('vit_tiny_patch16_224', options=options).net.state_dict(), tmp_path / 'vit.pth')
    backbone = TimmBackbone('vit_tiny_patch16_224', tmp_path / 'vit.pth', options=VIT)
    assert backbone(torch.randn(2, 3, 32, 32)).shape == (2, 24)


class Foreign:
    pass


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'conv1.weight': torch.zeros(64, 3, 7, 7)}, r'missing bn1.weight, .* and \d+ more'),
        ({'nonsense': torch.zeros(1)}, 'unexpected nonsense'),
        ({'conv1.weight': torch.zeros(64, 1, 7, 7)}, r'conv1.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)'),
        ({'epoch': 3}, 'holds no state_dict'),
        ([1, 2], 'holds no state_dict'),
        ({'state_dict': Foreign()}, 'could run foreign code'),
        (b'damaged', 'could not be read'),
        (None, 'is not a file'),
    ],
)
@pytest.mark.parametrize('kind', [TimmBackbone, TorchvisionBackbone])
def test_pretrained_file_that_does_not_fit(tmp_path, kind, content, message):
    path = tmp_path / 'weights.safetensors' if content == b'damaged' else tmp_path / 'weights.pth'
    if content == b'damaged':
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as error:
        kind('resnet18', pretrained=path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'no weights', bytes(range(256)), b''])
def test_the_remedy_for_a_damaged_file_is_an_intact_one(tmp_path, content):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    with pytest.raises(InputError, match='could not be read as weights.*; give an intact .safetensors') as error:
        TimmBackbone('resnet18', pretrained=path)
    assert 'import_weights' not in str(error.value)  # it finds no tensors there either
    torch.save({'state_dict': Foreign()}, path)
    with pytest.raises(InputError, match='take the tensors out of it with tools/import_weights.py'):
        TimmBackbone('resnet18', pretrained=path)


def test_pretrained_download_that_fails(monkeypatch):
    import timm
    from torchvision import models

    def fail(*arguments, **options):
        raise OSError('no route to host')

    create, get = timm.create_model, models.get_model
    monkeypatch.setattr(
        timm, 'create_model', lambda *a, pretrained=False, **k: (fail if pretrained else create)(*a, **k)
    )
    monkeypatch.setattr(models, 'get_model', lambda *a, weights=None, **k: (fail if weights else get)(*a, **k))
    for kind in (TimmBackbone, TorchvisionBackbone):
        with pytest.raises(InputError, match="weights of 'resnet18' .* give its path as pretrained"):
            kind('resnet18', pretrained=True)
        with pytest.raises(InputError, match='the default stem'):
            kind('resnet18', pretrained=True, stem='cifar')
