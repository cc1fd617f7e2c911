"""AutoMix with DeiT-S on CIFAR-100 at 224 pixels; SAMix has a recipe of its own."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10; of which head is not said'

recipe = 'cifar100/deit-small-patch16-224_1xb100-momentum-200e_cifar100.py'
policies = {
    'automix': dict(
        type='AutoMix', alpha=2.0, stage=5, block=dict(embedding='concat'), mask_loss=dict(schedule='cosine')
    ),
}
seeds = (0,)
published_score = 'best'
published = {
    'automix': (76.24, _PAGE),
}
