"""DeiT-S on ImageNet-1k with the optimizer Adan, eight processes. It has no published figures here."""

recipe = 'imagenet/deit-small-patch16-224_8xb256-adan-{epochs}e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
}
seeds = (0,)
vary = dict(epochs=(150, 300))
