_base_ = [
    '../_base_/datasets/cifar100_224_m7.py',
    '../_base_/models/swin_tiny_224.py',
    '../_base_/schedules/adamw_lr1e3_wd005_600e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=5e-4))
