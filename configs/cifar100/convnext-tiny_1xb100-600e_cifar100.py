_base_ = [
    '../_base_/datasets/cifar100_m7.py',
    '../_base_/models/convnext_tiny_cifar.py',
    '../_base_/schedules/adamw_lr1e3_wd005_600e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(type='AutocastOptimWrapper', clip_grad=None)
