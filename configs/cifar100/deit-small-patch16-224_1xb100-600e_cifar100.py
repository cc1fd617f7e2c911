_base_ = [
    '../_base_/datasets/cifar100_224.py',
    '../_base_/models/deit_small_224.py',
    '../_base_/schedules/adamw_lr1e3_wd005_600e.py',
    '../_base_/default_runtime.py',
]
