_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/models/wrn28_8.py',
    '../_base_/schedules/sgd_lr003_wd1e3_400e.py',
    '../_base_/default_runtime.py',
]
