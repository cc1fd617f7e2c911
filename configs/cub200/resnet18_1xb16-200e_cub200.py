_base_ = [
    '../_base_/datasets/cub200_224.py',
    '../_base_/models/resnet18_tv.py',
    '../_base_/schedules/sgd_lr1e3_wd5e4_200e.py',
    '../_base_/default_runtime.py',
]
