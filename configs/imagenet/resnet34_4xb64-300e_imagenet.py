# Four processes of 64 images each.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/models/resnet34.py',
    '../_base_/schedules/sgd_lr01_wd1e4_300e.py',
    '../_base_/default_runtime.py',
]
