# A quarter of an hour on one core: long enough for learned masks to follow objects, too short to compare accuracies.
_base_ = [
    '../_base_/datasets/cifar10.py',
    '../_base_/models/cifar_resnet8_grey.py',
    '../_base_/schedules/adamw_lr2e3_wd002_3e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(in_channels=3), teacher=dict(decay=0.99, end=0.9999, hold=0.1, bn='batch'))
