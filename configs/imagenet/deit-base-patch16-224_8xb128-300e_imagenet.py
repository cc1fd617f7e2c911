# Eight processes of 128 images each. Without repeated augmentation.
_base_ = [
    '../_base_/datasets/imagenet_deit.py',
    '../_base_/models/deit_base_224.py',
    '../_base_/schedules/adamw_lr1e3_wd005_300e.py',
    '../_base_/default_runtime.py',
]
