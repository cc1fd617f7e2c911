# CIFAR-100 for networks made for 224 pixels: enlarged on the device. Strength of the erasing from memory: the source
# names it without numbers, these are timm's.
_base_ = './cifar100.py'
data_preprocessor = dict(
    train=[
        dict(type='RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation='bicubic'),
        dict(type='RandomFlip'),
        dict(
            type='RandAugment', num_ops=2, magnitude=9, magnitude_std=0.5, operations='fixmatch', fill=(129, 124, 112)
        ),
        dict(type='RandomErasing', prob=0.25, value='noise'),
    ],
    test=[dict(type='Resize', size=224, interpolation='bicubic')],
)
