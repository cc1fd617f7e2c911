_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/resnext50_cifar.py',
    '../_base_/schedules/sgd_lr01_wd1e4_800e.py',
    '../_base_/default_runtime.py',
]
