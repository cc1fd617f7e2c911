# As cifar100_224, with a weaker RandAugment and without erasing.
_base_ = './cifar100_224.py'
data_preprocessor = dict(
    train=[
        dict(type='RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation='bicubic'),
        dict(type='RandomFlip'),
        dict(
            type='RandAugment', num_ops=2, magnitude=7, magnitude_std=0.5, operations='fixmatch', fill=(129, 124, 112)
        ),
    ],
)
