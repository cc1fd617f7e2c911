# Procedure A3 of Wightman et al., "ResNet strikes back", 2021: four processes of 512 images each.
_base_ = [
    '../_base_/datasets/imagenet_rsb_a3.py',
    '../_base_/models/efficientnet_b0.py',
    '../_base_/schedules/lamb_lr8e3_wd002_100e.py',
    '../_base_/default_runtime.py',
]
model = dict(loss=dict(type='BinaryCrossEntropy'))
sync_bn = True
