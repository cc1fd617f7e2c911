import torch

from openmixup.policies import Batch, Context, CutMix, Mixup, RandomChoice
from openmixup.randomness import derive_seed, draw_seed, generator_on, keyed_generator


def numbers(generator):
    return torch.rand(4, generator=generator).tolist()


def test_streams_differ_by_seed_step_and_rank():
    contexts = [Context(seed=s, step=t, rank=r) for s in (0, 1) for t in (0, 1) for r in (0, 1)]
    assert len({tuple(numbers(ctx.rng)) for ctx in contexts}) == len(contexts)


def test_the_shared_stream_is_the_same_on_all_ranks_and_differs_by_step():
    assert numbers(Context(step=3, rank=0).shared_rng) == numbers(Context(step=3, rank=5).shared_rng)
    assert numbers(Context(step=3).shared_rng) != numbers(Context(step=4).shared_rng)
    assert numbers(Context(step=3).shared_rng) != numbers(Context(step=3).rng)


def test_a_stream_is_made_once_and_advances():
    ctx = Context()
    assert ctx.rng is ctx.rng
    assert numbers(ctx.rng) != numbers(ctx.rng)


def test_a_given_generator_replaces_both_streams():
    generator = torch.Generator().manual_seed(0)
    ctx = Context(generator=generator)
    assert ctx.rng is generator
    assert ctx.shared_rng is generator


def test_steps_do_not_depend_on_what_was_drawn_before():
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    policy = RandomChoice([Mixup(per='sample'), CutMix()])

    def picture(step):
        return policy(Batch(images, labels), Context(seed=1, step=step)).views[0].inputs

    straight = [picture(step) for step in range(6)]
    for step in (5, 2, 4):  # as after a resume
        assert torch.equal(picture(step), straight[step])


def test_all_ranks_choose_the_same_member_but_draw_their_own_lam():
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    policy = RandomChoice([Mixup(), CutMix()])
    for step in range(20):
        plans = [policy(Batch(images, labels), Context(step=step, rank=rank)) for rank in range(3)]
        assert len({plan.chosen for plan in plans}) == 1
        if plans[0].chosen is policy.policies[0]:
            assert len({float(plan.views[0].mixture.weight[0, 0]) for plan in plans}) == 3


def test_far_apart_keys_have_their_own_seeds():
    seeds = {derive_seed(0, 'mix', step, rank) for step in range(2000) for rank in range(4)}
    assert len({seed & 0xFFFFFFFF for seed in seeds}) >= 8000 - 1  # torch keeps these 32 bits; one may meet by chance
    assert derive_seed(0, 'mix', 1, 2) == derive_seed(0, 'mix', 1, 2) < 2**63
    before = torch.get_rng_state()
    keyed_generator(1, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_of_a_device_is_seeded_by_one_of_the_cpu():
    before, rng = torch.get_rng_state(), keyed_generator(0)
    first, second = draw_seed(rng), draw_seed(rng)
    assert first != second
    assert first == draw_seed(keyed_generator(0)) < 2**63
    cpu = torch.device('cpu')
    assert numbers(generator_on(cpu, first)) == numbers(generator_on(cpu, first)) != numbers(generator_on(cpu, second))
    nowhere = torch.empty(3, device='meta')
    assert nowhere.normal_(generator=generator_on(nowhere.device, first)).is_meta
    assert torch.equal(torch.get_rng_state(), before)
