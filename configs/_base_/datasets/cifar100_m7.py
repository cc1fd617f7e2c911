# CIFAR-100 at 32 pixels with RandAugment.
_base_ = './cifar100.py'
data_preprocessor = dict(
    train=[
        dict(type='RandomCrop', size=32, padding=4, mode='reflect'),
        dict(type='RandomFlip'),
        dict(
            type='RandAugment', num_ops=2, magnitude=7, magnitude_std=0.5, operations='fixmatch', fill=(129, 124, 112)
        ),
    ],
)
