"""Your own images in class folders below data/; the alphas are those for 224 pixels."""

recipe = 'folder/resnet18_1xb64-100e_folder.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=0.2),
    cutmix=dict(type='CutMix', alpha=1.0),
)
