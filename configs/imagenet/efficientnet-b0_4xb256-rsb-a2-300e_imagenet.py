# Procedure A2 of Wightman et al., "ResNet strikes back", 2021: four processes of 256 images each, two steps an update.
_base_ = [
    '../_base_/datasets/imagenet_rsb_a2.py',
    '../_base_/models/efficientnet_b0.py',
    '../_base_/schedules/lamb_lr5e3_wd002_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(drop_path=0.05), loss=dict(type='BinaryCrossEntropy'))
optim_wrapper = dict(accumulative_counts=2)
sync_bn = True
