# The augmentation of DeiT. Its colour jitter is left out: timm drops it beside a RandAugment.
_base_ = './imagenet.py'
data_preprocessor = dict(
    train=[dict(type='RandomFlip'), dict(type='RandomErasing', prob=0.25, value='noise')],
)
train_dataloader = dict(dataset=dict(crop=dict(augment='rand-m9-mstd0.5-inc1')), batch_size=128)
