import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, RandomChoice
from openmixup.policies.static.cmo import CMO
from openmixup.policies.wrap.regmixup import RegMixup

IMAGES = torch.randn(6, 3, 16, 12, generator=torch.Generator().manual_seed(0))
BANK = torch.randn(6, 3, 16, 12, generator=torch.Generator().manual_seed(1)) + 10
LABELS, MINOR = torch.tensor([0, 0, 0, 1, 0, 0]), torch.tensor([3, 4, 3, 2, 4, 4])


def batch(count=6, bank=6):
    return Batch(IMAGES[:count], LABELS[:count], Batch(BANK[:bank], MINOR[:bank]))


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('seed', range(6))
def test_pixels_and_labels_of_the_bank(per, seed):
    view = CMO(per=per)(batch(), Context(seed=seed)).views[0]
    assert torch.equal(view.mixture.index, torch.stack([torch.arange(6), 6 + torch.arange(6)], 1))
    own, foreign = (view.inputs == IMAGES).all(1), (view.inputs == BANK).all(1)
    assert torch.equal(own, ~foreign)  # each pixel is of one of the two, with all its channels
    torch.testing.assert_close(view.mixture.weight[:, 0], own.float().mean((1, 2)))
    torch.testing.assert_close(view.masks[:, 1], foreign.float())
    target = view.mixture.soft(batch().source_labels, 5)
    torch.testing.assert_close(target.gather(1, MINOR[:, None])[:, 0], view.mixture.weight[:, 1])
    torch.testing.assert_close(target.sum(1), torch.ones(6))
    assert bool((IMAGES < 9).all())  # the batch itself was not written to


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_it_is_cutmix_with_an_independent_partner(per):
    lam = torch.full((6 if per == 'sample' else 1,), 0.6, dtype=torch.float64)
    ours, theirs = (
        policy(per=per).view(batch(), 6 + torch.arange(6), lam, Context(seed=4)) for policy in (CMO, CutMix)
    )
    assert torch.equal(ours.inputs, theirs.inputs)
    assert torch.equal(ours.mixture.weight, theirs.mixture.weight)


@pytest.mark.parametrize(('count', 'bank', 'partners'), [
    (4, 6, [4, 5, 6, 7]), (6, 4, [6, 7, 8, 9, 6, 7]), (1, 6, [1]), (6, 6, [6, 7, 8, 9, 10, 11]),
])  # fmt: skip
def test_banks_of_another_size(count, bank, partners):
    view = CMO()(batch(count, bank), Context(seed=1)).views[0]
    assert view.mixture.index[:, 1].tolist() == partners
    source = batch(count, bank).source_images[view.mixture.index]
    torch.testing.assert_close((view.masks[:, :, None] * source).sum(1), view.inputs)


def test_label_mass_of_a_long_tailed_set():
    """E[lam] n_c / N + (1 - E[lam]) / C, with E[lam] = 0.701 at 32 pixels, 0.183 its deviation."""
    policy, generator, calls, size = CMO(), torch.Generator().manual_seed(0), 600, 40
    ctx = Context(generator=generator)
    many = torch.tensor([0] * 30 + [1] * 8 + [2] * 2)
    images = torch.zeros(size, 1, 32, 32)
    mass = torch.zeros(3)
    for _ in range(calls):
        minor = torch.randint(3, (size,), generator=generator)  # what the class-weighted sampler gives
        plan = policy(Batch(images, many, Batch(images, minor)), ctx)
        mass += plan.views[0].mixture.soft(plan.batch.source_labels, 3).mean(0)
    expected = 0.701 * torch.tensor([0.75, 0.2, 0.05]) + 0.299 / 3
    assert (mass / calls).tolist() == pytest.approx(expected.tolist(), abs=5 * 0.183 / calls**0.5 * 0.75)


def test_window():
    policy = CMO(window=(4, 7))
    assert policy.rate == 0
    assert CMO().rate == 1
    for epoch, mixed in ((0, False), (3, False), (4, True), (6, True), (7, False), (90, False)):
        plan = policy(batch(), Context(epoch=epoch, seed=2))
        assert (plan.views[0].inputs is not IMAGES and plan.views[0].mixture.index.shape[1] == 2) == mixed
        if not mixed:
            assert torch.equal(plan.views[0].inputs, IMAGES)
    assert CMO(window=(4, None))(batch(), Context(epoch=900)).views[0].mixture.index.shape[1] == 2


def test_without_a_second_loader_it_says_so():
    with pytest.raises(InputError, match='the batch has no bank: add bank='):
        CMO()(Batch(IMAGES, LABELS), Context())
    with pytest.raises(InputError, match='needs bank of a network'):
        CMO().mix(IMAGES, LABELS)
    assert torch.equal(CMO().eval()(Batch(IMAGES, LABELS), Context()).views[0].inputs, IMAGES)


def test_nothing_is_read_from_the_device():
    for per in ('batch', 'sample'):
        meta = Batch(IMAGES.to('meta'), LABELS.to('meta'), Batch(BANK.to('meta'), MINOR.to('meta')))
        view = CMO(per=per)(meta, Context()).views[0]
        assert view.inputs.is_meta
        assert view.mixture.weight.is_meta
        assert view.masks.is_meta


@pytest.mark.parametrize('policy', [
    CMO(), RegMixup(CMO()), RandomChoice([{'type': 'CMO', 'window': (0, 9)}, {'type': 'Vanilla'}]),
])  # fmt: skip
def test_trains_in_the_learner(policy):
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 5}, policy
    ).train()
    counted = 0
    for step in range(8):
        model.context = Context(step=step)
        losses = model(IMAGES, LABELS, BANK, MINOR, mode='loss')
        assert bool(losses['loss_main'].isfinite())
        plan = model.last_plan
        counted += bool((plan.views[0].mixture.soft(plan.batch.source_labels, 5)[:, 2:] > 0).any())
    assert counted > 0
    with pytest.raises(InputError, match='second loader'):
        model(IMAGES, LABELS, mode='loss')


@pytest.mark.parametrize('window', [(3, 3), (-1, 4), (1,), 5, (0.5, 2), (2, 1.5), (True, 4), (0, True)])
def test_wrong_windows_are_refused(window):
    with pytest.raises(InputError, match=r'expected \(first, end\)'):
        CMO(window=window)
