"""DeiT-T on CIFAR-100 enlarged to 224 pixels, 200 epochs, as DeiT-S. No figures are published."""

recipe = 'cifar100/deit-tiny-patch16-224_1xb100-200e_cifar100.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.8),
    'cutmix': dict(type='CutMix', alpha=2.0),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'randomchoice-transmix': dict(
        type='RandomChoice',
        policies=[dict(type='Mixup', alpha=0.8), dict(type='TransMix', policy=dict(type='CutMix', alpha=1.0))],
        probs=[0.2, 0.8],
    ),
}
seeds = (0,)
